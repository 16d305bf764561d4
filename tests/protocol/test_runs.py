"""Runs that end early, rest, fail in one shard or are late; repairs, imports, housekeeping: all leave exact counts."""

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.db.models import Sum

from tests.support.factories import like_all, make_likes, make_user
from tests.support.load import check_batches
from videos import counters, ledger, services
from videos.changes import DAY_SECONDS, HOUR_SECONDS, PLACES, Changes, TallyChange, Totals, moment
from videos.counters import clock, keys
from videos.counters.keys import keys_of
from videos.flush import read_status, reconcile, run_flush
from videos.flush.run import ClosedBatch
from videos.models import DoubtfulView, FlushBatch, StaleLive, Video, VideoHour, VideoLike

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

SHARDS, VIDEOS, USERS = 4, 8, 3


@pytest.fixture(autouse=True)
def small_chunks(settings: Any) -> None:
    settings.VIDEOS_SHARDS = SHARDS
    settings.VIDEOS_FLUSH_CHUNK_FIELDS = USERS
    settings.VIDEOS_FLUSH_THREADS = 1


def likes() -> tuple[int, int]:
    """In the totals, and rows."""
    return Video.objects.aggregate(sum=Sum("like_count"))["sum"], VideoLike.objects.count()


def test_a_run_ends_between_chunks_and_the_next_one_goes_on() -> None:
    make_likes(VIDEOS, USERS)
    stopped = run_flush(should_stop=lambda: True)
    assert (stopped.complete, stopped.fields) == (False, 0)
    late = run_flush(max_seconds=0.0)
    assert (late.complete, late.fields, late.failed) == (False, USERS, False)
    one = run_flush(shards=[2])
    assert (one.complete, likes()) in {(True, (USERS * done, USERS * done)) for done in (2, 3)}
    shown: list[tuple[int, int]] = []
    closed: list[ClosedBatch] = []
    rest = run_flush(progress=lambda done, total, _: shown.append((done, total)), on_batch=closed.append)
    assert (rest.complete, rest.failures, likes()) == (True, {}, (USERS * VIDEOS, USERS * VIDEOS))
    assert (shown[0][0], shown[-1]) == (0, (SHARDS, SHARDS))
    assert (rest.batches, late.fields + one.fields + rest.fields) == (len(closed), USERS * VIDEOS)
    assert {batch.shard for batch in closed} <= {0, 1, 3}
    assert sum(batch.fields for batch in FlushBatch.objects.all()) == USERS * VIDEOS
    assert rest.as_dict()["likes_added"] + late.sums["likes_added"] + one.sums["likes_added"] == USERS * VIDEOS
    check_batches()


def test_a_gentle_run_takes_its_time_and_goes_on_when_it_is_over() -> None:
    make_likes(VIDEOS, USERS)
    begin = time.monotonic()
    report = run_flush(gentle_seconds=0.4)
    assert (report.complete, report.failures, likes()) == (True, {}, (USERS * VIDEOS, USERS * VIDEOS))
    assert 0.15 < time.monotonic() - begin < 30
    services.set_like(
        video_id=Video.objects.earliest("id").pk, user_id=User.objects.get(username="user0").pk, liked=False
    )
    assert run_flush(gentle_seconds=0.000_001).applied == 1  # over before it begins


