"""What a flush writes: a batch's row, and its fields chunk by chunk. Writes without Redis share `take_in`.

Over 250 lines: what the transactions of a batch check of each other stands in one place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeAlias

from django.db import OperationalError
from django.db.models import F, Max, Q

from videos.changes import (
    HOUR_MS,
    MARK_PLACES,
    MARKS,
    MAX_ID,
    NOTHING,
    PLACES,
    SUM_COLUMNS,
    TALLIES,
    BatchFacts,
    Changes,
    FieldSums,
    MarkChange,
    Totals,
    VideosError,
    moment,
    zeros,
)
from videos.ledger import sql
from videos.ledger.history import HourGains, add_gains
from videos.ledger.meetings import StaleFence, fences, lock_fence
from videos.ledger.retry import LOCK_TIMEOUT, again
from videos.ledger.sql import parts
from videos.ledger.times import to_stored
from videos.ledger.writer import atomic, roll_back, rows
from videos.models import FlushBatch, StaleLive, Video

Sums: TypeAlias = dict[str, int]  # by SUM_COLUMNS
Gains: TypeAlias = dict[int, list[int]]  # by video, in the order of COUNTS

NO_SUMS: Final = dict.fromkeys(SUM_COLUMNS, 0)


@dataclass(slots=True)
class Outcome:
    """What happened to one video's changes.

    `totals` are those in its row now; None if the video is gone, or if another transaction holds the row.
    """

    totals: Totals | None
    repeated: bool = False  # the row contained this batch already: nothing was changed now
    dropped: frozenset[int] = frozenset()  # users who are gone; all other changes were applied
    postponed: bool = False  # another transaction holds the row: the changes must go back to pending


def newest_batches() -> dict[int, int]:
    """The highest batch number of each shard."""
    # In this form the index on (shard, number) takes one step for each shard, however many batches are kept.
    return dict(rows(FlushBatch).order_by().values_list("shard").annotate(Max("number")))


def highest_watermark() -> int:
    """The highest watermark of all videos. It reads all rows: no index would be worth its cost to each flush."""
    return int(rows(Video).aggregate(highest=Max("flushed_batch"))["highest"] or 0)


def lock_watermark(video_id: int | None) -> int:
    """Lock a video's row until the transaction ends; return its watermark, 0 without a row."""
    return next((row.flushed_batch for row in sql.lock_videos([video_id] if video_id else []).values()), 0)


class Rewound(VideosError):
    """The database was set back: it lacks what was committed to it. The next run replays that."""


class Compared(NamedTuple):
    """Batches of a shard that the database does not have finished."""

    lacking: set[int]  # of those asked for
    unfinished: set[int]  # of its own


def compare_batches(wanted: Mapping[int, Collection[int]]) -> dict[int, Compared]:
    """Find which of these batches, by shard, are not complete: not finished, or lost because the database was set back.

    A batch is opened only when the one before is complete. So one that is missing, while the database has a newer one,
    was complete and is pruned.
    """
    chosen = Q(pk=None)
    for shard, numbers in wanted.items():
        chosen |= _from(shard, min(filter(None, numbers), default=MAX_ID))
    finished: dict[int, dict[int, bool]] = {shard: {} for shard in wanted}
    for shard, number, at in rows(FlushBatch).filter(chosen).values_list("shard", "number", "finished_at"):
        finished[shard][number] = at is not None
    return {shard: _compare(numbers, finished[shard]) for shard, numbers in wanted.items()}


def _from(shard: int, number: int) -> Q:
    """The batches of a shard from this one on, and all that are not finished."""
    return Q(shard=shard) & (Q(number__gte=number) | Q(finished_at=None))


def _compare(numbers: Collection[int], finished: Mapping[int, bool]) -> Compared:
    newest = max(finished, default=0)
    lacking = {number for number in numbers if number and not finished.get(number, number < newest)}
    return Compared(lacking, {number for number, done in finished.items() if not done})


def check_complete(shard: int, fence: int, number: int) -> None:
    """In a transaction: raise StaleFence if the fence is another, Rewound if this closed batch is not complete."""
    if fences([shard]).get(shard) != fence:
        raise StaleFence
    if compare_batches({shard: {number}})[shard].lacking:
        raise Rewound


def check_finished(number: int, finished: Mapping[int, bool]) -> None:
    """Raise Rewound if this closed batch is not complete, of the shard's batches from it on."""
    if _compare({number}, finished).lacking:
        raise Rewound


