"""Tokens: what they say, how long, and what broken ones are answered with.

Over 250 lines: all tests sign tokens, and send them, with the same few helpers.
"""

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test import Client

from tests.support.factories import make_video
from tests.support.faults import failing
from videos.api import authentication
from videos.api.tokens import LEEWAY_SECONDS, AccessToken, RefreshToken, Token

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

Sign = Callable[..., str]


@pytest.fixture
def user(settings: Any) -> User:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the others take their time
    return User.objects.create_user("user", password="a secret of length")


@pytest.fixture
def sign(settings: Any, user: User) -> Sign:
    """`sign(claim=value)`: an access token of the user with other claims; None leaves one out."""

    def make(key: str = settings.SECRET_KEY, algorithm: str = "HS256", **claims: Any) -> str:
        own = {"token_type": "access", "exp": int(time.time()) + 60, "jti": "a", "user_id": str(user.pk)}
        payload = {name: value for name, value in {**own, **claims}.items() if value is not None}
        return jwt.encode(payload, key, algorithm=algorithm)

    return make


def ask(token: str) -> Any:
    return Client(raise_request_exception=False).get("/api/me/likes/", headers={"authorization": f"Bearer {token}"})


def post(path: str, body: Any, **headers: str) -> Any:
    client = Client(raise_request_exception=False, headers=headers)
    return client.post(path, body, content_type="application/json")


def refreshed(refresh: Any) -> Any:
    return post("/api/token/refresh/", {"refresh": refresh})


def claims_of(encoded: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(encoded, options={"verify_signature": False})
    return claims


@pytest.mark.parametrize("password", ["a secret of length", " a secret of length "])
def test_signing_in_gives_a_token_that_is_taken(user: User, password: str) -> None:
    user.set_password(password)
    user.save()
    tokens = post("/api/token/", {"username": "user", "password": password}).json()
    assert set(tokens) == {"access", "refresh"}
    assert ask(tokens["access"]).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"username": "user", "password": "wrong"}, 401),
        ({"username": "nobody", "password": "a secret of length"}, 401),
        ({"username": "user\u0131", "password": "x" * 5000}, 401),
        *(({}, 400), ([], 400), ({"username": "user"}, 400)),
        ({"username": ["user"], "password": {}}, 400),
        ({"username": "a\0", "password": "b"}, 400),
    ],
)
def test_wrong_and_malformed_sign_ins_are_refused(user: User, body: Any, status: int) -> None:
    assert post("/api/token/", body).status_code == status


def test_inactive_users_cannot_sign_in(user: User) -> None:
    User.objects.update(is_active=False)
    assert post("/api/token/", {"username": "user", "password": "a secret of length"}).status_code == 401


NO_USERS: list[Any] = [
    *("", "abc", "0", "-1", "1.5", "²", "1" * 20, str(2**63), "9" * 5000),
    *(0, -1, 2**63, 10**300, True, 1.5, [], ["1"], {"a": 1}, None),
]
NO_ENDS: list[Any] = [None, 1, "soon", [], {}, -(10**20)]
WRONG_TYPES: list[Any] = [[], {"a": 1}, [[]], {}]
NO_ACCESS: list[Any] = [None, "refresh", 1, []]


@pytest.mark.parametrize(
    "claims",
    [
        *({"user_id": value} for value in NO_USERS),
        *({"exp": value} for value in NO_ENDS),
        *({"token_type": value} for value in NO_ACCESS),
        {"jti": None},
        *({claim: value} for claim in ("jti", "iat", "nbf", "sub") for value in WRONG_TYPES),
        *({"iat": "\ud800"}, {"nbf": "\ud800"}),
        {"nbf": 9_000_000_000},
        {"key": "another key of some length, long enough to sign with"},
        {"algorithm": "HS512"},
    ],
    ids=lambda claims: str(claims)[:40],
)
def test_a_token_that_says_nonsense_is_refused(sign: Sign, claims: dict[str, Any]) -> None:
    response = ask(sign(**claims))
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, 'Bearer realm="api"')


def part(value: bytes) -> str:
    return urlsafe_b64encode(value).decode().rstrip("=")


@pytest.mark.parametrize(
    "token",
    [
        *("abc", "a.b.c", "..", "a b", "é.ü.ß", "\udcff", "." * 5000),
        f"{part(b'[' * 9000)}.{part(b'{}')}.x",
        f"{part(json.dumps({'alg': 'none'}).encode())}.{part(json.dumps({'user_id': '1', 'exp': 9e9}).encode())}.",
        f"{part(b'[]')}.{part(b'[]')}.x",
        f"{part(b'null')}.{part(b'null')}.x",
        f"{part(json.dumps({'alg': 'HS256', 'crit': 5, 'kid': []}).encode())}.{part(b'{}')}.x",
    ],
    ids=lambda token: token[:20].encode("ascii", "replace").decode(),
)
def test_what_is_no_token_is_refused(token: str) -> None:
    response = ask(token)
    assert response.status_code == 401
    assert "detail" in response.json()


