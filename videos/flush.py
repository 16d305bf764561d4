"""The clock corridor: claim -> apply -> confirm, shard by shard; and reconcile.

For each shard: read the floor of batch numbers, claim what is pending (or find the batch that an interrupted run
left), make the claim durable, bring it to the database chunk by chunk, confirm each chunk, close the batch, settle
the notes of what was written outside batches. A run may die anywhere and any number of runs may overlap: claims and
confirms are guarded by the batch's number in Redis, rows by their watermark in the database.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import django.db

from videos import counters, ledger
from videos.conf import conf
from videos.counters import Confirmation
from videos.ledger import Changes, LikeChange, ViewChange
from videos.pace import Pace, give_way

logger = logging.getLogger(__name__)

MAX_ID = 2**63 - 1
MAX_VIEWS = 2**53  # of one field: beyond it Lua's numbers are not exact
MAX_HOUR = 8_000 * 8_766  # the year 9970, in hours since 1970: a date that every database holds
MAX_MS = MAX_HOUR * 3_600_000
PASSES = 3  # over one claimed batch, should fields be left
RECONCILE_VIDEOS = 500  # rows locked at a time
# Of a gentle run: a piece of its work is short, and it rests while a chunk's rows are locked.
GENTLE_CHUNK_FIELDS = 100
GENTLE_READ_FIELDS = 100


class _Stopped(Exception):
    """Out of time, or told to stop: the next run goes on."""


class _Hurried(Exception):
    """The time of a gentle run is over: another thread goes on, which gives way to nobody."""


@dataclass(slots=True)
class FlushReport:
    """What a run of the flush moved, over all of its shards."""

    batches: int = 0
    fields: int = 0
    applied: int = 0
    repeated: int = 0
    dropped: int = 0
    rejected: int = 0
    videos: int = 0
    likes_added: int = 0
    likes_removed: int = 0
    views: int = 0
    rewound: int = 0
    settled: int = 0  # notes of what was written while Redis was away
    seconds: float = 0.0
    complete: bool = True  # False when the time budget or a stop ended the run early
    failures: dict[int, str] = field(default_factory=dict)  # shard -> why

    @property
    def failed(self) -> bool:
        """Whether a shard failed; what it had claimed stays for the next run."""
        return bool(self.failures)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ClosedBatch:
    """A batch of which every field is accounted for; `seconds` since its claim, by whichever run that was."""

    shard: int
    number: int
    fields: int
    applied: int
    repeated: int
    dropped: int
    rejected: int
    rewound: bool
    seconds: float


@dataclass(slots=True)
class ReconcileReport:
    """What a recount found: a row a difference `{video, column, stored, counted, repaired}`."""

    videos: int = 0
    differences: list[dict[str, Any]] = field(default_factory=list)
    repaired: int = 0
    absent: list[int] = field(default_factory=list)  # of the videos asked for, those that do not exist


@dataclass(frozen=True, slots=True)
class FlushStatus:
    """What health and metrics tell of the flush."""

    last_finished_seconds: float | None  # since a batch was last finished, or a run found nothing to do; None: never
    pending_fields: int
    claimed_fields: int
    rejected_fields: int
    stale_notes: int
    rewound_batches: int
    late: bool  # of some shard nothing was finished for three intervals although something is pending


def run_flush(
    *,
    shards: Iterable[int] | None = None,
    max_seconds: float | None = None,
    gentle_seconds: float = 0.0,
    progress: Callable[[int, int, FlushReport], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_batch: Callable[[ClosedBatch], None] | None = None,
) -> FlushReport:
    """Flush the given shards (all by default) once. `progress(done, total, report)` is called after each chunk.

    `on_batch(batch)` is called after each batch that this run closed; one call is made at a time. VIDEOS_FLUSH_THREADS
    threads share the shards, the caller's among them. A run with `gentle_seconds` has one at a time, which takes small
    chunks, rests after each piece of work as long as this time allows, and lets all others compute first until the time
    is over, so that requests served by the same machine hardly feel it.

    One shard's failure does not stop the others: it is in `report.failures`. Ends between chunks when `max_seconds` are
    over, but not before one chunk is moved or a shard has failed, or when `should_stop()` is true.
    """
    begin = time.monotonic()
    total = _shard_total()
    chosen = list(range(total) if shards is None else shards)
    if max_seconds is not None and chosen:
        # Begin anywhere: else runs that are always too short never come to the last shards.
        first = random.randrange(len(chosen))
        chosen = chosen[first:] + chosen[:first]
    report = FlushReport()
    threads = 1 if gentle_seconds or ledger.has_one_writer() else conf.FLUSH_THREADS
    try:
        left = counters.left_open(range(total))
    except counters.CountersUnavailable as error:
        report.failures = dict.fromkeys(chosen, f"{type(error).__name__}: {error}")
    else:
        pace = Pace(seconds=gentle_seconds, waiting=_waiting_fields(chosen)) if gentle_seconds else None
        run = _Run(report, begin, max_seconds, pace, progress, should_stop, on_batch, threads)
        # A video's watermark must not pass a batch in which it still is: no number is minted before these are done.
        run.over(list(left), lambda flush: flush.finish(left[flush.shard]))
        if report.complete and not report.failed:
            run.over(chosen, _ShardFlush.run)
    if not report.failed and report.complete and 0 in chosen:  # one of several runs that share the shards
        _finish_run()
    report.seconds = round(time.monotonic() - begin, 3)
    return report


def _shard_total() -> int:
    try:
        return counters.shard_total()
    except counters.CountersUnavailable:
        return conf.SHARDS  # each of them will say what is wrong


def _waiting_fields(shards: Collection[int]) -> int:
    try:
        depths = enumerate(counters.depths())
        return sum(depth.pending + depth.claimed for shard, depth in depths if shard in shards)
    except counters.CountersUnavailable:
        return 0  # the shard that is to blame will say so


def _finish_run() -> None:
    try:
        now = datetime.now(UTC)
        before = counters.beat(counters.now_ms())
        if before is None or datetime.fromtimestamp(before / 1000, UTC).hour != now.hour:
            ledger.prune(now=now)
    except (counters.CountersUnavailable, django.db.Error) as error:
        # The counts are in: housekeeping that failed is no reason to call the run failed.
        logger.warning("Housekeeping after the flush: %s", error)


class _Queue:
    """Shards that are still to be done, for threads to take from."""

    def __init__(self, shards: Sequence[int]) -> None:
        self.total = len(shards)
        self.done = 0
        self._left = deque(shards)

    def take(self) -> int | None:
        """The next; None where there is none."""
        try:
            return self._left.popleft()
        except IndexError:
            return None

    def put_back(self, shard: int) -> None:
        """It is the next again."""
        self._left.appendleft(shard)


@dataclass(frozen=True, slots=True)
class _Run:
    """What the shards of a run share."""

    report: FlushReport
    begin: float
    max_seconds: float | None
    pace: Pace | None  # of a gentle run
    progress: Callable[[int, int, FlushReport], None] | None
    should_stop: Callable[[], bool]
    on_batch: Callable[[ClosedBatch], None] | None
    threads: int
    lock: threading.Lock = field(default_factory=threading.Lock)  # held to change the report and to tell of it
    ended: threading.Event = field(default_factory=threading.Event)  # something unforeseen was raised
    hurried: threading.Event = field(default_factory=threading.Event)  # the time of a gentle run was over

    def over(self, shards: Sequence[int], act: Callable[[_ShardFlush], object]) -> None:
        """Do it shard by shard, until the time is up; one that fails does not stop the others.

        While one thread waits for the database, another one's shard is worked out: a flush is half waiting. A gentle
        run's only thread gives way to all others, but for the last that its time is over.
        """
        queue = _Queue(shards)
        gives_way = self._gives_way()
        helpers = 1 if gives_way else min(self.threads, len(shards)) - 1
        if helpers <= 0:
            self._work(queue, act)
            return
        with ThreadPoolExecutor(helpers, "flush", give_way if gives_way else None) as pool:
            helping = [pool.submit(self._help, queue, act) for _ in range(helpers)]
            try:
                if gives_way:
                    wait(helping)
                self._work(queue, act)
            except BaseException:
                self.ended.set()
                raise
            for helper in helping:
                helper.result()

    def _gives_way(self) -> bool:
        # Where one writes at a time, others would have to wait for the one who waits for them.
        return self.pace is not None and not self.hurried.is_set() and not ledger.has_one_writer()

    def _help(self, queue: _Queue, act: Callable[[_ShardFlush], object]) -> None:
        try:
            self._work(queue, act)
        except BaseException:
            self.ended.set()
            raise
        finally:
            django.db.connections.close_all()  # this thread's own

    def _work(self, queue: _Queue, act: Callable[[_ShardFlush], object]) -> None:
        while (shard := queue.take()) is not None:
            try:
                self.pause_point()
                with ledger.flush_session(None if self.pace is None else self.pace.rest):
                    act(_ShardFlush(self, shard, lambda: self.tell(queue)))
            except _Stopped:
                self.report.complete = False
                return
            except _Hurried:
                queue.put_back(shard)
                return
            except (counters.CountersUnavailable, django.db.Error) as error:
                self.report.failures[shard] = f"{type(error).__name__}: {error}"
                logger.exception("Shard %s failed; what it had claimed stays for the next run", shard)
                django.db.connection.close()
            self.tell(queue, done=1)

    def count(self, **sums: int) -> None:
        """Add to the report."""
        with self.lock:
            for name, number in sums.items():
                setattr(self.report, name, getattr(self.report, name) + number)

    def tell(self, queue: _Queue, *, done: int = 0) -> None:
        if self.progress is not None:
            with self.lock:
                queue.done += done
                self.progress(queue.done, queue.total, self.report)

    def tell_closed(self, batch: ClosedBatch) -> None:
        if self.on_batch is not None:
            with self.lock:
                self.on_batch(batch)

    def pause_point(self) -> None:
        late = self.max_seconds is not None and time.monotonic() - self.begin >= self.max_seconds
        report = self.report
        if self.ended.is_set() or self.should_stop() or (late and (report.fields or report.settled or report.failures)):
            raise _Stopped
        if self.pace is not None and self.pace.is_over() and self._gives_way():
            self.hurried.set()
            raise _Hurried

    def rest(self) -> None:
        """After each piece of work: rest, if this is a gentle run."""
        if self.pace is not None:
            self.pace.rest()

    def chunks(self, changes: dict[int, Changes]) -> Iterator[dict[int, Changes]]:
        """The chunks to move."""
        pace = self.pace
        for chunk in _chunks(changes, conf.FLUSH_CHUNK_FIELDS if pace is None else GENTLE_CHUNK_FIELDS):
            self.pause_point()
            moved, worked = self.report.fields, 0.0 if pace is None else pace.worked()
            yield chunk
            if pace is not None:
                pace.moved(self.report.fields - moved, pace.worked() - worked)


class _ShardFlush:
    """One run over one shard."""

    def __init__(self, whole: _Run, shard: int, tell: Callable[[], None]) -> None:
        self.whole = whole
        self.shard = shard
        self.tell = tell

    def run(self) -> None:
        while True:
            self.whole.pause_point()
            at_ms = counters.now_ms()
            floor, newest = ledger.newest_batch(self.shard)
            claim = counters.claim(shard=self.shard, floor=floor, newest=newest, at_ms=at_ms)
            if claim.number and not self.finish(claim):
                return  # another flusher has moved on
            self._settle(claim.last)
            if not claim.number or claim.claimed_ms == at_ms:
                return
            # The batch was an interrupted run's; what has gathered since comes next.

    def finish(self, claim: counters.Claim) -> bool:
        counters.make_durable()
        if claim.rewound:
            logger.error(
                "Shard %s: Redis had forgotten batches up to %s; it was rewound or replaced. Likes stay exact, views "
                "since its last save may be off.",
                self.shard,
                claim.number - 1,
            )
        ledger.open_batch(
            shard=self.shard,
            number=claim.number,
            claimed_ms=claim.claimed_ms,
            fields=claim.fields,
            rewound=claim.rewound,
        )
        for _ in range(PASSES):
            changes: dict[int, Changes] = {}
            malformed: list[bytes] = []
            at_once = GENTLE_READ_FIELDS if self.whole.pace else counters.READ_FIELDS
            for part in counters.claimed(shard=self.shard, number=claim.number, at_once=at_once):
                if part is None:
                    return False
                _sort_in(part, changes, malformed)
                self.whole.rest()
            if malformed and not self._confirm(claim.number, _rejections(malformed, changes)):
                return False
            for chunk in self.whole.chunks(changes):
                if not self._move(claim.number, chunk):
                    return False
                self.tell()
            sums = counters.close(shard=self.shard, number=claim.number, end=False)
            if sums is not None:
                ledger.finish_batch(shard=self.shard, number=claim.number, **sums._asdict())
                counters.close(shard=self.shard, number=claim.number, end=True)
                self._tell_closed(claim, sums)
                return True
        return False

    def _tell_closed(self, claim: counters.Claim, sums: counters.Sums) -> None:
        self.whole.count(batches=1, rewound=claim.rewound)
        seconds = round((counters.now_ms() - claim.claimed_ms) / 1000, 3)
        counted = sums._asdict() | {"rewound": claim.rewound, "seconds": seconds}
        self.whole.tell_closed(ClosedBatch(shard=self.shard, number=claim.number, fields=sum(sums), **counted))

    def _move(self, number: int, chunk: dict[int, Changes], *, again: bool = False) -> bool:
        """Apply a chunk and confirm it; one that the database will not take is split until the culprit stands alone."""
        try:
            outcomes, sums = ledger.apply(shard=self.shard, number=number, changes=chunk)
        except Exception as error:
            if not ledger.is_data_fault(error):
                raise
            if len(chunk) > 1:
                video_ids = sorted(chunk)
                half = len(video_ids) // 2
                return all(
                    self._move(number, {video_id: chunk[video_id] for video_id in part})
                    for part in (video_ids[:half], video_ids[half:])
                )
            return self._move_without_culprits(number, chunk, error, again=again)
        self.whole.count(**sums._asdict())
        return self._confirm(
            number, [_confirmation(video_id, chunk[video_id], outcomes[video_id]) for video_id in chunk]
        )

    def _move_without_culprits(self, number: int, chunk: dict[int, Changes], error: Exception, *, again: bool) -> bool:
        """Reject what the database will not take of one video, then apply the rest in one transaction.

        In this order: once the rest has set the row's watermark, a flusher that finds the culprits takes them for
        applied.
        """
        ((video_id, changes),) = chunk.items()
        culprits = self._culprits(number, video_id, changes)
        if not len(culprits):
            if not again:
                return self._move(number, chunk, again=True)  # the fault has passed
            culprits = changes  # it comes with the commit only
        logger.error("Shard %s, video %s: rejected %s fields: %s", self.shard, video_id, len(culprits), error)
        bad_likes, bad_views = set(culprits.likes), set(culprits.views)
        rest = Changes(
            (like for like in changes.likes if like not in bad_likes),
            (view for view in changes.views if view not in bad_views),
        )
        rejection = _rejection(video_id, _fields(video_id, culprits), live_stays=len(rest) > 0)
        return self._confirm(number, [rejection]) and (not len(rest) or self._move(number, {video_id: rest}))

    def _culprits(self, number: int, video_id: int, changes: Changes) -> Changes:
        try:
            ledger.apply(shard=self.shard, number=number, changes={video_id: changes}, commit=False)
        except Exception as error:
            if not ledger.is_data_fault(error):
                raise
        else:
            return Changes()
        if len(changes) == 1:
            return changes
        flat: list[LikeChange | ViewChange] = [*changes.likes, *changes.views]
        half = len(flat) // 2
        found = [self._culprits(number, video_id, _regroup(part)) for part in (flat[:half], flat[half:])]
        if not any(map(len, found)):
            return changes  # each half alone would do, together they will not
        return Changes((*found[0].likes, *found[1].likes), (*found[0].views, *found[1].views))

    def _confirm(self, number: int, confirmations: Sequence[Confirmation]) -> bool:
        if not counters.confirm(shard=self.shard, number=number, confirmations=confirmations):
            return False
        self.whole.rest()
        self.whole.count(
            fields=sum(map(len, confirmations)),
            applied=sum(len(one.applied) for one in confirmations),
            repeated=sum(len(one.repeated) for one in confirmations),
            dropped=sum(len(one.dropped) for one in confirmations),
            rejected=sum(len(one.rejected) for one in confirmations),
        )
        return True

    def _settle(self, last: int) -> None:
        """Set the live counts of videos whose rows changed outside a batch."""
        for video_id in ledger.stale_videos(self.shard, conf.SHARDS):
            self.whole.pause_point()

            def set_live(row: ledger.Row | None, wishes: Sequence[ledger.Wished], video_id: int = video_id) -> bool:
                base = None if row is None else counters.Base(*row)
                return counters.resync(
                    video_id=video_id, last=last, base=base, wishes=[counters.Wished(*wish) for wish in wishes]
                )

            if not ledger.settle(video_id, set_live):
                return  # a batch was claimed since: its flusher settles
            self.whole.count(settled=1)


# As this service writes them, to the letter: another writing of the same number would be another field.
_FIELD = re.compile(rb"(?:l:([1-9]\d{0,18}):([1-9]\d{0,18})|v:([1-9]\d{0,18}):(0|[1-9]\d{0,8}))")
_VIDEO = re.compile(rb"[lv]:([1-9]\d{0,18})(?!\d)")  # what can be told of a malformed field
_NUMBER = re.compile(rb"[1-9]\d{0,15}")


def _sort_in(part: Iterable[tuple[bytes, bytes]], changes: dict[int, Changes], malformed: list[bytes]) -> None:
    """Put fields as Redis has them under their videos; a field that comes twice counts once."""
    for name, value in part:
        parsed = _parse(name, value)
        if parsed is None:
            malformed.append(name)
            continue
        video_id, change = parsed
        known = changes.get(video_id)
        if known is None:
            known = changes[video_id] = Changes()
        known.add(change)


def _parse(name: bytes, value: bytes) -> tuple[int, LikeChange | ViewChange] | None:
    match = _FIELD.fullmatch(name)
    if match is None:
        return None
    liked_video, user_id, viewed_video, hour = match.groups()
    if liked_video is not None:
        wish = counters.parse_wish(value)
        if (
            wish is not None
            and wish[1] <= MAX_MS
            and (video_id := int(liked_video)) <= MAX_ID
            and int(user_id) <= MAX_ID
        ):
            return video_id, LikeChange(int(user_id), *wish)
    elif _NUMBER.fullmatch(value) and (video_id := int(viewed_video)) <= MAX_ID:
        views = ViewChange(int(hour), int(value))
        if views.hour <= MAX_HOUR and views.views <= MAX_VIEWS:
            return video_id, views
    return None


def _chunks(changes: dict[int, Changes], most: int) -> Iterator[dict[int, Changes]]:
    """Videos in the order of their ids, about `most` fields at a time; a video's fields stay together."""
    chunk: dict[int, Changes] = {}
    size = 0
    for video_id in sorted(changes):
        change = changes[video_id]
        fields = len(change)
        if chunk and size + fields > most:
            yield chunk
            chunk, size = {}, 0
        chunk[video_id] = change
        size += fields
    if chunk:
        yield chunk