def open_batch(batch: BatchFacts) -> None:
    """Record a claimed batch, or take it over from an interrupted run. Older batches end here: Redis forgot them.

    Raises StaleFence, and Rewound if the batch before it is not complete.
    """

    def transact() -> None:
        with atomic(durable=True):
            lock_fence(batch.shard, batch.fence)
            wanted = _from(batch.shard, batch.previous or batch.number)
            found = {row.number: row for row in rows(FlushBatch).filter(wanted)}
            check_finished(batch.previous, {number: one.finished_at is not None for number, one in found.items()})
            _end(one.pk for number, one in found.items() if number < batch.number and one.finished_at is None)
            row = found.get(batch.number)
            if row is None:
                rows(FlushBatch).create(
                    shard=batch.shard,
                    number=batch.number,
                    claimed_at=to_stored(moment(batch.claimed_ms)),
                    fields=batch.fields,
                    rewound=batch.rewound,
                    fence=batch.fence,
                )
            elif (row.fence, row.rewound) != (batch.fence, row.rewound or batch.rewound):
                rows(FlushBatch).filter(pk=row.pk).update(fence=batch.fence, rewound=row.rewound or batch.rewound)

    again(transact)


def give_up(shard: int, last: int, *, kept: Collection[int] = ()) -> None:
    """End unfinished batches up to `last`, except those `kept` in Redis, which forgot them: no flush finishes them."""
    unfinished = rows(FlushBatch).filter(shard=shard, number__lte=last, finished_at=None)
    _end(pk for pk, number in unfinished.values_list("id", "number") if number not in kept)


def _end(ids: Iterable[int]) -> None:
    if lost := list(ids):
        rows(FlushBatch).filter(id__in=lost).update(finished_at=to_stored(datetime.now(UTC)), rewound=True)


def end_forgotten(shard: int, fence: int, last: int, *, kept: Collection[int]) -> None:
    """As give_up, in a transaction of its own. Raises StaleFence."""
    with atomic(durable=True):
        lock_fence(shard, fence)
        give_up(shard, last, kept=kept)


def finish_batch(
    batch: BatchFacts, sums: FieldSums, *, videos: Collection[int] | None = None, postponed: Collection[int] = ()
) -> bool:
    """Record the sums of a batch's fields, if transactions have taken all of them in. Repeating it changes nothing.

    Returns False if they have not: fields were dropped, or the database was set back. Apply all fields again then, and
    call it with their `videos`: it asserts that each is gone or has the watermark of the batch. `postponed` are videos
    that Redis remembers as such: the database may have forgotten it. Raises StaleFence, Rewound.
    """

    ended = {"fields": sum(sums), **sums._asdict()}
    complete = Q(fence=batch.fence, finished_at=None, rewound=False, taken=F("fields"))

    def transact() -> bool:
        own = rows(FlushBatch).filter(shard=batch.shard, number=batch.number)
        # Nearly always all was taken in: then one statement checks that and records it.
        if videos is None and own.filter(complete).update(finished_at=to_stored(datetime.now(UTC)), **ended):
            return True
        with atomic(durable=True):
            found = own.select_for_update().first()
            if found is None:
                raise Rewound
            if found.fence != batch.fence:
                raise StaleFence
            if found.finished_at is not None:
                return True
            if videos is None and (found.taken != found.fields or found.rewound):
                return False
            if any(row.flushed_batch < batch.number for row in sql.lock_videos(videos or ()).values()):
                raise Rewound
            noted = sorted({*found.postponed, *postponed})
            own.update(finished_at=to_stored(datetime.now(UTC)), postponed=noted, **ended)
        return True

    return again(transact)


