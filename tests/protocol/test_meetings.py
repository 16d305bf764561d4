"""Meetings of Redis and the database in orders that chance hardly finds: Redis comes back from before a batch."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.protocol.simulator import rules as broken
from tests.support.factories import make_users, make_videos
from tests.support.faults import redis_refusing
from videos import counters, ledger, meeting, services
from videos.changes import HOUR_MS, Totals
from videos.counters import connection
from videos.flush import reconcile, run_flush
from videos.models import FlushBatch, StaleLive, Video, VideoHour, VideoLike

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

BATCH = "{videos:0}:batch"
Rule = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def one_shard(settings: Any) -> None:
    settings.VIDEOS_SHARDS = 1


def image(client: redis.Redis) -> dict[Any, Any]:
    return {key: client.dump(key) for key in client.scan_iter()}


def set_back(client: redis.Redis, saved: dict[Any, Any]) -> None:
    """Redis is given this without a new run id, as REPLICAOF does."""
    client.flushdb()
    for key, value in saved.items():
        client.restore(key, 0, value)


def restore(client: redis.Redis, saved: dict[Any, Any]) -> None:
    """Redis comes back with this, as another run."""
    set_back(client, saved)
    client.hset(BATCH, "met", "another run")
    connection.meet("", again=True)


def likes(video: int) -> tuple[int, int]:
    return Video.objects.get(pk=video).like_count, VideoLike.objects.count()


def test_a_like_that_was_taken_back_before_a_finished_batch_does_not_return(redis_client: redis.Redis) -> None:
    (video, other), (user,) = make_videos(2), make_users(1)
    for liked in (True, False):  # so that Redis knows the state, and asks no database
        services.set_like(video_id=video, user_id=user, liked=liked)
        run_flush()
    services.set_like(video_id=video, user_id=user, liked=True)
    saved = image(redis_client)
    services.set_like(video_id=video, user_id=user, liked=False)
    services.record_view(event=services.ViewEvent(other, "v"))
    run_flush()
    restore(redis_client, saved)
    run_flush()
    assert likes(video) == (0, 0)


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


@pytest.mark.parametrize("other_run", [False, True])
def test_redis_that_comes_back_older_as_the_same_run_is_behind(
    other_run: bool, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `other_run` its replica served meanwhile: the database has met that one."""
    (video,), (user,) = make_videos(1), make_users(1)
    services.set_like(video_id=video, user_id=user, liked=True)
    services.record_view(event=services.ViewEvent(video, "v"))
    run_flush()
    services.record_view(event=services.ViewEvent(video, "w"))
    saved = image(redis_client)
    if other_run:
        own = str(redis_client.hget(BATCH, "met"))
        with monkeypatch.context() as patch:
            patch.setattr(connection.Lease, "run", lambda _: "replica")
            services.set_like(video_id=video, user_id=user, liked=False)
            run_flush()
        assert redis_client.hget(BATCH, "met") == "replica" != own
    else:
        services.set_like(video_id=video, user_id=user, liked=False)
        run_flush()
    set_back(redis_client, saved)
    if other_run:  # who has used the replica sees another run, and has it meet the database before anything else
        assert services.read_counts(video_ids=[video], user_id=user).by_video[video].totals == Totals(0, 2)
    report = run_flush()
    assert (report.failures, likes(video), Video.objects.get().view_count) == ({}, (0, 0), 2)
    services.record_view(event=services.ViewEvent(video, "x"))
    assert run_flush().rewound == 1
    assert services.read_counts(video_ids=[video], user_id=user).by_video[video].totals == Totals(0, 3)


def test_a_batch_that_another_flush_opens_meanwhile_is_no_reason_to_meet_again(redis_client: redis.Redis) -> None:
    (video,) = make_videos(1)
    services.record_view(event=services.ViewEvent(video, "v"))
    run_flush()
    known = counters.shard_runs()
    services.record_view(event=services.ViewEvent(video, "w"))
    run_flush()
    services.record_view(event=services.ViewEvent(video, "x"))
    run = str(redis_client.hget(BATCH, "met"))
    found = ledger.meet(run, {0: (known[0].last, known[0].fence, known[0].open)})
    assert found[0][1].newest > known[0].last
    assert counters.take_fences(run, known, found) == set()
    assert redis_client.hvals("{videos:0}:pending") == ["1"]
    assert run_flush().rewound == 0


def test_a_process_of_before_does_not_use_a_redis_that_another_one_has_adopted(
    redis_client: redis.Redis, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (video,), users = make_videos(1), make_users(2)
    services.set_like(video_id=video, user_id=users[0], liked=True)
    run_flush()
    with monkeypatch.context() as patch:  # the other process
        for name in ("_met_run", "_met_pairing", "_generation"):
            patch.setattr(connection, name, getattr(connection, name))
        patch.setattr(connection, "_leases", connection._ThreadLeases())
        settings.VIDEOS_SHARDS = 2
        meeting.adopt()
        settings.VIDEOS_SHARDS = 1
    time.sleep(2 * connection.FRESH_SECONDS)  # so that an idle connection notices
    services.set_like(video_id=video, user_id=users[1], liked=True)
    assert (likes(video), redis_client.exists("{videos:0}:pending")) == ((2, 2), 0)
    assert set(run_flush().failures) == {0}


@pytest.mark.parametrize("repaired", [False, True])
def test_what_the_database_has_lost_for_good_is_not_shown(
    repaired: bool, redis_client: redis.Redis, settings: Any
) -> None:
    settings.VIDEOS_REPLAY_SECONDS = 0
    (video,), (user,) = make_videos(1), make_users(1)
    run_flush()
    services.set_like(video_id=video, user_id=user, liked=True)
    services.record_view(event=services.ViewEvent(video, "v"))
    run_flush()
    time.sleep(0.01)
    run_flush()  # drops what was kept for a replay
    for rows in (FlushBatch.objects, VideoHour.objects, VideoLike.objects):
        rows.all().delete()
    Video.objects.update(like_count=0, view_count=0, flushed_batch=0)
    if repaired:
        reconcile(repair=True, forget=True)
    else:
        run_flush()
    assert services.read_counts(video_ids=[video], user_id=None).by_video[video].totals == Totals(0, 0)


def test_another_number_of_shards_with_nothing_pending_is_no_loss(redis_client: redis.Redis, settings: Any) -> None:
    videos, users = make_videos(4), make_users(2)
    for user, shards, rewound in zip(users, (1, 2), (0, 0), strict=True):
        settings.VIDEOS_SHARDS = shards
        if user != users[0]:
            meeting.adopt()
        for video in videos:
            services.set_like(video_id=video, user_id=user, liked=True)
        assert run_flush().rewound == rewound
    assert {video.like_count for video in Video.objects.all()} == {2}
    FlushBatch.objects.filter(shard=0).delete()  # now the database lacks what only Redis keeps
    settings.VIDEOS_SHARDS = 1
    meeting.adopt()
    services.set_like(video_id=videos[0], user_id=users[0], liked=False)
    assert run_flush().rewound == 1


@pytest.mark.parametrize("other", [True, False])
def test_viewers_of_another_database_are_not_seen_here(other: bool, redis_client: redis.Redis) -> None:
    (video,) = make_videos(1)
    five_hours_ago = counters.now_ms() - 5 * HOUR_MS
    events = [services.ViewEvent(video, "v"), services.ViewEvent(video, "w", at_ms=five_hours_ago)]
    for counted in (2, 2 if other else 0):
        assert services.record_views(events=events).counted == counted
        run_flush()
        if other:
            redis_client.set("videos:identity", "another")
        meeting.adopt()
