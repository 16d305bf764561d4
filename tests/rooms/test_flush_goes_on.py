"""What waits holds up nothing else: locked rows, notes, shards whose flush died, sessions that were cut off.

Over 250 lines: most tests lock a row and then judge a whole flush, by the same helpers.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.db import connection, connections, transaction

from tests.support.factories import like_all, make_likes, make_users, make_videos
from tests.support.faults import failing
from tests.support.load import check_batches
from videos import counters, ledger, services
from videos.changes import Changes, Totals
from videos.counters import Batch
from videos.counters import connection as connection_to_redis
from videos.fields import field_names
from videos.flush import culprits, read_status, reconcile, run_flush, workers
from videos.ledger import notes, retry, sql
from videos.models import FlushBatch, SiteHour, StaleLive, TrendingVideo, Video, VideoHour, VideoLike

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]
with_row_locks = pytest.mark.only("mariadb", "mysql")


@contextlib.contextmanager
def locked(table: str, pk: int, *, every: bool = False) -> Iterator[None]:
    """Inside, another transaction holds this row, or `every` row above it."""
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with contextlib.closing(connections["default"]), transaction.atomic(), connection.cursor() as cursor:
            condition = "id > %s" if every else "id = %s"
            cursor.execute(f"SELECT id FROM {table} WHERE {condition} FOR UPDATE", [pk])  # noqa: S608
            held.set()
            over.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    try:
        yield
    finally:
        over.set()
        holder.join()


@pytest.fixture(autouse=True)
def short_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locked rows are tried again for a moment only."""
    monkeypatch.setattr(workers, "POSTPONED_SECONDS", 0.2)


@with_row_locks
def test_a_batch_locks_rows_of_its_own_videos_alone() -> None:
    """In a small table a scan costs less than a search. It would lock what another shard's flush then leaves out."""
    first, second, third = make_videos(3)
    held, over = threading.Event(), threading.Event()

    def write() -> None:
        with contextlib.closing(connections["default"]), connection.cursor() as cursor:
            # At this level every row that a statement reads stays locked until the end.
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            with transaction.atomic():
                sql.lock_videos([first, third])
                sql.add_counts({first: Totals(1, 1), third: Totals(1, 1)}, 5)
                held.set()
                over.wait(60)

    writer = threading.Thread(target=write)
    writer.start()
    assert held.wait(10)
    with transaction.atomic():
        free, locked_by_others = sql.lock_free_videos([first, second, third])
    over.set()
    writer.join()
    assert (set(free), set(locked_by_others)) == ({second}, {first, third})
    assert list(Video.objects.order_by("id").values_list("like_count", "flushed_batch")) == [(1, 5), (0, 0), (1, 5)]


@with_row_locks
@pytest.mark.parametrize("gentle_seconds", [0.0, 2.0])
def test_locked_row_holds_up_its_video_and_not_its_shard(gentle_seconds: float, settings: Any) -> None:
    settings.VIDEOS_SHARDS = 1
    videos, users = make_likes(20, 2)
    services.record_views(events=[services.ViewEvent(video, "v") for video in videos])
    with locked("videos_video", videos[7]):
        for viewer in ("w", "x"):  # the second run claims what came after the first one
            begin = time.monotonic()
            report = run_flush(gentle_seconds=gentle_seconds)
            assert time.monotonic() - begin < gentle_seconds + 2
            assert (report.failures, report.postponed) == ({}, 1)
            assert Video.objects.filter(like_count=2).count() == 19
            services.record_views(events=[services.ViewEvent(video, viewer) for video in videos])
            services.set_like(video_id=videos[7], user_id=users[0], liked=viewer == "x")
        assert Video.objects.filter(view_count=2).count() == 19
        assert services.read_counts(video_ids=videos, user_id=None).by_video[videos[7]].totals == Totals(2, 3)
    assert run_flush().postponed == 0
    assert set(Video.objects.values_list("like_count", "view_count")) == {(2, 3)}
    assert reconcile().differences == []
    check_batches()


