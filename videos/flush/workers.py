"""One run of the flush: threads that share its shards."""

import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final

import django.db

from videos import counters, ledger
from videos.changes import moment
from videos.conf import conf
from videos.flush.facts import refresh_facts
from videos.flush.pace import Pace, lower_priority
from videos.flush.replay import foresee
from videos.flush.run import ClosedBatch, FlushReport, Foreseen, GentleTimeOver, Run, Stopped
from videos.flush.shard import ShardFlush

logger = logging.getLogger(__name__)

POSTPONED_SECONDS: Final = 5.0  # for which locked rows are tried again
POSTPONED_PAUSE_SECONDS: Final = 0.05  # before the first time; it doubles

Progress = Callable[[int, int, FlushReport], None]


def run_flush(
    *,
    shards: Iterable[int] | None = None,
    max_seconds: float | None = None,
    gentle_seconds: float = 0.0,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_batch: Callable[[ClosedBatch], None] | None = None,
) -> FlushReport:
    """Flush the given shards (all by default) once. `progress(done, total, report)` is called between chunks.

    `on_batch(batch)` is called after each batch that this run has ended. Callbacks are never called at the same time.
    VIDEOS_FLUSH_THREADS threads share the shards, among them the caller's. A run with `gentle_seconds` has one
    low-priority thread, which takes small chunks and rests after each piece of work as long as this time allows; after
    that time the caller's thread continues at normal priority.

    A shard that fails does not stop the others; `report.failures` has the reason. A video whose row is locked holds up
    no other one. Notes are settled after all shards, until half of the flush's interval is over. The run ends between
    chunks when `should_stop()` is true, or when `max_seconds` have passed and it has moved a chunk or a shard failed.
    """
    report = FlushReport()
    begin = time.monotonic()
    chosen = list(range(conf.SHARDS) if shards is None else shards)
    if max_seconds is not None and chosen:
        # Runs that always end early would never reach the last shards: so start at a random one.
        first = random.randrange(len(chosen))
        chosen = chosen[first:] + chosen[:first]
    pace = Pace(seconds=gentle_seconds, waiting=_waiting(chosen)) if gentle_seconds else None
    run = Run(report, max_seconds, pace, should_stop, on_batch, begin)
    run.foreseen.update(_foresee(chosen))
    Workers(run, chosen, progress).work(ShardFlush.flush)
    _flush_postponed(run)
    _finish(run, chosen)
    report.seconds = round(time.monotonic() - begin, 3)
    return report


def _flush_postponed(run: Run) -> None:
    """Flush shards again in which rows were locked: most locks are short."""
    begin, pause = time.monotonic(), POSTPONED_PAUSE_SECONDS
    while run.postponed and run.report.complete and time.monotonic() < begin + POSTPONED_SECONDS:
        time.sleep(pause)
        pause *= 2
        shards = list(run.postponed)
        run.postponed.clear()
        for shard in shards:
            run.report.failures.pop(shard, None)  # a replay fails for a locked row
        Workers(run, shards).work(ShardFlush.flush)
    run.report.postponed = sum(run.postponed.values())


def _finish(run: Run, chosen: Collection[int]) -> None:
    """Record what was flushed, settle notes, keep house."""
    report, flushed_all = run.report, run.report.complete and not run.report.failed
    try:
        counters.note_beats(run.flushed, counters.now_ms())
    except counters.CountersUnavailable as error:
        logger.warning("Health takes the flush for older than it is: %s", error)
    if report.complete:
        _settle(run)
    if flushed_all and not report.failed and 0 in chosen:  # if several runs share the shards, one of them does
        keep_house()


def _settle(run: Run) -> None:
    """Refresh what Redis knows of live videos' owners and durations, then settle notes, in shards that have some."""
    shards = list(run.flushed)
    noted: set[int] = set()

    def look(first: ShardFlush) -> None:
        refresh_facts(run, shards, first.pause_point)
        noted.update(ledger.shards_with_notes(conf.SHARDS))

    Workers(run, shards[:1]).work(look)
    Workers(run, [shard for shard in shards if shard in noted]).work(ShardFlush.settle)


def _foresee(shards: Collection[int]) -> dict[int, Foreseen]:
    """What the first steps of all shards need, in three round trips; each shard reads it itself if that fails."""
    try:
        return foresee(shards)
    except counters.CountersUnavailable:
        return {}
    except django.db.Error as error:
        logger.warning("The flush connects anew: %s", error)  # a connection that the server has ended fails no shard
        ledger.disconnect()
        return {}


