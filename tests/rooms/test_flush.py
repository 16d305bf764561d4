"""The flush: every claimed field is accounted for, and nothing is held up by another.

Over 250 lines: every test runs the whole flush, and judges it by the same report and rows.
"""

import contextlib
import itertools
import json
import os
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from django.core.management import CommandError, call_command
from django.db import IntegrityError, OperationalError, connection, connections, transaction
from django.db.backends.utils import CursorWrapper
from django.test.utils import CaptureQueriesContext

from servers import Process, RedisServer
from tests.support.factories import like_all, make_likes, make_users, make_videos
from tests.support.faults import failing, redis_refusing
from tests.support.load import Load, check_batches
from videos import counters, ledger, meeting, services
from videos.changes import LIKE, BatchFacts, Totals
from videos.conf import conf
from videos.counters import connection as redis_connection
from videos.flush import FlushReport, pace, read_status, reconcile, run, run_flush, workers
from videos.flush.pace import REST_MAX_SECONDS
from videos.flush.run import GENTLE_CHUNK_FIELDS
from videos.management.commands import flush_counters
from videos.models import FlushBatch, StaleLive, Video, VideoHour, VideoLike

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

MAX_BIGINT = 2**63 - 1
HOUR = 480_000


def pending_key(video: int) -> str:
    return f"{{videos:{counters.shard_of(video)}}}:pending"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("nonsense", "1"),
        ("l:{video}", "1:1"),
        ("l:{video}:{user}", "3:1"),
        ("l:{video}:{user}", "1"),
        ("l:{video}:{user}", "1:99999999999999999"),
        ("l:0{video}:{user}", "1:1"),
        ("l:{video}:0", "1:1"),
        ("l:{video}:99999999999999999999", "1:1"),
        ("l:-1:{user}", "1:1"),
        ("l:x:{user}", "1:1"),
        ("v:{video}:x", "1"),
        ("v:{video}:" + str(HOUR), "0"),
        ("v:{video}:" + str(HOUR), "-3"),
        ("v:{video}:" + str(HOUR), "1.5"),
        ("v:{video}:" + str(HOUR), "99999999999999999999"),
        ("v:{video}:999999999", "1"),
        ("v:{video}:1:0", "1"),
        ("v:{video}:1:2:3", "1"),
        ("\xff\x00", "\xff"),
        ("", ""),
    ],
)
def test_malformed_field_is_set_aside_and_holds_nothing_up(field: str, value: str, redis_client: redis.Redis) -> None:
    (video,), (user, other) = make_videos(1), make_users(2)
    services.set_like(video_id=video, user_id=other, liked=True)
    name = field.format(video=video, user=user)
    redis_client.hset(pending_key(video), name, value)

    report = run_flush()

    assert report.failures == {}
    assert (report.applied, report.rejected) == (1, 1)
    assert Video.objects.get().like_count == 1
    batch = FlushBatch.objects.get()
    assert batch.rejected == 1
    check_batches()
    kept = redis_client.hgetall(f"{{videos:{counters.shard_of(video)}}}:rejected")
    assert kept == {f"{batch.number}:{name}": value}
    assert run_flush().fields == 0
    assert read_status().rejected_fields == 1


def test_field_that_the_database_refuses_stands_alone(redis_client: redis.Redis) -> None:
    videos, _ = make_likes(7)
    full = videos[3]
    Video.objects.filter(pk=full).update(view_count=MAX_BIGINT - 10)
    for video in videos:
        redis_client.hset(pending_key(video), f"v:{video}:{HOUR}", "5")
    redis_client.hset(pending_key(full), f"v:{full}:{HOUR + 1}", "1000")

    report = run_flush()

    assert report.failures == {}
    assert (report.sums["likes_added"], report.rejected) == (7, 1)
    assert Video.objects.get(pk=full).view_count == MAX_BIGINT - 5
    assert VideoHour.objects.filter(hour__year=2024, views=5).count() == 7
    check_batches()
    assert reconcile().differences == []


