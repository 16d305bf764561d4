"""Meetings of Redis and the database in orders that chance hardly finds: Redis comes back from before a batch."""

from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.protocol.simulator import rules as broken
from tests.support.factories import make_users, make_videos
from tests.support.faults import redis_refusing
from videos import ledger, services
from videos.counters import connection
from videos.flush import run_flush
from videos.models import FlushBatch, StaleLive, Video, VideoHour, VideoLike

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

BATCH = "{videos:0}:batch"
Rule = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def one_shard(settings: Any) -> None:
    settings.VIDEOS_SHARDS = 1


def image(client: redis.Redis) -> dict[Any, Any]:
    return {key: client.dump(key) for key in client.scan_iter()}


def restore(client: redis.Redis, saved: dict[Any, Any]) -> None:
    """Redis comes back with this, as another run."""
    client.flushdb()
    for key, value in saved.items():
        client.restore(key, 0, value)
    client.hset(BATCH, "met", "another run")
    connection.meet("", again=True)


def likes(video: int) -> tuple[int, int]:
    return Video.objects.get(pk=video).like_count, VideoLike.objects.count()


@pytest.mark.parametrize("rule", [None, broken.apply_again_what_a_finished_batch_covers])
def test_a_like_that_was_taken_back_before_a_finished_batch_does_not_return(
    rule: Rule | None, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    (video, other), (user,) = make_videos(2), make_users(1)
    for liked in (True, False):  # so that Redis knows the state, and asks no database
        services.set_like(video_id=video, user_id=user, liked=liked)
        run_flush()
    services.set_like(video_id=video, user_id=user, liked=True)
    saved = image(redis_client)
    services.set_like(video_id=video, user_id=user, liked=False)
    services.record_view(event=services.ViewEvent(other, "v"))
    run_flush()
    if rule is not None:
        rule(monkeypatch)
    restore(redis_client, saved)
    run_flush()
    assert likes(video) == ((0, 0) if rule is None else (1, 1))


@pytest.mark.parametrize("rule", [None, broken.keep_nothing_of_what_a_finished_batch_covers])
def test_what_a_finished_batch_covers_is_kept_for_when_the_database_is_set_back_too(
    rule: Rule | None, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    (video,), (user,) = make_videos(1), make_users(1)
    services.set_like(video_id=video, user_id=user, liked=True)
    saved = image(redis_client)
    run_flush()
    if rule is not None:
        rule(monkeypatch)
    restore(redis_client, saved)
    for rows in (FlushBatch.objects, VideoHour.objects, VideoLike.objects):
        rows.all().delete()
    Video.objects.update(like_count=0, flushed_batch=0)
    run_flush()
    assert likes(video) == ((1, 1) if rule is None else (0, 0))


def test_notes_are_settled_after_a_meeting_whose_process_died(redis_client: redis.Redis) -> None:
    """It had minted a fence, which Redis never learnt. Without changes, nothing else lets the two meet again."""
    (video,), (user,) = make_videos(1), make_users(1)
    run_flush()
    last, fence = (int(value or 0) for value in redis_client.hmget(BATCH, "last", "fence"))
    ledger.meet(str(redis_client.hget(BATCH, "met")), {0: (last, fence, 0)}, anew=True)
    with redis_refusing():
        services.set_like(video_id=video, user_id=user, liked=True)
    for _ in range(2):
        run_flush()
    assert StaleLive.objects.count() == 0