class Workers:
    """Threads that take shards from one queue. While one waits for a server, another computes."""

    def __init__(self, run: Run, shards: Sequence[int], progress: Progress | None = None) -> None:
        self.run = run
        self.progress = progress
        self.left = deque(shards)
        self.total = len(shards)
        self.done = 0
        one_at_a_time = run.pace is not None or ledger.has_one_writer()
        self.threads = 1 if one_at_a_time else min(conf.FLUSH_THREADS, self.total)

    def work(self, act: Callable[[ShardFlush], object]) -> None:
        """Call `act` for each shard, until the run must end. A shard that fails does not stop the others."""
        low_priority = self._may_lower_priority()
        helpers = 1 if low_priority else self.threads - 1
        if helpers <= 0:
            self._take_shards(act, low_priority=False)
            return
        with ThreadPoolExecutor(helpers, "flush", lower_priority if low_priority else None) as pool:
            helping = [pool.submit(self._help, act, low_priority=low_priority) for _ in range(helpers)]
            try:
                if low_priority:
                    wait(helping)
                self._take_shards(act, low_priority=False)
            except BaseException:
                self.run.crashed.set()
                raise
            for helper in helping:
                helper.result()

    def _may_lower_priority(self) -> bool:
        # With one writer at a time, all others would wait for a transaction whose thread gets no CPU.
        return self.run.pace is not None and not self.run.gentle_time_over.is_set() and not ledger.has_one_writer()

    def _help(self, act: Callable[[ShardFlush], object], *, low_priority: bool) -> None:
        try:
            self._take_shards(act, low_priority=low_priority)
        except BaseException:
            self.run.crashed.set()
            raise
        finally:
            django.db.connections.close_all()  # this thread's own

    def _take_shards(self, act: Callable[[ShardFlush], object], *, low_priority: bool) -> None:
        run = self.run

        def pause_point() -> None:
            self._show_progress()
            run.check_time(low_priority=low_priority)

        while self.left:
            # One session for many shards. A failure ends it, because it breaks the connection.
            with contextlib.ExitStack() as session:
                try:
                    self._take_in_session(act, session, pause_point, low_priority=low_priority)
                except Stopped:
                    run.report.complete = False
                    return
                except GentleTimeOver:
                    return

    def _take_in_session(
        self,
        act: Callable[[ShardFlush], object],
        session: contextlib.ExitStack,
        pause_point: Callable[[], None],
        *,
        low_priority: bool,
    ) -> None:
        """Take shards until none is left, or one fails."""
        run, is_open = self.run, False
        while self.left:
            try:
                shard = self.left.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                run.check_time(low_priority=low_priority)
                if not is_open:
                    session.enter_context(ledger.flush_session(None if run.pace is None else run.pace.rest))
                    is_open = True
                act(ShardFlush(run, shard, pause_point))
            except GentleTimeOver:
                self.left.appendleft(shard)
                raise
            except (counters.CountersUnavailable, django.db.Error) as error:
                run.report.failures[shard] = f"{type(error).__name__}: {error}"
                logger.exception("Shard %s failed; what it had claimed stays for the next run", shard)
                session.close()
                ledger.disconnect()
                self._show_progress(done=1)
                return
            self._show_progress(done=1)

    def _show_progress(self, *, done: int = 0) -> None:
        if self.progress is not None:
            with self.run.lock:
                self.done += done
                self.progress(self.done, self.total, self.run.report)


def _waiting(shards: Collection[int]) -> int:
    """How many fields and notes wait in these shards, if notes are spread evenly."""
    try:
        depths = counters.depths()
        notes = ledger.note_total() * len(shards) // len(depths)
        return notes + sum(depth.pending + depth.claimed for shard, depth in enumerate(depths) if shard in shards)
    except (counters.CountersUnavailable, django.db.Error):
        return 0  # each shard will fail and report the reason


def keep_house() -> None:
    """Record that a run finished; remove keys of deleted users; once an hour delete old rows and merge old hours."""
    try:
        now_ms = counters.now_ms()
        now, before = moment(now_ms), counters.note_finished_run(now_ms)
        if before is None or moment(before).hour != now.hour:
            ledger.prune(now=now)
        if gone := ledger.forgotten_users(now):
            counters.forget_users(set(gone))
            ledger.settle_forgotten(gone, now)
    except (counters.CountersUnavailable, django.db.Error) as error:
        # The counts are written: failed housekeeping does not make the run fail.
        logger.warning("Housekeeping after the flush: %s", error)
