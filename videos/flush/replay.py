"""What a flush of a shard does before it writes anything: compare the batches that Redis keeps with the database.

The database may have been set back: a failover to a replica that lagged, a restored snapshot, a lost fsync. A closed
batch that it lacks, or has unfinished, is applied again under its own number, in ascending order. Watermarks make that
exact.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from django.db import OperationalError

from videos import counters, ledger, meeting
from videos.changes import Changes, FieldSums
from videos.conf import conf
from videos.counters import Batch, DoneBatch, Kept
from videos.fields import postponed_videos, sort_in
from videos.flush.culprits import Mover
from videos.flush.run import FlushReport, Foreseen, Run
from videos.ledger.retry import LOCK_TIMEOUT

logger = logging.getLogger(__name__)

LOST_FOR_GOOD: Final = (
    "Some were confirmed longer ago than VIDEOS_REPLAY_SECONDS and are not kept: likes and views of them are lost."
)


def foresee(shards: Iterable[int]) -> dict[int, Foreseen]:
    """Read what the flush of each shard begins with. Raises counters.CountersUnavailable, django.db errors."""
    kept = counters.read_kept(shards)
    compared = ledger.compare_batches({shard: _compared_numbers(one) for shard, one in kept.items()})
    newest = ledger.newest_batches()
    highest, share = max(newest.values(), default=0), counters.memory_share()
    # Watermarks may be above all numbers that Redis and the table of batches know: one is new, or was emptied.
    if any(one.waits and is_first(one, newest.get(shard, 0)) for shard, one in kept.items()):
        highest = max(highest, ledger.highest_watermark())
    return {shard: Foreseen(one, compared[shard], newest.get(shard, 0), highest, share) for shard, one in kept.items()}


def is_first(kept: Kept, floor: int) -> bool:
    """Whether Redis or the database knows no batch of a shard yet: then a claim needs the highest watermark."""
    return not kept.is_open and not (kept.last and floor)


def _compared_numbers(kept: Kept) -> set[int]:
    return {kept.tail, *(closed.number for closed in kept.closed), *(closed.previous for closed in kept.closed[:1])}


def compare(run: Run, shard: int, pause_point: Callable[[], None], foreseen: Foreseen) -> Kept:
    """Replay what the database lacks of a shard's closed batches, and drop those that no replay will need.

    Raises ledger.Rewound, ledger.StaleFence, counters.Unmet.
    """
    kept, compared = foreseen.kept, foreseen.compared
    numbers = [closed.number for closed in kept.closed]
    lacking = compared.lacking
    lost = [closed for closed in kept.closed if closed.number in lacking]
    # Whether it lacks the batch before the oldest that can be replayed; all others are before that.
    beyond = (lost[0].previous if lost else kept.tail) in lacking - set(numbers)
    if lacking:
        logger.error(
            "Shard %s: the database was set back, it lacks the batches %s. %s",
            *(shard, sorted(lacking), LOST_FOR_GOOD if beyond else "They are applied again; nothing is lost."),
        )
    if beyond:
        meeting.meet_again([shard], abandon=True)
        kept = kept._replace(fence=counters.read_kept([shard])[shard].fence)
    if lacking:  # now, in case this run is killed, and again when the rows are complete
        counters.drop_kept(shard, kept.fence, (), forget=True)
    for closed in lost:
        pause_point()
        previous = 0 if beyond and closed is lost[0] else closed.previous
        batch = DoneBatch(shard, closed.number, 0, beyond, closed.closed_ms, previous, kept.fence)
        ledger.open_batch(batch._replace(fields=batch.size()))
        apply_again(run, batch, pause_point)
        batch.renew()
        run.add(replayed=1)
    window_begin = kept.now_ms - 1000 * conf.REPLAY_SECONDS
    old = [closed.number for closed in kept.closed if closed.number not in lacking and closed.closed_ms < window_begin]
    if old or lacking:
        counters.drop_kept(shard, kept.fence, old, forget=bool(lacking))
    relieve(run, shard, kept.fence, sorted(set(numbers) - set(old)), foreseen.memory_share)
    if not kept.is_open and any(number <= kept.last for number in compared.unfinished - set(numbers)):
        ledger.end_forgotten(shard, kept.fence, kept.last, kept=numbers)
    return kept


def relieve(run: Run, shard: int, fence: int, numbers: Sequence[int], memory_share: float) -> None:
    """Drop complete batches, although a replay might need them, if Redis is nearly full: likes and views come first."""
    if not numbers or memory_share <= conf.REPLAY_MEMORY_SHARE:
        return
    counters.drop_kept(shard, fence, numbers, early=True)
    logger.error(
        "Shard %s: Redis uses more than %.0f %% of its memory, so it does not keep the batches %s. A database that is "
        "set back to before them loses them. Give Redis more memory.",
        *(shard, 100 * conf.REPLAY_MEMORY_SHARE, list(numbers)),
    )
    run.add(unkept=len(numbers))


def apply_again(run: Run, batch: Batch, pause_point: Callable[[], None], sums: FieldSums | None = None) -> None:
    """Apply all that is kept of a batch, and finish it.

    Raises ledger.Rewound if the database was set back again, OperationalError if rows are locked: the next run goes on.
    """
    done = DoneBatch(*batch)
    run = replace(run, report=FlushReport())  # the report has these fields already, or another run's has
    changes: dict[int, Changes] = {}
    notes: list[bytes] = []  # malformed fields are set aside, not kept
    for part in done.scan(run.read_fields):
        sort_in(part or (), changes, notes)
        run.rest()
    mover = Mover(run, done)
    for chunk in run.chunks(changes):
        pause_point()
        mover.move(chunk)
    if mover.left_out:
        reason = f"The rows of {len(mover.left_out)} videos are locked, so batch {batch.number} is not complete yet"
        raise OperationalError(LOCK_TIMEOUT, reason)
    if sums is None:
        sums = FieldSums(sum(map(len, changes.values())), 0, 0, 0)
    ledger.finish_batch(done, sums, videos=changes.keys(), postponed=postponed_videos(notes))
