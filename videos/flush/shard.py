"""One run over one shard: claim -> apply -> confirm, until nothing is pending. Later in the run: settle its notes."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from videos import counters, ledger
from videos.changes import Changes, FieldSums, MarkChange, VideoFacts
from videos.conf import conf
from videos.counters import Batch
from videos.fields import sort_in
from videos.flush.culprits import Mover
from videos.flush.facts import refresh_facts
from videos.flush.run import ClosedBatch, Run

logger = logging.getLogger(__name__)

PASSES: Final = 3  # over a claimed batch, while fields are left


class ShardFlush:
    """The flush of one shard. It calls `pause_point()` between chunks, which may raise to end the run."""

    def __init__(self, run: Run, shard: int, pause_point: Callable[[], None]) -> None:
        self.run = run
        self.shard = shard
        self.pause_point = pause_point

    def flush(self) -> None:
        """Finish a batch that an interrupted run left, then claim and finish the next one."""
        while True:
            self.pause_point()
            at_ms = counters.now_ms()
            floor, newest = ledger.newest_batch(self.shard)
            batch, last = Batch.claim(shard=self.shard, floor=floor, newest=newest, at_ms=at_ms)
            if batch is not None and not self.finish(batch):
                return  # another flush has claimed a newer batch
            if batch is None or batch.claimed_ms == at_ms:
                self.run.flushed[self.shard] = last
                return

    def finish(self, batch: Batch) -> bool:
        """Write a claimed batch to the database and end it. False: another flush has ended it meanwhile."""
        batch.make_durable()
        if batch.rewound:
            logger.error(
                "Shard %s: Redis had forgotten batches up to %s; it was rewound or replaced. Views since its last save "
                "may be off, and, if an old copy was restored, likes that were taken back since.",
                *(self.shard, batch.number - 1),
            )
        ledger.open_batch(batch)
        mover = Mover(self.run, batch)
        for _ in range(PASSES):
            changes: dict[int, Changes] = {}
            malformed: list[bytes] = []
            for part in batch.scan(self.run.read_fields):
                if part is None:
                    return False
                sort_in(part, changes, malformed)
                self.run.rest()
            if not mover.reject(malformed, changes):
                return False
            for chunk in self.run.chunks(changes):
                self.pause_point()
                if not mover.move(chunk):
                    return False
            sums = batch.sums()
            if sums is not None:
                ledger.finish_batch(batch, sums)
                batch.end()
                self.run.note_closed(_closed(batch, sums))
                return True
        return False

    def settle(self) -> None:
        """Set the live totals, owners and durations of videos whose rows changed outside a batch."""
        last = self.run.flushed[self.shard]
        refresh_facts(self.run, self.shard, self.pause_point)

        def set_live(stale: Mapping[int, tuple[VideoFacts | None, Sequence[MarkChange]]]) -> set[int]:
            return counters.resync(shard=self.shard, last=last, stale=stale)

        for video_ids in self.run.paced(ledger.stale_videos(self.shard, conf.SHARDS)):
            while True:
                self.pause_point()
                self.run.check_time_to_settle()
                settled = ledger.settle(video_ids, set_live)
                self.run.add(settled=settled.videos, notes=settled.notes)
                self.run.rest()
                if settled.refused:
                    return  # a batch was claimed meanwhile: the flush that ends it settles
                if not settled.more:
                    break


def _closed(batch: Batch, sums: FieldSums) -> ClosedBatch:
    seconds = round((counters.now_ms() - batch.claimed_ms) / 1000, 3)
    return ClosedBatch(batch.shard, batch.number, sum(sums), *sums, rewound=batch.rewound, seconds=seconds)