@with_row_locks
def test_locked_row_of_a_user_holds_up_the_videos_that_the_user_likes(settings: Any) -> None:
    settings.VIDEOS_SHARDS = 1
    videos, users = make_videos(6), make_users(2)
    like_all(videos, users[:1])
    services.set_like(video_id=videos[2], user_id=users[1], liked=True)
    with locked("auth_user", users[1]):
        report = run_flush()
        assert (report.failures, report.postponed) == ({}, 1)
        assert set(Video.objects.filter(like_count=1).values_list("id", flat=True)) == set(videos) - {videos[2]}
    run_flush()
    assert VideoLike.objects.count() == 7
    check_batches()


@with_row_locks
def test_short_lock_costs_no_second_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "POSTPONED_SECONDS", 10.0)
    (video,), _ = make_likes()
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked("videos_video", video))
        threading.Timer(0.3, stack.pop_all().close).start()
        report = run_flush()
    assert (report.failures, report.postponed, Video.objects.get().like_count) == ({}, 0, 1)


@with_row_locks
def test_row_that_is_locked_while_culprits_are_sought_costs_no_good_field(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    (video,), _ = make_likes()
    Video.objects.filter(pk=video).update(view_count=2**63 - 11)
    pending = f"{{videos:{counters.shard_of(video)}}}:pending"
    redis_client.hset(pending, mapping={f"v:{video}:480000": "5", f"v:{video}:480001": "1000"})
    apply, trials = ledger.apply, 0

    def lock_in_trials(*chunk: Any, commit: bool = True, **options: Any) -> Any:
        nonlocal trials
        trials += not commit
        with contextlib.ExitStack() as stack:
            if not commit and trials in {4, 5}:
                stack.enter_context(locked("videos_video", video))
            return apply(*chunk, commit=commit, **options)

    monkeypatch.setattr(workers, "POSTPONED_SECONDS", 10.0)
    monkeypatch.setattr(ledger, "apply", lock_in_trials)
    report = run_flush()
    assert trials > 5  # the search began anew
    assert (report.failures, report.postponed, report.rejected) == ({}, 0, 1)
    assert Video.objects.values_list("like_count", "view_count").get() == (1, 2**63 - 6)
    check_batches()


def remember_moves(patch: pytest.MonkeyPatch) -> list[tuple[Batch, dict[int, Changes]]]:
    """What flushes move from now on: a flush that slept would do it again."""
    moved: list[tuple[Batch, dict[int, Changes]]] = []
    move = culprits.Mover.move

    def remember(mover: culprits.Mover, chunk: dict[int, Changes], **options: Any) -> bool:
        moved.append((mover.batch, chunk))
        return move(mover, chunk, **options)

    patch.setattr(culprits.Mover, "move", remember)
    return moved


@with_row_locks
def test_flush_that_slept_does_not_apply_what_went_back_to_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    (video,) = make_videos(1)
    services.record_view(event=services.ViewEvent(video, "v"))
    slept = remember_moves(monkeypatch)
    with locked("videos_video", video):
        run_flush()
    batch, chunk = slept[0]
    outcomes, _ = ledger.apply(batch, chunk)
    assert outcomes[video].postponed
    newest, chunk = slept[-1]
    assert newest.give_back(video, field_names(video, chunk[video]))  # they went back already
    run_flush()
    assert Video.objects.get().view_count == 1


@with_row_locks
@pytest.mark.parametrize("first", ["flush that slept", "next batch"])
def test_postponed_fields_count_once_where_the_database_forgot_that_they_were(
    first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (video,), (user,) = make_likes()
    services.record_view(event=services.ViewEvent(video, "v"))
    monkeypatch.setattr(workers, "POSTPONED_SECONDS", 0.0)
    with locked("videos_video", video), monkeypatch.context() as patch:
        slept = remember_moves(patch)
        assert run_flush().postponed == 1
    ((batch, chunk),) = slept
    services.set_like(video_id=video, user_id=user, liked=False)
    services.set_like(video_id=video, user_id=user, liked=True)
    services.set_like(video_id=video, user_id=user, liked=False)
    if first == "next batch":
        run_flush()
    FlushBatch.objects.filter(number=batch.number).update(postponed=[])
    ledger.apply(batch, chunk)
    run_flush()
    assert Video.objects.get().totals == Totals(0, 1) == counters.lookup([video], None)[video].totals
    assert reconcile().differences == []


@with_row_locks
@pytest.mark.parametrize("newer", ["none", "unfinished", "postponed too", "covers it"])
def test_postponed_fields_outlive_a_redis_that_comes_back_within_their_batch(
    newer: str, redis_client: redis.Redis, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VIDEOS_SHARDS = 1
    videos, users = make_likes(2, 2)
    held, other = videos
    services.record_views(events=[services.ViewEvent(video, "v") for video in videos])
    images: list[dict[Any, Any]] = []
    give_back = Batch.give_back

    def remember(*args: Any) -> bool:
        images.append({key: redis_client.dump(key) for key in redis_client.scan_iter()})
        return give_back(*args)

    monkeypatch.setattr(workers, "POSTPONED_SECONDS", 0.0)
    with locked("videos_video", held), monkeypatch.context() as patch:
        patch.setattr(Batch, "give_back", remember)
        run_flush()
        if newer in {"unfinished", "postponed too"}:
            services.record_view(event=services.ViewEvent(other, "w"))
            run_flush()
    if newer == "covers it":
        run_flush()
        services.set_like(video_id=held, user_id=users[0], liked=False)
        run_flush()
    elif newer == "unfinished":
        FlushBatch.objects.filter(number=2).update(finished_at=None)
    for key in redis_client.scan_iter():
        redis_client.delete(key)
    for key, image in images[0].items():
        redis_client.restore(key, 0, image)
    redis_client.hset("{videos:0}:batch", "met", "another run")
    connection_to_redis.meet("", again=True)
    assert run_flush().failures == {}
    expected = Totals(1 if newer == "covers it" else 2, 1)
    shown = services.read_counts(video_ids=[held], user_id=None).by_video[held].totals
    assert Video.objects.get(pk=held).totals == expected == shown
    assert Video.objects.get(pk=other).totals == Totals(2, 2 if newer in {"unfinished", "postponed too"} else 1)
    assert reconcile().differences == []


@with_row_locks
def test_replay_takes_in_the_other_videos_of_a_batch_with_a_locked_row(settings: Any) -> None:
    settings.VIDEOS_SHARDS = 1
    videos = make_videos(2)
    services.record_views(events=[services.ViewEvent(video, "v") for video in videos])
    run_flush()
    for model in (FlushBatch, VideoHour, SiteHour, TrendingVideo):  # the database is set back
        model.objects.all().delete()
    Video.objects.update(view_count=0, flushed_batch=0)
    with locked("videos_video", videos[0]):
        assert "The rows of 1 videos are locked" in run_flush().failures[0]
        assert dict(Video.objects.values_list("id", "view_count")) == {videos[0]: 0, videos[1]: 1}
    report = run_flush()
    assert (report.failures, report.replayed) == ({}, 1)
    assert list(Video.objects.values_list("view_count", flat=True)) == [1, 1]
    check_batches()


@with_row_locks
def test_many_locked_videos_are_all_postponed(settings: Any) -> None:
    settings.VIDEOS_SHARDS = 1
    videos = make_videos(1200)
    services.record_views(events=[services.ViewEvent(video, "v") for video in videos])
    with locked("videos_video", 0, every=True):
        report = run_flush()
    assert (report.failures, report.postponed) == ({}, 1200)
    assert (run_flush().failures, set(Video.objects.values_list("view_count", flat=True))) == ({}, {1})
    check_batches()


@with_row_locks
def test_run_that_died_after_a_video_was_postponed_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    (video,), (user,) = make_likes()
    services.record_view(event=services.ViewEvent(video, "v"))
    with locked("videos_video", video), monkeypatch.context() as patch:
        patch.setattr(Batch, "give_back", failing(ZeroDivisionError()))
        with pytest.raises(ZeroDivisionError):
            run_flush()
    services.set_like(video_id=video, user_id=user, liked=False)
    assert run_flush().failures == {}
    assert Video.objects.get().totals == Totals(0, 1) == counters.lookup([video], None)[video].totals
    check_batches()


def leave_notes(videos: int, users: int) -> list[int]:
    """Notes of all these users on all these videos, as a deleted user or an outage leaves them."""
    video_ids, user_ids = make_videos(videos), make_users(users)
    StaleLive.objects.bulk_create(
        (StaleLive(video_id=video, user=user, written_ms=1) for video in video_ids for user in user_ids),
        batch_size=5000,
    )
    return video_ids


def test_notes_are_settled_hundreds_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_notes(40, 30)
    calls: list[int] = []
    resync = counters.resync

    def count(**arguments: Any) -> set[int]:
        calls.append(sum(len(changed.marks) for changed in arguments["stale"].values()))
        return resync(**arguments)

    monkeypatch.setattr(counters, "resync", count)
    report = run_flush(shards=[0, 1])
    assert (report.failures, StaleLive.objects.count()) == ({}, 1200 - report.notes)
    assert (sum(calls), len(calls)) == (report.notes, 2)
    assert run_flush().notes == 1200 - report.notes


def test_one_video_with_more_notes_than_a_chunk_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "SETTLE_NOTES", 40)
    (video,) = leave_notes(1, 100)
    VideoLike.objects.create(video_id=video, user_id=make_users(1, "liker")[0])
    Video.objects.update(like_count=1)
    report = run_flush()
    assert (report.settled, report.notes, StaleLive.objects.count()) == (3, 100, 0)
    assert counters.lookup([video], None)[video].totals == Totals(1, 0)


@pytest.mark.parametrize("budget", [{"max_seconds": 0.000_001}, {"gentle_seconds": 0.000_001}, {}])
def test_all_shards_are_flushed_before_notes_are_settled_in_what_is_left_of_the_time(
    budget: dict[str, Any], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "SETTLE_NOTES", 10)
    leave_notes(32, 10)
    settings.VIDEOS_FLUSH_INTERVAL_SECONDS = 60 if budget else 0.000_001
    settings.VIDEOS_FLUSH_THREADS = 1
    if "max_seconds" not in budget:
        for video in Video.objects.all():
            services.record_view(event=services.ViewEvent(video.pk, "v"))
    report = run_flush(**budget)
    assert (report.failures, report.complete, report.notes) == ({}, False, 10)
    assert report.sums["views"] == (0 if "max_seconds" in budget else 32)


@with_row_locks
def test_locked_row_holds_up_its_notes_only(settings: Any) -> None:
    settings.VIDEOS_SHARDS = 1
    videos = leave_notes(5, 2)
    with locked("videos_video", videos[2]):
        report = run_flush()
        assert (report.failures, report.settled, StaleLive.objects.count()) == ({}, 4, 2)
    assert run_flush().settled == 1


def test_second_run_over_other_shards_that_died_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    videos, (user,) = make_videos(16), make_users(1)
    now, late = counters.now_ms(), []
    like_all(videos, [user])
    run_flush()
    for interval in range(5):
        at_ms = now + interval * 60_000
        monkeypatch.setattr(counters, "now_ms", lambda at_ms=at_ms: at_ms)
        FlushBatch.objects.filter(shard__lt=8).delete()  # beats alone must tell
        for video in videos:
            services.record_view(event=services.ViewEvent(video, f"v{interval}"))
        late.append([shard.shard for shard in read_status().shards if shard.late])
        assert run_flush(shards=range(8)).failures == {}
    assert late == [[], [], [], [], list(range(8, 16))]


@with_row_locks
def test_session_that_was_cut_off_in_a_transaction_frees_its_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "IDLE_SECONDS", 1)
    (video,), _ = make_likes()
    opened, over = threading.Event(), threading.Event()

    def hang() -> None:
        """Like a process that was stopped: nothing comes any more, and nothing ends the connection."""
        with contextlib.closing(connections["default"]):
            with contextlib.suppress(Exception), ledger.flush_session(), transaction.atomic():
                Video.objects.select_for_update().get(pk=video)
                opened.set()
                over.wait(30)
                Video.objects.get(pk=video)

    thread = threading.Thread(target=hang)
    thread.start()
    assert opened.wait(10)
    assert run_flush().postponed == 1
    time.sleep(2)
    report = run_flush()
    over.set()
    thread.join()
    assert (report.postponed, Video.objects.get().like_count) == (0, 1)
