"""One run over one shard: replay, claim -> apply -> confirm, until nothing is pending. Later: settle its notes."""

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Final

from videos import counters, ledger, meeting
from videos.changes import Changes, FieldSums, StaleVideo
from videos.conf import conf
from videos.counters import Batch, connection
from videos.fields import sort_in
from videos.flush.culprits import Mover
from videos.flush.replay import apply_again, compare, foresee, is_first, relieve
from videos.flush.run import ClosedBatch, Run

logger = logging.getLogger(__name__)

BEGINNINGS: Final = 5  # of one run, while Redis or the database is set back
PASSES: Final = 3  # over a claimed batch, while fields are left


class ShardFlush:
    """The flush of one shard. It calls `pause_point()` between chunks, which may raise to end the run."""

    def __init__(self, run: Run, shard: int, pause_point: Callable[[], None]) -> None:
        self.run = run
        self.shard = shard
        self.pause_point = pause_point

    def flush(self) -> None:
        """Replay what the database has lost, finish what an interrupted run left, claim and finish the next batch.

        Begins again after another meeting of Redis and the database, or once that was set back.
        """
        self._again_after_setbacks(self._flush)

    def _again_after_setbacks(self, act: Callable[[], None]) -> None:
        for _ in range(BEGINNINGS):
            try:
                act()
            except (counters.Unmet, ledger.StaleFence) as error:
                logger.info("Shard %s begins again: %s", self.shard, error)
                connection.meet_now()
                meeting.meet_again([self.shard])
            except ledger.Rewound:
                logger.warning("Shard %s begins again: the database was set back", self.shard)
            else:
                return
        raise counters.Unmet(f"Shard {self.shard}: Redis or the database was set back {BEGINNINGS} times in this run.")

    def _flush(self) -> None:
        while True:
            self.pause_point()
            foreseen = self.run.foreseen.pop(self.shard, None) or foresee([self.shard])[self.shard]
            kept = compare(self.run, self.shard, self.pause_point, foreseen)
            if is_first(kept, foreseen.floor) and not foreseen.kept.waits:  # what came since is the next run's
                self.run.flushed[self.shard] = kept.last, kept.tail, kept.fence
                return
            at_ms, known = counters.now_ms(), {"floor": foreseen.floor, "newest": foreseen.newest}
            batch, last, tail = Batch.claim(shard=self.shard, fence=kept.fence, at_ms=at_ms, **known)
            if batch is not None and not self.finish(batch):
                return  # another flush has claimed a newer batch
            if batch is not None:
                relieve(self.run, self.shard, kept.fence, [batch.number], counters.memory_share())
            if batch is None or batch.claimed_ms == at_ms:
                self.run.flushed[self.shard] = last, tail, kept.fence
                return

    def finish(self, batch: Batch) -> bool:
        """Write a claimed batch to the database and close it. False: another flush has closed it meanwhile."""
        batch.make_durable()
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
                if not ledger.finish_batch(batch, sums):
                    apply_again(self.run, batch, self.pause_point, sums)
                    if not sums.dropped and not sums.rejected:
                        # The database was set back, perhaps to before a write that live contains.
                        counters.drop_kept(self.shard, batch.fence, (), forget=True)
                batch.close()
                self.run.note_closed(_closed(batch, sums))
                return True
        return False

    def settle(self) -> None:
        """Set the live totals of videos whose rows changed outside a batch."""
        with contextlib.suppress(counters.Unmet, ledger.Rewound):  # the next run goes on
            try:
                self._settle(*self.run.flushed[self.shard])
            except ledger.StaleFence:
                # A process that minted a fence may have died before Redis knew it: then no run would settle.
                meeting.meet_again([self.shard])

    def _settle(self, last: int, tail: int, fence: int) -> None:
        def set_live(stale: Mapping[int, StaleVideo]) -> set[int]:
            ledger.check_complete(self.shard, fence, tail)
            return counters.resync(shard=self.shard, fence=fence, last=last, stale=stale)

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