def test_a_shard_that_fails_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    make_likes(VIDEOS, USERS)
    apply = ledger.apply

    def fail(batch: Any, *args: Any, **options: Any) -> Any:
        if batch.shard == 1:
            raise OperationalError(2006, "gone away")
        return apply(batch, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "apply", fail)
        report = run_flush()
    assert (report.failures, report.failed) == ({1: "OperationalError: (2006, 'gone away')"}, True)
    assert likes()[0] == USERS * VIDEOS * (SHARDS - 1) // SHARDS
    assert set(counters.beats()) == {0, 2, 3}
    assert counters.last_finished_run() is None
    report = run_flush()
    assert (report.failures, report.fields, likes()[0]) == ({}, USERS * VIDEOS // SHARDS, USERS * VIDEOS)
    assert counters.last_finished_run() is not None


@pytest.mark.parametrize("ahead_seconds", [-3600, 3600])
def test_a_flush_that_dies_is_late_also_where_its_clock_is_ahead(
    redis_client: Any, monkeypatch: pytest.MonkeyPatch, ahead_seconds: int
) -> None:
    make_likes(VIDEOS, USERS)
    now_ms = time.time() * 1000
    wrong = SimpleNamespace(time=lambda: time.time() + ahead_seconds, monotonic=time.monotonic)
    with monkeypatch.context() as patch:
        patch.setattr(clock, "time", wrong)
        clock.forget()
        run_flush()
    noted = [*redis_client.hvals(keys.BEATS), redis_client.get(keys.FLUSHED)]
    assert len(noted) == SHARDS + 1
    assert all(abs(int(at_ms) - now_ms) < 60_000 for at_ms in noted)
    FlushBatch.objects.update(finished_at=moment(int(now_ms) + 1000 * ahead_seconds))
    like_all(Video.objects.values_list("pk", flat=True), [make_user("late").pk])
    assert not read_status().late
    now = counters.now_ms()
    monkeypatch.setattr(counters, "now_ms", lambda: now + 181_000)
    status = read_status()
    assert status.late
    assert 181 <= (status.last_finished_seconds or 0) < 300


def test_the_status_tells_which_shard_is_late(redis_client: Any, settings: Any) -> None:
    settings.VIDEOS_FLUSH_INTERVAL_SECONDS = 60
    videos, users = make_likes(VIDEOS, USERS)
    shard = videos[0] % SHARDS
    fresh = read_status()
    assert (fresh.late, fresh.last_finished_seconds, fresh.pending_fields) == (False, None, USERS * VIDEOS)
    long_ago = counters.now_ms() - 181_000
    redis_client.set(keys.WATCHED, long_ago)
    assert read_status().late
    run_flush()
    done = read_status()
    assert (done.late, done.pending_fields, done.claimed_fields) == (False, 0, 0)
    assert 0 <= (done.last_finished_seconds or 0) < 20
    assert [one.shard for one in done.shards] == list(range(SHARDS))
    redis_client.hset(keys.BEATS, shard, long_ago)
    FlushBatch.objects.filter(shard=shard).update(finished_at=moment(long_ago), claimed_at=moment(long_ago))
    assert not read_status().late  # nothing of it waits
    services.set_like(video_id=videos[0], user_id=users[0], liked=False)
    late = read_status()
    assert [one.shard for one in late.shards if one.late] == [shard]
    assert 181 <= (late.shards[shard].finished_seconds or 0) < 300
    redis_client.hset(keys.BEATS, shard, counters.now_ms())
    assert not read_status().late
    redis_client.rename(keys_of(shard).pending, keys_of(shard).claimed)
    FlushBatch.objects.filter(shard=shard).update(finished_at=None)
    stuck = read_status()
    assert (stuck.late, stuck.claimed_fields, stuck.pending_fields) == (True, 1, 0)
    FlushBatch.objects.filter(shard=shard).update(rewound=True)
    redis_client.hset(keys_of(0).rejected, "1:x", "1")
    StaleLive.objects.create(video_id=videos[0])
    assert read_status()[4:7] == (1, 1, 1) or read_status()[3:6] == (1, 1, 1)


def test_a_recount_finds_and_repairs_what_was_changed_by_hand() -> None:
    videos, users = make_likes(3, USERS)
    run_flush()
    assert reconcile().differences == []
    VideoLike.objects.filter(video=videos[1], user=users[0]).delete()
    seen: list[tuple[int, int]] = []
    for repair in (False, True):
        report = reconcile(repair=repair, progress=lambda done, total: seen.append((done, total)))
        difference = {"video": videos[1], "column": "like_count", "stored": USERS, "counted": USERS - 1}
        assert report.differences == [difference | {"repaired": repair}]
        assert (report.videos, report.repaired, report.absent) == (3, int(repair), [])
    assert seen == [(3, 3), (3, 3)]
    chosen = reconcile(video_ids=[videos[1], 987, videos[1]])
    assert (chosen.videos, chosen.differences, chosen.absent) == (1, [], [987])
    run_flush()
    assert counters.lookup(videos, None)[videos[1]].totals == Totals(USERS - 1, 0)
    assert services.get_like(video_id=videos[1], user_id=users[0]).liked is False


def test_imported_counts_are_shown_after_the_next_flush() -> None:
    (one, other), _ = make_likes(2, 1)
    for add, right in ((False, 5), (True, 10), (False, 5)):
        assert ledger.import_counts(PLACES["views"], {one: 5, 987: 1}, add=add) == [987]
        assert run_flush().settled == 1
        assert counters.lookup([one], None)[one].totals == Totals(1, right)
    assert {row.pk: row.totals for row in Video.objects.all()} == {one: Totals(1, 5), other: Totals(1, 0)}
    ledger.import_counts(PLACES["views"], {one: 5}, add=False)
    assert StaleLive.objects.count() == 0  # nothing changed


def test_housekeeping_keeps_what_is_needed_and_sums_old_hours(settings: Any) -> None:
    settings.VIDEOS_HOURS_DAYS, settings.VIDEOS_BATCHES_DAYS = 30, 7
    (video, other), (user,) = make_likes(2, 1)
    run_flush()
    services.set_like(video_id=video, user_id=user, liked=False)
    run_flush()
    now = datetime.now(UTC)
    FlushBatch.objects.update(finished_at=now - timedelta(days=8))
    newest = {batch.shard: batch.number for batch in FlushBatch.objects.order_by("number")}
    day = int(now.timestamp()) // DAY_SECONDS - 40
    amounts = {0: 1, 5: 2, 23: 4}
    for at in (video, other):
        gains = [TallyChange("views", day * 24 + hour, amount) for hour, amount in amounts.items()]
        ledger.write_direct({at: Changes(tallies=[*gains, TallyChange("views", day * 24 + 24 * 20, 8)])})
    ledger.note_doubts([(video, "v")], now=now - timedelta(days=400))
    ledger.note_doubts([(video, "w")], now=now)
    for _ in range(2):
        ledger.prune(now=now)
        hours = VideoHour.objects.filter(video=video, views__gt=0).order_by("hour")
        found = [(int(row.hour.timestamp()), row.views) for row in hours]
        assert found == [(day * DAY_SECONDS, 7), ((day + 20) * DAY_SECONDS, 8)]
    assert VideoHour.objects.filter(video=other).aggregate(sum=Sum("views"))["sum"] == 15
    assert {batch.shard: batch.number for batch in FlushBatch.objects.all()} == newest
    assert DoubtfulView.objects.count() == 1
    assert ledger.has_doubts([(video, "w")], now=now)
    FlushBatch.objects.update(finished_at=now)
    sums = ledger.last_hour_sums()
    assert (sums["batches"], sums["likes_added"] + sums["likes_removed"]) == (len(newest), 2)
    assert HOUR_SECONDS * 24 == DAY_SECONDS


def test_lists_have_every_window_of_the_rows() -> None:
    videos, users = make_likes(5, 4)
    Video.objects.filter(pk__in=videos[:2]).update(title="Needle", description="hay")
    for flushed in (False, True):
        if flushed:
            run_flush()
        for falling in (True, False):
            whole = services.likers(
                video_id=videos[0], user_id=None, window=services.Window("created_at", falling, None, 9)
            )
            ids = [like.id for like in whole.likes]
            assert sorted(ids) == users
            for place, like in enumerate(whole.likes):
                window = services.Window("created_at", falling, (like.at, like.id), 2)
                part = services.likers(video_id=videos[0], user_id=None, window=window).likes
                assert [one.id for one in part] == ids[place + 1 : place + 3]
    for order in ("created_at", "like_count", "view_count"):
        for falling in (True, False):
            whole_list = services.list_videos(window=services.Window(order, falling, None, 9))
            values = [(row.value_of(order), row.id) for row in whole_list]
            assert values == sorted(values, reverse=falling)
            assert {row.id for row in whole_list} == set(videos)
            window = services.Window(order, falling, values[2], 9)
            assert [row.id for row in services.list_videos(window=window)] == [pk for _, pk in values[3:]]
    found = services.search_videos(text="needle HAY", window=services.Window("created_at", True, None, 9))
    assert sorted(row.id for row in found) == sorted(videos[:2])
    assert services.usernames(user_ids=[users[0], 987]) == {users[0]: "user0"}
    assert services.ids_by_name(name="user1", most=9) == ([users[1]], [])
    assert services.ids_by_name(name="nee", most=1)[1] in ([videos[0]], [videos[1]])