def apply(
    batch: BatchFacts, changes: Mapping[int, Changes], *, commit: bool = True, postpone: bool = False
) -> tuple[dict[int, Outcome], Sums]:
    """Apply a chunk of a batch to the rows, in one transaction. Applying it again changes nothing.

    Returns each video's outcome, with the totals that the transaction left in the rows, and the sums of what changed.
    A video whose row another transaction holds is postponed: the batch's row says so, and no flush applies this batch
    to it any more. `postpone` does that to all videos. For a replay the row does not say so: its fields are not
    claimed, so they cannot go back. `commit=False` tries it and rolls back; a row that is held fails it.

    Raises StaleFence, Rewound and django.db errors. Of these `is_data_fault` tells those of a field's value,
    `is_lock_timeout` those of rows that are held.
    """
    # Nearly all users exist, and the foreign key checks them anyway: look for users only after it has failed.
    look = not commit

    def transact() -> tuple[dict[int, Outcome], Sums]:
        nonlocal look
        looks, look = look, True
        with atomic(durable=True):
            postponed = _lock_batch(batch)
            before = set() if batch.is_replay else postponed
            chosen = {video_id: change for video_id, change in changes.items() if video_id not in before}
            if postpone:
                outcomes, sums = _outcomes_of_held(sql.watermarks(chosen), batch.number), NO_SUMS
            else:
                outcomes, sums = take_in(chosen, batch.number, look_for_users=looks)
            held = {video_id: len(changes[video_id]) for video_id, outcome in outcomes.items() if outcome.postponed}
            if held and not commit:
                raise OperationalError(LOCK_TIMEOUT, "The rows are locked, so a trial tells nothing")
            if held and not batch.is_replay:
                _record_postponed(batch, before.union(held), fields=sum(held.values()))
            outcomes |= {video_id: Outcome(None, postponed=True) for video_id in before.intersection(changes)}
            taken = sum(len(changes[video_id]) for video_id, one in outcomes.items() if one.totals and not one.repeated)
            if taken:
                sql.add_sums(batch.shard, batch.number, taken, sums)
            if not commit:
                roll_back()
        return outcomes, sums

    return again(transact, after_timeouts=False)


def _lock_batch(batch: BatchFacts) -> set[int]:
    """Lock the row of a batch: of several flushes of one batch, one applies at a time. Returns what it postponed.

    Raises Rewound without a row, and StaleFence if another flush has taken it over.
    """
    found = rows(FlushBatch).filter(shard=batch.shard, number=batch.number)
    row = found.select_for_update().values_list("fence", "postponed").first()
    if row is None:
        raise Rewound
    if row[0] != batch.fence:
        raise StaleFence
    return set(row[1] or ())


def _record_postponed(batch: BatchFacts, video_ids: Collection[int], *, fields: int) -> None:
    found = rows(FlushBatch).filter(shard=batch.shard, number=batch.number)
    found.update(postponed=sorted(video_ids), fields=F("fields") - fields)


def _outcomes_of_held(watermarks: Mapping[int, int], number: int) -> dict[int, Outcome]:
    return {
        video_id: Outcome(None, repeated=True) if watermark >= number else Outcome(None, postponed=True)
        for video_id, watermark in watermarks.items()
    }


def take_in(
    changes: Mapping[int, Changes],
    number: int | None,
    *,
    look_for_users: bool,
    old_snapshot: bool = False,
) -> tuple[dict[int, Outcome], Sums]:
    """Write changes to the rows; those of batch `number` only to rows whose watermark is below it.

    Call it in a transaction. Without `look_for_users` a new like of a user who is gone raises IntegrityError; SQLite
    raises it at the commit. `old_snapshot`: the transaction may have begun to read before this call, so compare with
    locking reads.
    """
    if number is None:
        locked, outcomes = sql.lock_videos(changes), {}
    else:
        locked, held = sql.lock_free_videos(changes)
        outcomes = _outcomes_of_held(held, number)
    fresh: dict[int, Changes] = {}
    for video_id, change in changes.items():
        row = locked.get(video_id)
        if video_id in outcomes:
            continue
        if row is None:
            outcomes[video_id] = Outcome(None)
        elif number is not None and row.flushed_batch >= number:
            outcomes[video_id] = Outcome(row.totals, repeated=True)
        else:
            fresh[video_id] = change if number is None else change.lacking(row.flushed_batch)
    if not fresh:
        return outcomes, NO_SUMS

    superseded = newer_notes(fresh) if number is not None else {}
    moved = _compare_marks(fresh, superseded, look_for_users=look_for_users, old_snapshot=old_snapshot)
    gains, hours = _gains_of(fresh, moved)
    outcomes |= {video_id: Outcome(_totals_after(locked[video_id], gain)) for video_id, gain in gains.items()}
    for video_id, users in moved.dropped.items():
        outcomes[video_id].dropped = frozenset(users)
    sql.delete_likes(moved.removed_ids)  # first: a mark that changes is a new row, with the time of its wish
    sql.insert_likes((video_id, mark.user_id, mark.value, mark.at_ms) for video_id, mark in moved.added)
    sql.add_counts(gains, number)
    add_gains(hours)
    return outcomes, _sums_of(fresh, gains, moved)


