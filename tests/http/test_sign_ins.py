"""Sign-ins: a refresh token works once, sign-out ends it, and nothing else does."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from tests.support.doors import ask as at_the_door
from videos import ledger
from videos.api.tokens import AccessToken, RefreshToken
from videos.models import SignIn

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

PASSWORD = "a secret of length"
QUICK = ["django.contrib.auth.hashers.MD5PasswordHasher", "django.contrib.auth.hashers.PBKDF2PasswordHasher"]


@pytest.fixture
def user(settings: Any) -> User:
    settings.PASSWORD_HASHERS = QUICK  # the others take their time
    return User.objects.create_user("user", password=PASSWORD)


def post(path: str, **body: Any) -> Any:
    return Client(raise_request_exception=False).post(f"/api/token/{path}", body, content_type="application/json")


def sign_in() -> str:
    refresh: str = post("", username="user", password=PASSWORD).json()["refresh"]
    return refresh


def test_a_refresh_token_works_once(user: User) -> None:
    first = sign_in()
    second = post("refresh/", refresh=first).json()["refresh"]
    third = post("refresh/", refresh=second)
    assert (third.status_code, set(third.json())) == (200, {"access", "refresh"})


def test_a_token_that_is_used_again_ends_its_sign_in_and_no_other(user: User, caplog: pytest.LogCaptureFixture) -> None:
    stolen, other = sign_in(), sign_in()
    newest = post("refresh/", refresh=stolen).json()["refresh"]
    assert post("refresh/", refresh=stolen).status_code == 401
    assert f"user {user.pk} was used again" in caplog.text
    assert post("refresh/", refresh=newest).status_code == 401
    assert post("refresh/", refresh=other).status_code == 200


def test_of_many_who_use_a_token_at_once_one_is_served(user: User) -> None:
    refresh = sign_in()

    def use(_: int) -> int:
        try:
            return int(post("refresh/", refresh=refresh).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(pool.map(use, range(8)))
    assert statuses == [200, *[401] * 7]


def test_signing_out_ends_the_refresh_token_and_repeats_change_nothing(user: User) -> None:
    refresh, other = sign_in(), sign_in()
    assert [post("revoke/", refresh=refresh).status_code for _ in range(2)] == [204, 204]
    assert [post("refresh/", refresh=token).status_code for token in (refresh, other)] == [401, 200]
    assert post("revoke/", refresh=str(AccessToken.of(user))).status_code == 401


@pytest.mark.usefixtures("redis_away")
def test_tokens_need_no_redis(user: User) -> None:
    refresh = post("refresh/", refresh=sign_in()).json()["refresh"]
    assert post("revoke/", refresh=refresh).status_code == 204


def test_no_cache_keeps_a_token(user: User) -> None:
    answers = [post("", username="user", password=PASSWORD), post("", username="user", password="wrong")]
    answers += [post("refresh/", refresh=answers[0].json()["refresh"]), post("refresh/", refresh="x"), post("revoke/")]
    assert [answer.status_code for answer in answers] == [200, 401, 200, 401, 400]
    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}


def test_a_stronger_hash_of_the_same_password_signs_nobody_out(user: User, settings: Any) -> None:
    refresh, weak = sign_in(), User.objects.get().password
    settings.PASSWORD_HASHERS = QUICK[::-1]
    other = sign_in()
    assert User.objects.get().password != weak
    assert [post("refresh/", refresh=token).status_code for token in (refresh, other)] == [200, 200]


@pytest.mark.parametrize("fields", [None, ["password"]])
def test_a_new_password_ends_all_sign_ins(user: User, fields: list[str] | None) -> None:
    refresh = sign_in()
    user.set_password("another secret of length")
    user.save(update_fields=fields)
    assert post("refresh/", refresh=refresh).status_code == 401


FAMILIES: list[Any] = [None, 0, -1, 2**63, 10**300, 1.5, True, "1", [], {}, [1]]


@pytest.mark.parametrize("claims", [*({"family": value} for value in FAMILIES), {"jti": None}, {"jti": [1]}], ids=str)
def test_a_refresh_token_that_says_nonsense_is_refused(user: User, claims: dict[str, Any]) -> None:
    token = RefreshToken.of(user)
    token.claims.update(claims)
    assert [post(path, refresh=str(token)).status_code for path in ("refresh/", "revoke/")] == [401, 401]


def test_a_token_of_another_user_ends_no_sign_in(user: User) -> None:
    refresh, other = sign_in(), User.objects.create(username="other")
    forged = RefreshToken.of(other)
    forged.claims["family"] = SignIn.objects.get(user=user).pk
    assert post("refresh/", refresh=str(forged)).status_code == 401
    assert post("refresh/", refresh=refresh).status_code == 200


def test_a_user_who_is_deleted_and_a_sign_in_that_ended_leave_no_row(user: User) -> None:
    sign_in()
    ledger.prune(now=datetime.now(UTC))
    assert SignIn.objects.count() == 1
    ledger.prune(now=datetime.now(UTC) + timedelta(days=15))
    assert SignIn.objects.count() == 0
    sign_in()
    user.delete()
    assert SignIn.objects.count() == 0


OWN_KEY = "a key for tokens alone, as long as one has to be"


def test_tokens_have_a_key_of_their_own(user: User, settings: Any) -> None:
    refresh, older = sign_in(), str(AccessToken.of(user))
    settings.VIDEOS_JWT_SIGNING_KEY = OWN_KEY
    token = str(AccessToken.of(user))
    assert jwt.decode(token, OWN_KEY, algorithms=["HS256"])["user_id"] == str(user.pk)

    def status(token: str) -> int:
        return at_the_door("PUT", "/api/videos/1/like/", HTTP_AUTHORIZATION=f"Bearer {token}").status

    assert [status(token), status(older)] == [404, 401]  # no such video
    settings.VIDEOS_JWT_SIGNING_KEY_FALLBACKS = [settings.SECRET_KEY]
    assert [status(token), status(older)] == [404, 404]
    assert post("refresh/", refresh=refresh).status_code == 200


def test_refreshing_puts_the_end_of_a_sign_in_off(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    refresh, now = sign_in(), time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10 * 86_400)
    newest = post("refresh/", refresh=refresh).json()["refresh"]
    monkeypatch.setattr(time, "time", lambda: now + 20 * 86_400)
    assert post("refresh/", refresh=newest).status_code == 200