def _regroup(part: Iterable[LikeChange | ViewChange]) -> Changes:
    changes = Changes()
    for change in part:
        changes.add(change)
    return changes


def _fields(video_id: int, changes: Changes) -> list[str]:
    views = [f"v:{video_id}:{view.hour}" for view in changes.views]
    return views + [f"l:{video_id}:{like.user_id}" for like in changes.likes] if changes.likes else views


def _confirmation(video_id: int, changes: Changes, outcome: ledger.Outcome) -> Confirmation:
    if outcome.counts is None:
        return Confirmation(video_id, None, dropped=_fields(video_id, changes))
    if outcome.repeated:
        return Confirmation(video_id, outcome.counts, repeated=_fields(video_id, changes))
    if outcome.dropped:
        gone = Changes([like for like in changes.likes if like.user_id in outcome.dropped])
        kept = Changes([like for like in changes.likes if like.user_id not in outcome.dropped], changes.views)
        return Confirmation(video_id, outcome.counts, applied=_fields(video_id, kept), dropped=_fields(video_id, gone))
    return Confirmation(video_id, outcome.counts, applied=_fields(video_id, changes))


def _rejections(malformed: Iterable[bytes], changes: Mapping[int, Changes]) -> list[Confirmation]:
    """What to do with fields that cannot be read: each is set aside."""
    by_video: dict[int | None, list[bytes]] = {}
    for name in malformed:
        logger.error("Rejected the pending field %r: it is malformed", name[:100])
        match = _VIDEO.match(name)
        video_id = int(match[1]) if match and int(match[1]) <= MAX_ID else None
        by_video.setdefault(video_id, []).append(name)
    return [
        _rejection(video_id, names, live_stays=video_id is None or video_id in changes)
        for video_id, names in by_video.items()
    ]