@pytest.mark.parametrize(("faults", "applied", "rejected"), [(1, 3, 0), (99, 0, 3)])
def test_fault_that_passes_costs_no_field_and_one_that_stays_is_no_loop(
    faults: int, applied: int, rejected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_likes(users=3)
    apply, left = ledger.apply, faults

    def fail_at_first(*chunk: Any, commit: bool = True) -> Any:
        nonlocal left
        left -= commit
        if commit and left >= 0:
            raise IntegrityError("of a commit")
        return apply(*chunk, commit=commit)

    monkeypatch.setattr(ledger, "apply", fail_at_first)
    report = run_flush()
    assert (report.failures, report.applied, report.rejected) == ({}, applied, rejected)
    check_batches()


def test_fields_that_fail_together_alone_are_rejected_together(redis_client: redis.Redis) -> None:
    (video,), _ = make_likes()
    Video.objects.filter(pk=video).update(view_count=MAX_BIGINT - 10)
    redis_client.hset(pending_key(video), mapping={f"v:{video}:{HOUR}": "8", f"v:{video}:{HOUR + 1}": "8"})
    report = run_flush()
    assert (report.failures, report.sums["likes_added"], report.rejected) == ({}, 1, 2)
    check_batches()


def test_vanished_users_and_videos_are_dropped_and_the_rest_applied(redis_client: redis.Redis) -> None:
    videos, users = make_likes(3, 3)
    redis_client.hset(pending_key(videos[1]), f"l:{videos[1]}:{users[0]}", "0:1700000000000")  # of no row
    with connection.cursor() as cursor:  # behind Django's back, so that nothing has prepared for it
        cursor.execute("DELETE FROM auth_user WHERE id = %s", [users[0]])
        cursor.execute("DELETE FROM videos_video WHERE id = %s", [videos[0]])
    report = run_flush()
    assert report.failures == {}
    assert (report.applied, report.dropped) == (4, 5)
    check_batches()
    assert [video.like_count for video in Video.objects.all()] == [2, 2]
    assert services.get_like(video_id=videos[1], user_id=None).likes == 2


@pytest.mark.parametrize("vanish", [False, True])
def test_users_are_looked_for_only_after_a_foreign_key_failed(vanish: bool, settings: Any) -> None:
    settings.VIDEOS_FLUSH_THREADS = 1  # this one, whose connection is looked at
    _, users = make_likes(users=3)
    if vanish:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM auth_user WHERE id = %s", [users[0]])
    with CaptureQueriesContext(connection) as queries:
        report = run_flush()
    assert (report.applied, report.dropped) == (3 - vanish, vanish)
    assert any("auth_user" in query["sql"] for query in queries) == vanish


def test_flush_takes_more_fields_of_one_video_than_a_script_unpacks(redis_client: redis.Redis) -> None:
    (video,), users = make_videos(1), make_users(17_000)
    fields: dict[Any, Any] = {f"l:{video}:{user}": "1:1700000000000" for user in users}
    redis_client.hset(pending_key(video), mapping=fields)
    services.record_view(event=services.ViewEvent(video, "v"))

    report = run_flush()

    assert (report.sums["likes_added"], report.sums["views"], report.sums["videos"]) == (17_000, 1, 1)
    assert Video.objects.get().like_count == VideoLike.objects.count() == 17_000
    assert services.get_like(video_id=video, user_id=users[0]).likes == 17_000
    check_batches()


@pytest.mark.parametrize("threads", [1, 3])
def test_flush_out_of_time_stops_between_chunks_and_the_next_goes_on(settings: Any, threads: int) -> None:
    settings.VIDEOS_FLUSH_CHUNK_FIELDS = 1
    settings.VIDEOS_FLUSH_THREADS = threads
    make_likes(40)
    runs = 0
    total = 0
    while not (report := run_flush(max_seconds=0.000_001)).complete:
        runs += 1
        assert 1 <= report.sums["likes_added"] <= threads
        total += report.sums["likes_added"]
    assert total + report.sums["likes_added"] == 40
    assert runs >= 39 // threads
    check_batches()


def in_helpers(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> set[str]:
    """Do something before each transaction of a helping thread; returns the names of all threads that had one."""
    apply, seen = ledger.apply, set()

    def spy(*chunk: Any) -> Any:
        name = threading.current_thread().name
        seen.add(name)
        if name != threading.main_thread().name:
            act()
        time.sleep(0.005)  # so that each has its turn
        return apply(*chunk)

    monkeypatch.setattr(ledger, "apply", spy)
    return seen


def likes_on_every_shard(settings: Any) -> None:
    settings.VIDEOS_FLUSH_CHUNK_FIELDS = 2
    make_likes(96)


@pytest.mark.parametrize("case", [(3, 0.0, 3), (1, 0.0, 1), (3, 0.000_001, 1)])
def test_threads_share_the_shards_of_a_run(
    case: tuple[int, float, int], settings: Any, monkeypatch: pytest.MonkeyPatch, database_kind: str
) -> None:
    threads, gentle_seconds, expected = case
    settings.VIDEOS_FLUSH_THREADS = threads
    likes_on_every_shard(settings)
    seen = in_helpers(monkeypatch, lambda: None)
    told: list[tuple[int, int, int]] = []
    batches: list[int] = []
    report = run_flush(
        gentle_seconds=gentle_seconds,
        progress=lambda done, total, so_far: told.append((done, total, so_far.fields)),
        on_batch=lambda batch: batches.append(batch.shard),
    )
    assert len(seen) == (1 if database_kind == "sqlite" else expected)
    assert (report.sums["likes_added"], report.applied, report.batches, report.complete) == (96, 96, 16, True)
    assert told == sorted(told)
    assert told[-1] == (16, 16, 96)
    assert sorted(batches) == list(range(16))
    check_batches()


@pytest.mark.only("mariadb", "mysql")
def test_shard_that_fails_in_a_thread_stops_no_other(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    likes_on_every_shard(settings)

    with monkeypatch.context() as patch:
        in_helpers(patch, failing(OperationalError(2006, "Server has gone away")))
        report = run_flush()
    assert 1 <= len(report.failures) < 16
    assert report.batches == 16 - len(report.failures)
    again = run_flush()
    assert (again.failures, report.applied + again.applied) == ({}, 96)
    check_batches()


@pytest.mark.only("mariadb", "mysql")
def test_fault_of_ours_in_a_thread_ends_the_run_and_loses_nothing(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    likes_on_every_shard(settings)

    with monkeypatch.context() as patch:
        in_helpers(patch, failing(ZeroDivisionError("a fault of ours")))
        with pytest.raises(ZeroDivisionError):
            run_flush()
    assert VideoLike.objects.count() < 96
    assert run_flush().failures == {}
    assert VideoLike.objects.count() == 96
    check_batches()
    assert reconcile().differences == []


class Clock:
    """A clock that only work and rests move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        for module in (workers, run, pace):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self.go_on))

    def go_on(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    "case",
    [
        ((0, 1), 10.0, 0.99, 1.01),
        ((0, 1), 0.5, 0.49, 0.55),
        ((0, 1), 0.05, 0.1, 0.15),
        ((1,), 0.25, 0.24, 0.3),  # what waits in others is others' work
    ],
)
def test_gentle_run_rests_as_long_as_its_time_allows(
    case: tuple[tuple[int, ...], float, float, float], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk takes 5 ms here: ten of a shard 50 ms, and 0.5 s with rests nine times as long."""
    shards, gentle_seconds, least, most = case
    settings.VIDEOS_SHARDS = 2
    videos = make_videos(20 * GENTLE_CHUNK_FIELDS)
    for i in range(20):  # all at once would take Redis longer than a request waits on a busy machine
        services.record_views(events=[services.ViewEvent(video, "v") for video in videos[i::20]])
    clock = Clock(monkeypatch)
    apply = ledger.apply

    def take_time(*chunk: Any) -> Any:
        clock.go_on(0.005)
        return apply(*chunk)

    monkeypatch.setattr(ledger, "apply", take_time)
    report = run_flush(shards=shards, gentle_seconds=gentle_seconds)
    assert report.sums["views"] == len(videos) * len(shards) // 2
    assert least <= report.seconds <= most
    check_batches()


def test_gentle_run_gives_way_to_all_others_until_its_time_is_over(
    settings: Any, monkeypatch: pytest.MonkeyPatch, database_kind: str
) -> None:
    likes_on_every_shard(settings)
    clock = Clock(monkeypatch)
    apply, policies = ledger.apply, []

    def take_time(*chunk: Any) -> Any:
        clock.go_on(0.01)
        policies.append(os.sched_getscheduler(0))
        return apply(*chunk)

    monkeypatch.setattr(ledger, "apply", take_time)
    report = run_flush(gentle_seconds=0.1)
    assert (report.failures, report.sums["likes_added"], report.batches, report.complete) == ({}, 96, 16, True)
    gave_way = policies.count(os.SCHED_IDLE)
    assert policies == [os.SCHED_IDLE] * gave_way + [os.SCHED_OTHER] * (16 - gave_way)
    assert (gave_way == 0) if database_kind == "sqlite" else (0 < gave_way < 16)
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    check_batches()


def test_gentle_run_rests_after_each_piece_of_its_work(
    settings: Any, monkeypatch: pytest.MonkeyPatch, database_kind: str
) -> None:
    settings.VIDEOS_SHARDS = 1
    videos = make_videos(GENTLE_CHUNK_FIELDS)
    services.record_views(events=[services.ViewEvent(video, "v") for video in videos])
    clock = Clock(monkeypatch)
    happened: list[str] = []

    execute = CursorWrapper._execute  # type: ignore[attr-defined]

    def take_time(cursor: CursorWrapper, sql: str, *others: Any) -> Any:
        clock.go_on(0.001)
        happened.append("rows" if re.search(r"\bvideos_video(hour)?\b", sql) else "other")
        return execute(cursor, sql, *others)

    def rest(seconds: float) -> None:
        assert 0 < seconds <= REST_MAX_SECONDS
        happened.append("rest")

    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=rest))
    monkeypatch.setattr(CursorWrapper, "_execute", take_time)
    assert run_flush().sums["views"] == len(videos)
    assert "rest" not in happened
    for video in videos:
        services.record_view(event=services.ViewEvent(video, "w"))
    happened.clear()
    assert run_flush(gentle_seconds=100.0).sums["views"] == len(videos)
    after_rows = [after for what, after in itertools.pairwise(happened) if what == "rows"]
    assert len(after_rows) >= 3  # the lock, the counts, the hours
    # SQLite lets one transaction write at a time: a rest within it would keep all others from writing.
    expected = {"rest"} if database_kind != "sqlite" else {"rows", "other"}
    assert set(after_rows[:3]) == expected
    assert happened[happened.index("rows") :].count("rest") >= (1 if database_kind == "sqlite" else 4)
    check_batches()


def test_flush_makes_room_in_a_full_redis_at_once_and_says_what_that_costs(own_redis: RedisServer) -> None:
    (video,), (user, other) = make_videos(1), make_users(2)
    services.set_like(video_id=video, user_id=user, liked=True)
    run_flush()
    client = own_redis.client()
    client.hset(pending_key(video), mapping={f"v:{video}:{hour}": 1 for hour in range(HOUR, HOUR + 20_000)})
    client.config_set("maxmemory", client.info("memory")["used_memory"])
    assert services.set_like(video_id=video, user_id=other, liked=True).stored
    assert not read_status().unkept

    report = run_flush()

    assert (report.failures, report.applied, report.unkept) == ({}, 20_000, 2)
    assert not services.set_like(video_id=video, user_id=other, liked=False).stored
    assert list(client.scan_iter("*done*")) == []
    assert read_status().unkept
    client.config_set("maxmemory", 10 * client.info("memory")["used_memory"])
    assert (run_flush().unkept, len(list(client.scan_iter("*done*")))) == (0, 1)
    assert Video.objects.get().totals == Totals(1, 20_000)


def test_flush_relieves_a_full_redis(own_redis: RedisServer) -> None:
    videos, (user, other) = make_videos(3), make_users(2)
    for video in videos:
        services.set_like(video_id=video, user_id=user, liked=True)
        services.record_view(event=services.ViewEvent(video, "v"))
    own_redis.client().hset(pending_key(videos[0]), "nonsense", "1")
    own_redis.client().hset(pending_key(videos[1]), f"v:{videos[1]}:x", "1")
    own_redis.client().config_set("maxmemory", "1")
    assert services.set_like(video_id=videos[0], user_id=other, liked=True).stored

    report = run_flush()

    assert report.failures == {}
    assert (report.applied, report.rejected, report.settled) == (6, 2, 1)
    check_batches()
    assert run_flush().fields == 0
    own_redis.client().config_set("maxmemory", "0")
    assert services.get_like(video_id=videos[0], user_id=other) == (videos[0], LIKE, Totals(2, 1), False)


def test_run_in_which_every_shard_fails_slowly_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "newest_batches", failing(OperationalError(1205, "Lock wait timeout exceeded")))
    report = run_flush(max_seconds=0.000_001)
    assert (0 < len(report.failures) <= 2, report.complete) == (True, False)


def test_one_shard_that_fails_does_not_stop_the_others(redis_client: redis.Redis) -> None:
    videos, _ = make_likes(8)
    broken = counters.shard_of(videos[0])
    redis_client.set(f"{{videos:{broken}}}:claimed", "not a hash")
    report = run_flush()
    assert set(report.failures) == {broken}
    assert report.sums["likes_added"] == 7
    redis_client.delete(f"{{videos:{broken}}}:claimed")


def test_old_batches_go_but_the_newest_of_each_shard(settings: Any) -> None:
    (video,), (user,) = make_videos(1), make_users(1)
    for i in range(4):
        services.set_like(video_id=video, user_id=user, liked=i % 2 == 0)
        run_flush()
    ledger.prune(now=datetime.now(UTC) + timedelta(days=99))
    assert [batch.number for batch in FlushBatch.objects.all()] == [4]


def test_old_hours_roll_up_into_days() -> None:
    first, second = make_videos(2)
    old = datetime(2024, 3, 1, tzinfo=UTC)
    for video, hour, views in ((first, 0, 1), (first, 5, 2), (first, 23, 3), (first, 24, 4), (second, 7, 5)):
        VideoHour.objects.create(video_id=video, hour=old + timedelta(hours=hour), views=views, likes=1)
    recent = datetime.now(UTC).replace(hour=5, minute=0, second=0, microsecond=0)
    VideoHour.objects.create(video_id=first, hour=recent, views=9)
    ledger.prune(now=datetime.now(UTC))
    rows = VideoHour.objects.order_by("video_id", "hour").values_list("video_id", "hour", "views", "likes")
    assert sorted(rows) == sorted(
        [(first, old, 6, 3), (first, old + timedelta(days=1), 4, 1), (second, old, 5, 1), (first, recent, 9, 0)]
    )


def test_reconcile_reports_first_and_repairs_when_told() -> None:
    videos, (user,) = make_videos(3), make_users(1)
    services.set_like(video_id=videos[0], user_id=user, liked=True)
    run_flush()
    Video.objects.filter(pk=videos[0]).update(like_count=7)
    VideoLike.objects.bulk_create([VideoLike(video_id=videos[1], user_id=user)])
    dry = StringIO()
    call_command("reconcile_counters", stdout=dry)
    assert f"video {videos[0]}: like_count is 7, its rows are 1" in dry.getvalue()
    assert "2 differences, 0 repaired; --repair sets them" in dry.getvalue()
    call_command("reconcile_counters", "--repair", stdout=StringIO())
    assert reconcile().differences == []
    run_flush()
    assert [services.get_like(video_id=video, user_id=None).likes for video in videos] == [1, 1, 0]
    assert not StaleLive.objects.exists()


def test_reconcile_beside_writers_finds_nothing() -> None:
    videos, users = make_videos(10), make_users(20)
    with Load(videos, users, threads=3, rest=0.002):
        for _ in range(8):
            run_flush()
            assert reconcile().differences == []


def test_command_prints_what_it_moved_and_speaks_json() -> None:
    (video,), (user,) = make_likes()
    output = StringIO()
    call_command("flush_counters", stdout=output)
    assert "1 likes added, 0 removed, 0 views" in output.getvalue()
    services.set_like(video_id=video, user_id=user, liked=False)
    output = StringIO()
    call_command("flush_counters", "--json", stdout=output)
    report = json.loads(output.getvalue())
    assert (report["likes_removed"], report["failures"]) == (1, {})


def test_command_fails_when_a_shard_failed(redis_client: redis.Redis) -> None:
    redis_client.set("{videos:3}:claimed", "not a hash")
    redis_client.hset("{videos:3}:pending", "x", "y")
    with pytest.raises(CommandError, match="1 of the shards failed"):
        call_command("flush_counters", stderr=StringIO())
    call_command("flush_counters", "--shards", "0-2,4-15", stdout=StringIO())


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        *(("shards", value, "shard") for value in ("16", "a", "3-", "-1", "", "5-3", "0-99999999999")),
        *((o, value, "seconds") for o in ("every", "max-seconds") for value in ("0", "-1", "x", "nan", "inf")),
    ],
)
def test_options_that_make_no_sense_are_refused(option: str, value: str, named: str) -> None:
    with pytest.raises(CommandError, match=named):
        call_command("flush_counters", f"--{option}={value}")