def _totals_after(row: sql.LockedRow, gain: list[int]) -> Totals:
    """The totals of a row with its gain, which is corrected where likes were made outside the service."""
    for value, place in MARK_PLACES.items():
        if row.totals[place] + gain[place] < 0:
            gain[place] += sql.count_marks(row.id, value) - row.totals[place]
    totals = Totals(*map(sum, zip(row.totals, gain, strict=True)))
    if max(totals) > MAX_ID:  # SQLite would silently store a float
        raise OverflowError(f"The totals of video {row.id} would be {totals}")
    return totals


def _sums_of(fresh: Mapping[int, Changes], gains: Gains, moved: _Moved) -> Sums:
    sums = NO_SUMS | {"videos": len(fresh)}
    for count in MARKS:
        sums[f"{count.name}_added"] = sum(mark.value == count.value for _, mark in moved.added)
        sums[f"{count.name}_removed"] = sum(mark.value == count.value for _, mark in moved.removed)
    for count in TALLIES:
        sums[count.name] = sum(gain[PLACES[count.name]] for gain in gains.values())
    return sums


_VideoMarks: TypeAlias = list[tuple[int, MarkChange]]  # with the video of each


class _Moved(NamedTuple):
    """The wishes that differ from the rows. A mark that changes its value is removed and added."""

    added: _VideoMarks
    removed: _VideoMarks  # with the value that goes, and the time of the wish
    removed_ids: list[int]  # of like rows
    dropped: Mapping[int, set[int]]  # by video, users who are gone


def _compare_marks(
    fresh: Mapping[int, Changes],
    superseded: Mapping[tuple[int, int], int],
    *,
    look_for_users: bool,
    old_snapshot: bool,
) -> _Moved:
    wished = {(video_id, mark.user_id): mark for video_id, change in fresh.items() for mark in change.marks}
    existing = sql.lock_likes(wished) if old_snapshot else sql.existing_likes(wished)
    # An unlike without a like row inserts nothing, so no foreign key checks its user.
    asked = {
        user_id
        for (video_id, user_id), mark in wished.items()
        if (video_id, user_id) not in existing and (look_for_users or mark.value == NOTHING)
    }
    gone = asked - (sql.lock_users(asked) if old_snapshot else sql.existing_users(asked))
    moved = _Moved([], [], [], defaultdict(set))
    for (video_id, user_id), mark in wished.items():
        row = existing.get((video_id, user_id), sql.UNMARKED)
        if row is sql.UNMARKED and user_id in gone:
            moved.dropped[video_id].add(user_id)
            continue
        if superseded.get((video_id, user_id), -1) >= mark.at_ms or mark.value == row.value:
            continue
        if row is not sql.UNMARKED:
            moved.removed.append((video_id, mark._replace(value=row.value)))
            moved.removed_ids.append(row.id)
        if mark.value != NOTHING:
            moved.added.append((video_id, mark))
    moved.added.sort(key=lambda pair: (pair[1].at_ms, pair[0]))  # so that ids of like rows are in the order of time
    return moved


def _gains_of(fresh: Mapping[int, Changes], moved: _Moved) -> tuple[Gains, HourGains]:
    """How much totals and hours gain."""
    gains: Gains = {video_id: zeros() for video_id in fresh}
    hours: HourGains = defaultdict(zeros)
    for step, changed in ((1, moved.added), (-1, moved.removed)):
        for video_id, mark in changed:
            place = MARK_PLACES[mark.value]
            gains[video_id][place] += step
            hours[video_id, mark.at_ms // HOUR_MS][place] += step
    for video_id, change in fresh.items():
        for name, hour, amount, _ in change.tallies:
            place = PLACES[name]
            gains[video_id][place] += amount
            hours[video_id, hour][place] += amount
    return gains, hours


def newer_notes(fresh: Mapping[int, Changes]) -> dict[tuple[int, int], int]:
    """When marks were written outside a batch, in Unix ms: an older pending wish must not undo them."""
    notes: dict[tuple[int, int], int] = {}
    if not sql.has_like_notes():
        return notes
    for part in parts(fresh):
        found = rows(StaleLive).filter(video_id__in=part, user__isnull=False)
        for video_id, user_id, written_ms in found.values_list("video_id", "user", "written_ms"):
            if user_id is not None:
                notes[video_id, user_id] = max(written_ms, notes.get((video_id, user_id), 0))
    return notes