def _rejection(video_id: int | None, names: Sequence[bytes | str], *, live_stays: bool) -> Confirmation:
    """Set fields aside, and the live count to the row's, unless other fields of the video are still to come."""
    if video_id is None or live_stays:
        return Confirmation(None, rejected=names)
    return Confirmation(video_id, ledger.counts_of(video_id), rejected=names)


def reconcile(
    *,
    video_ids: Iterable[int] | None = None,
    repair: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ReconcileReport:
    """Recount like rows against `like_count` under the lock of each video's row, all videos by default.

    For what happens outside the service: SQL by hand, a restored backup. After a repair the next flush sets the live
    counts.
    """
    report = ReconcileReport()
    total = (
        len(chosen)
        if (chosen := None if video_ids is None else sorted(set(video_ids))) is not None
        else ledger.video_total()
    )
    done = 0
    for part in _video_parts(chosen):
        known = part if chosen is None else sorted(ledger.read_rows(part))
        report.absent += sorted(set(part) - set(known))
        for difference in ledger.recount(known, repair=repair):
            report.differences.append(
                {
                    "video": difference.video_id,
                    "column": "like_count",
                    "stored": difference.stored,
                    "counted": difference.counted,
                    "repaired": repair,
                }
            )
            report.repaired += repair
        report.videos += len(known)
        done += len(part)
        if progress is not None:
            progress(min(done, total), total)
    return report


def _video_parts(chosen: list[int] | None) -> Iterator[list[int]]:
    if chosen is not None:
        for i in range(0, len(chosen), RECONCILE_VIDEOS):
            yield chosen[i : i + RECONCILE_VIDEOS]
        return
    after = 0
    while part := ledger.video_ids(after, RECONCILE_VIDEOS):
        yield part
        after = part[-1]


def flush_status() -> FlushStatus:
    """Where the flush stands. Raises CountersUnavailable and django.db errors as they come."""
    now = counters.now_ms()
    limit = now - 3000 * conf.FLUSH_INTERVAL_SECONDS
    depths = counters.depths()
    facts = ledger.batch_facts(datetime.fromtimestamp(limit / 1000, UTC))
    beat = counters.last_beat()
    finished = [] if facts.last_finished is None else [int(facts.last_finished.timestamp() * 1000)]
    if beat is not None:
        finished.append(beat)
    waiting = {shard for shard, depth in enumerate(depths) if depth.pending or depth.claimed}
    claimed = {shard for shard, depth in enumerate(depths) if depth.claimed}
    late = False
    if waiting:
        begun = beat or counters.watched_since(now)
        # A run in which one shard fails leaves no beat, while the others' batches go on.
        stuck = claimed & facts.stuck or (begun < limit and waiting - facts.lively)
        late = bool(stuck) or max(finished, default=begun) < limit
    return FlushStatus(
        last_finished_seconds=(now - max(finished)) / 1000 if finished else None,
        pending_fields=sum(depth.pending for depth in depths),
        claimed_fields=sum(depth.claimed for depth in depths),
        rejected_fields=sum(depth.rejected for depth in depths),
        stale_notes=facts.stale_notes,
        rewound_batches=facts.rewound,
        late=late,
    )