def test_a_token_is_refused_once_it_has_ended(sign: Sign, monkeypatch: pytest.MonkeyPatch) -> None:
    token = sign()
    assert ask(token).status_code == 200
    now = time.time()
    for late, status in ((55 + LEEWAY_SECONDS, 200), (61 + LEEWAY_SECONDS, 401)):
        monkeypatch.setattr(time, "time", lambda late=late: now + late)
        assert ask(token).status_code == status


@pytest.mark.parametrize(("seconds", "status"), [(LEEWAY_SECONDS - 5, 200), (LEEWAY_SECONDS + 5, 401)])
@pytest.mark.parametrize(("claim", "sign_of_it"), [("exp", -1), ("iat", 1), ("nbf", 1)])
def test_clocks_of_two_servers_may_differ_by_the_leeway(
    sign: Sign, claim: str, sign_of_it: int, seconds: int, status: int
) -> None:
    assert ask(sign(**{claim: int(time.time()) + sign_of_it * seconds})).status_code == status


NEW_KEY = "a new key, long enough to sign with, and unlike the one before"


def test_tokens_of_an_older_key_stay_valid(sign: Sign, user: User, settings: Any) -> None:
    old_key, refresh = settings.SECRET_KEY, str(RefreshToken.of(user))
    remembered, fresh = sign(), sign(jti="b")
    assert ask(remembered).status_code == 200
    settings.SECRET_KEY = NEW_KEY
    settings.SECRET_KEY_FALLBACKS = ["a key older still, of which no token is left", old_key]
    assert [ask(token).status_code for token in (remembered, fresh)] == [200, 200]
    renewed = refreshed(refresh).json()["access"]
    assert jwt.decode(renewed, NEW_KEY, algorithms=["HS256"])["user_id"] == str(user.pk)
    settings.SECRET_KEY_FALLBACKS = []
    assert [ask(token).status_code for token in (remembered, fresh, renewed)] == [401, 401, 200]
    assert refreshed(refresh).status_code == 401


def test_another_kind_of_authorization_is_none_of_ours() -> None:
    response = Client().get("/api/videos/", headers={"authorization": "Basic dXNlcjpwYXNz"})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        lambda: User.objects.all().delete(),
        lambda: User.objects.update(is_active=False),
        lambda: User.objects.update(password=make_password("another secret of length")),
    ],
    ids=["left", "inactive", "another password"],
)
def test_a_user_who_left_or_changed_the_password_cannot_refresh(user: User, change: Callable[[], Any]) -> None:
    refresh = str(RefreshToken.of(user))
    change()
    assert refreshed(refresh).status_code == 401


def test_a_refresh_token_ends(user: User) -> None:
    token = RefreshToken.of(user)
    token.claims["exp"] = int(time.time()) - LEEWAY_SECONDS - 1
    response = refreshed(str(token))
    assert (response.status_code, response.json()) == (401, {"detail": "Token is expired", "code": "token_not_valid"})


def test_tokens_are_valid_as_long_as_the_settings_say(user: User, settings: Any) -> None:
    settings.VIDEOS_TOKEN_MINUTES, settings.VIDEOS_REFRESH_TOKEN_DAYS = 0.5, 2
    refresh = RefreshToken.of(user)
    tokens: list[Token] = [AccessToken.of(user), refresh]
    lasting = [token.claims["exp"] - token.claims["iat"] for token in tokens]
    assert lasting == [30, 172_800]


def test_a_token_is_not_taken_for_the_other_kind(user: User) -> None:
    assert refreshed(str(AccessToken.of(user))).status_code == 401
    assert ask(str(RefreshToken.of(user))).status_code == 401


@pytest.mark.parametrize(
    "refresh",
    ["", "abc", 17, None, [], "\ud800", f"{part(b'[' * 9000)}.e30.x"],
    ids=lambda value: str(value)[:9].encode("ascii", "replace").decode(),
)
def test_what_is_no_refresh_token_is_refused(refresh: Any) -> None:
    assert refreshed(refresh).status_code in {400, 401}


def test_a_session_likes_with_its_csrf_token_only(user: User) -> None:
    video = make_video(user)
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    path = f"/api/videos/{video.pk}/like/"
    assert client.put(path).status_code == 403
    client.get("/")
    csrf = client.cookies["csrftoken"].value
    response = client.put(path, headers={"x-csrftoken": csrf})
    assert (response.status_code, response.json()["liked"]) == (200, True)


def test_a_session_that_cannot_be_read_is_an_outage(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(user)
    monkeypatch.setattr(connection, "cursor", failing(OperationalError("gone")))
    response = client.get("/api/videos/")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")


def test_an_anonymous_caller_with_an_old_session_cookie_is_anonymous(user: User) -> None:
    client = Client()
    client.cookies["sessionid"] = "gone"
    assert client.get("/api/videos/").status_code == 200
    assert client.get("/api/me/likes/").status_code == 401


def test_long_headers_are_not_remembered(user: User) -> None:
    token = AccessToken.of(user)
    headers = f"Bearer {' ' * 5000}{token}", f"Basic {'x' * 5000}", f"Bearer {token}"
    remembered = authentication._verified_user.cache_info
    (padded, size), other, plain = [(authentication.user_of(header), remembered().currsize) for header in headers]
    assert (padded is None, other, plain[1]) == (False, (None, size), size + 1)
