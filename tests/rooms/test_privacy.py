"""Deleting a user removes each key and row that names the user; an export shows them before."""

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from django.apps import apps
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from tests.support.doors import ask, bearer, like_path, view_path
from tests.support.factories import make_user, make_videos
from videos import ledger
from videos.api.tokens import RefreshToken
from videos.flush import run_flush, workers
from videos.models import ForgottenUser

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def person(settings: Any) -> User:
    """Somebody with an id that is in no other number, who has done all there is to do."""
    settings.VIDEOS_REPLAY_SECONDS = 0
    person = make_user("person", id=8_675_309)
    liked, unliked, viewed, other = make_videos(4)
    make_videos(1, person)
    RefreshToken.of(person)
    for video_id in (liked, unliked, other):
        assert ask("PUT", like_path(video_id), **bearer(person)).status == 200
    run_flush()
    assert ask("DELETE", like_path(unliked), **bearer(person)).status == 200
    assert ask("POST", view_path(viewed), b"{}", **bearer(person)).body["reason"] == "new"
    return person


def keys_that_name(client: redis.Redis, person_id: int) -> list[str]:
    """Keys with the id in their name, or in a field, a member or a value."""
    found = []
    for key in client.scan_iter():
        kind: Any = client.type(key)
        held: Any = {
            "hash": client.hgetall, "zset": lambda key: client.zrange(key, 0, -1), "set": client.smembers,
            "string": client.get,
        }[kind](key)  # fmt: skip
        if str(person_id) in f"{key} {held}":
            found.append(key)
    return found


def rows_that_name(person_id: int) -> list[str]:
    models = [model for model in apps.get_models() if model is not ForgottenUser]
    return [
        model.__name__
        for model in models
        for row in model._default_manager.values()
        if str(person_id) in map(str, row.values())
    ]


def test_a_deleted_user_leaves_no_key_and_no_row(person: User, redis_client: redis.Redis) -> None:
    person_id, token = person.pk, bearer(person)
    assert len(keys_that_name(redis_client, person_id)) >= 5
    assert {"User", "VideoLike", "SignIn", "Video"} <= set(rows_that_name(person_id))
    person.delete()
    run_flush()
    run_flush()
    assert (keys_that_name(redis_client, person_id), rows_that_name(person_id)) == ([], [])
    # The token is valid still.
    (video_id,) = make_videos(1)
    assert ask("POST", view_path(video_id), b"{}", **token).body["reason"] == "new"
    assert ask("PUT", like_path(video_id), **token).status in {200, 401}
    run_flush()
    assert keys_that_name(redis_client, person_id)
    ForgottenUser.objects.update(due_at=datetime.now(UTC), ends_at=datetime.now(UTC) - timedelta(seconds=1))
    run_flush()
    run_flush()
    assert (keys_that_name(redis_client, person_id), rows_that_name(person_id)) == ([], [])
    assert not ForgottenUser.objects.exists()


def test_keys_of_others_stay(person: User, redis_client: redis.Redis) -> None:
    others = [make_user("other", id=98_675_309), make_user("another", id=309)]
    (video_id,) = make_videos(1)
    for other in others:
        ask("POST", view_path(video_id), b"{}", **bearer(other))
    before = {key for key in redis_client.scan_iter("*seen*") if not key.endswith("@8675309")}
    person.delete()
    run_flush()
    assert set(redis_client.scan_iter("*seen*")) == before
    assert len(before) == 2


def test_many_deleted_users_are_looked_for_at_once(redis_client: redis.Redis) -> None:
    people = [make_user(f"person{i}", id=8_675_000 + i) for i in range(3)]
    (video_id,) = make_videos(1)
    for person in people:
        ask("POST", view_path(video_id), b"{}", **bearer(person))
    User.objects.filter(pk__gte=8_675_000).delete()
    run_flush()
    assert not list(redis_client.scan_iter("*seen*"))


def test_the_second_look_waits_until_the_last_token_has_expired(person: User, settings: Any) -> None:
    settings.VIDEOS_TOKEN_MINUTES = 60
    person.delete()
    workers.keep_house()
    now = datetime.now(UTC)
    for minutes, due in ((59, []), (62, [8_675_309])):
        assert ledger.forgotten_users(now + timedelta(minutes=minutes)) == due


def test_an_export_has_what_is_held(person: User, redis_client: redis.Redis) -> None:
    out = io.StringIO()
    call_command("export_user", "person", stdout=out)
    found = json.loads(out.getvalue())
    assert found["user"]["username"] == "person"
    assert "password" not in found["user"]
    assert (len(found["videos"]), len(found["likes"]), len(found["sign_ins"])) == (1, 3, 1)
    assert [mark["value"] for mark in found["likes_that_wait_for_the_flush"]] == [0]
    named = [key for key in keys_that_name(redis_client, person.pk) if str(person.pk) in key]
    assert set(named) == set(found["keys_in_redis"])


@pytest.mark.usefixtures("redis_away")
def test_an_export_without_redis_says_so() -> None:
    make_user("person")
    with pytest.raises(CommandError, match="Unavailable"):
        call_command("export_user", "person")
    with pytest.raises(CommandError, match="UserNotFound"):
        call_command("export_user", "nobody")