def test_loop_ends_on_sigterm_within_a_long_wait(manage: Callable[..., Process]) -> None:
    loop = manage("flush_counters", "--every", "60", "--json")
    limit = time.monotonic() + 30
    while "{" not in loop.output and time.monotonic() < limit:
        time.sleep(0.05)
    loop.send(signal.SIGTERM)
    assert loop.wait(10) == 0


def test_loop_flushes_each_line_and_asks_for_a_fresh_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[object] = []
    lines: list[str] = []

    class Pipe(StringIO):
        def flush(self) -> None:
            lines.append(self.getvalue())

    def run(**kwargs: Any) -> FlushReport:
        report = run_flush(**kwargs)
        used.append(connection.connection)
        connection.close_at = 0  # its time is over
        if len(used) == 2:
            signal.raise_signal(signal.SIGTERM)
        return report

    monkeypatch.setattr(flush_counters, "run_flush", run)
    call_command("flush_counters", "--every", "0.01", "--json", stdout=Pipe())
    assert [line.count("{") // 2 for line in lines] == [1, 2]
    assert used[0] is not used[1]


def test_status_is_late_after_three_intervals_of_something_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    make_likes()
    assert read_status().late is False
    now = counters.now_ms()
    monkeypatch.setattr(counters, "now_ms", lambda: now + 181_000)
    assert read_status().late is True
    run_flush()
    status = read_status()
    assert (status.late, status.pending_fields, status.claimed_fields) == (False, 0, 0)


def test_run_with_nothing_to_flush_asks_once_for_all_shards(
    monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Any
) -> None:
    make_likes(32)
    run_flush()
    trips: list[int] = []
    exchange = redis_connection.exchange

    def counted(commands: Any, **how: Any) -> Any:
        trips.append(len(commands))
        return exchange(commands, **how)

    monkeypatch.setattr(redis_connection, "exchange", counted)
    with django_assert_max_num_queries(20):  # of them 12 for the sessions of the flush, on MySQL and MariaDB
        assert run_flush().fields == 0
    assert len(trips) < conf.SHARDS + 10  # one claim a shard


@pytest.mark.parametrize(("step", "beats"), [("compare_batches", False), ("apply", True)])
def test_status_is_late_when_one_shard_is_stuck_while_the_others_go_on(
    step: str, beats: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its claim; and after it, of several runs that share the shards, while the one with shard 0 goes on."""
    stuck, *videos = make_videos(5)
    (user,) = make_users(1)
    broken, act, now = counters.shard_of(stuck), getattr(ledger, step), counters.now_ms()

    def fail(where: Any, *chunk: Any) -> Any:
        if broken in (where if isinstance(where, dict) else {where.shard}):
            raise OperationalError(1317, "Query execution was interrupted")
        return act(where, *chunk)

    monkeypatch.setattr(ledger, step, fail)
    services.set_like(video_id=stuck, user_id=user, liked=True)
    late = []
    for minute, video in enumerate(videos):
        at_ms = now + minute * 61_000
        monkeypatch.setattr(counters, "now_ms", lambda at_ms=at_ms: at_ms)
        services.set_like(video_id=video, user_id=user, liked=True)
        assert set(run_flush().failures) == {broken}
        finished = FlushBatch.objects.exclude(finished_at=None)
        finished.update(finished_at=datetime.fromtimestamp(at_ms / 1000, UTC))
        if beats:
            counters.note_finished_run(at_ms)
        late.append(read_status().late)
    assert late == [False, False, False, True]


def test_batch_whose_claim_redis_has_lost_is_ended(redis_client: redis.Redis) -> None:
    (video,), (user,) = make_videos(1), make_users(1)
    run_flush()
    shard = counters.shard_of(video)
    ledger.open_batch(BatchFacts(shard, 7, 1, False, 1, 0, ledger.fences([shard])[shard]))
    redis_client.flushdb()
    services.set_like(video_id=video, user_id=user, liked=True)
    assert read_status().late is False
    assert run_flush().failures == {}
    assert not FlushBatch.objects.filter(finished_at=None).exists()
    assert VideoLike.objects.count() == 1


@pytest.mark.parametrize("emptied", [True, False])
def test_watermarks_that_no_batch_explains_hold_up_no_change(redis_client: redis.Redis, emptied: bool) -> None:
    (video,), users = make_videos(1), make_users(3)
    like_all([video], users[:1])
    run_flush()
    Video.objects.update(flushed_batch=1000)
    FlushBatch.objects.all().delete()
    if emptied:
        redis_client.flushdb()
    for user in users[1:]:
        like_all([video], [user])
        services.record_view(event=services.ViewEvent(video, f"v{user}"))
        assert run_flush().repeated == 0
    assert list(Video.objects.values_list("like_count", "view_count", "flushed_batch")) == [(3, 2, 1002)]
    assert VideoLike.objects.count() == 3
    with CaptureQueriesContext(connection) as queries:
        run_flush()
    assert not any("MAX(" in query["sql"] and "videos_video" in query["sql"] for query in queries)


def test_likes_written_while_redis_is_away_show_after_the_next_flush() -> None:
    (video,), users = make_videos(1), make_users(3)
    services.set_like(video_id=video, user_id=users[0], liked=True)

    with redis_refusing():
        assert services.set_like(video_id=video, user_id=users[1], liked=True).stored
        assert services.set_like(video_id=video, user_id=users[0], liked=False).stored
        view = services.record_view(event=services.ViewEvent(video, "v"))
        assert (view.counted, view.views, view.stored) == (True, 1, True)
        assert services.read_counts(video_ids=[video], user_id=users[1]).by_video[video].liked is True
    run_flush()
    assert services.get_like(video_id=video, user_id=users[0]).liked is False
    assert services.get_like(video_id=video, user_id=users[1]) == (video, LIKE, Totals(1, 1), False)
    assert services.read_counts(video_ids=[video], user_id=None).by_video[video].totals.views == 1
    assert set(VideoLike.objects.values_list("user_id", flat=True)) == {users[1]}
    assert not StaleLive.objects.exists()


def test_live_forgets_a_write_that_the_database_loses_within_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    (video,), (user, other) = make_videos(1), make_users(2)
    services.set_like(video_id=video, user_id=user, liked=True)
    with redis_refusing():
        services.set_like(video_id=video, user_id=other, liked=True)
    finish = ledger.finish_batch

    def set_back(*args: Any, **options: Any) -> bool:
        if not options:  # the first time: the batch was applied, and live was set from the rows
            VideoLike.objects.all().delete()
            StaleLive.objects.all().delete()
            Video.objects.update(like_count=0, flushed_batch=0)
            FlushBatch.objects.update(taken=0)
        return finish(*args, **options)

    monkeypatch.setattr(ledger, "finish_batch", set_back)
    run_flush()
    assert Video.objects.get().like_count == 1
    assert services.read_counts(video_ids=[video], user_id=None).by_video[video].totals == Totals(1, 0)


def test_unlike_reaches_the_rows_though_redis_was_set_back_to_before_the_like(redis_client: redis.Redis) -> None:
    (video,), (user,) = make_videos(1), make_users(1)
    services.record_view(event=services.ViewEvent(video, "v"))
    live = f"{{videos:{counters.shard_of(video)}}}:live:{video}"
    saved: dict[Any, Any] = dict(redis_client.hgetall(live))
    services.set_like(video_id=video, user_id=user, liked=True)
    run_flush()
    redis_client.flushdb()
    redis_client.hset(live, mapping=saved)
    services.set_like(video_id=video, user_id=user, liked=False)
    run_flush()
    assert not VideoLike.objects.exists()


def test_views_of_a_video_while_redis_is_away_leave_one_note(redis_away: None) -> None:
    first, second = make_videos(2)
    for video in (first, first, second):
        services.record_view(event=services.ViewEvent(video, "v"))
    services.record_views(events=[services.ViewEvent(first, "v"), services.ViewEvent(second, "v")])
    assert sorted(StaleLive.objects.values_list("video_id", flat=True)) == sorted([first, second])


@pytest.mark.only("sqlite")
def test_notes_beyond_what_a_statement_takes_are_settled() -> None:
    (video,), users = make_videos(1), make_users(2)
    services.set_like(video_id=video, user_id=users[0], liked=True)
    run_flush()
    limits = {sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 16_000, sqlite3.SQLITE_LIMIT_SQL_LENGTH: 64_000}
    for limit, most in limits.items():
        connection.connection.setlimit(limit, most)
    StaleLive.objects.bulk_create(
        (StaleLive(video_id=video, user=users[0] + i, written_ms=1) for i in range(16_500)), batch_size=5000
    )
    assert run_flush().failures == {}
    assert {limit: connection.connection.getlimit(limit) for limit in limits} == limits
    assert not StaleLive.objects.exists()
    assert services.get_like(video_id=video, user_id=users[0]) == (video, LIKE, Totals(1), False)


@pytest.mark.only("mariadb", "mysql")
@pytest.mark.parametrize("rolled_back", [True, False])
def test_like_of_a_user_whose_deletion_is_not_committed_waits_for_its_end(rolled_back: bool) -> None:
    _, (user,) = make_likes()
    deleted = threading.Event()

    def delete() -> None:
        with contextlib.closing(connections["default"]), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("DELETE FROM auth_user WHERE id = %s", [user])
            deleted.set()
            time.sleep(0.5)
            transaction.set_rollback(rolled_back)

    deleter = threading.Thread(target=delete)
    deleter.start()
    assert deleted.wait(10)
    report = run_flush()
    deleter.join()
    assert (report.failures, report.sums["likes_added"], report.dropped) == ({}, rolled_back, not rolled_back)
    assert reconcile().differences == []


@pytest.mark.parametrize("drained", [True, False])
def test_another_number_of_shards_loses_nothing(drained: bool, settings: Any) -> None:
    videos, users = make_videos(40), make_users(6)
    run_flush()
    for user, shards in zip(users, (16, 5, 32, 3, 16, 16), strict=True):
        settings.VIDEOS_SHARDS = shards
        if drained:
            meeting.adopt()
        else:  # then nothing of this Redis is used: all goes to the rows
            assert set(run_flush().failures) == (set() if shards == 16 else set(range(shards)))
        like_all(videos, [user])
        services.record_views(events=[services.ViewEvent(video, f"v{user}") for video in videos])
        if drained:
            run_flush()
    run_flush()
    assert {video.like_count for video in Video.objects.all()} == {6}
    assert {video.view_count for video in Video.objects.all()} == {6}
    assert reconcile().differences == []
    check_batches()


def test_flush_session_is_put_back(database_kind: str) -> None:
    if database_kind == "sqlite":
        pytest.skip("SQLite has one level of isolation")

    def level() -> str:
        variable = "tx_isolation" if database_kind == "mariadb" else "transaction_isolation"
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT @@session.{variable}")
            return str(cursor.fetchone()[0])

    before = level()
    with ledger.flush_session():
        assert level() == "READ-UNCOMMITTED"
    assert level() == before
