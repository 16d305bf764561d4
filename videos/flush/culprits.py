"""Applies and confirms the chunks of a batch.

Halves a chunk that the database refuses until it finds the culprits. Gives the fields of a video back to pending if
another transaction holds its row: one locked row holds up its video, not its shard. A replay leaves the video out.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence

from django.db import OperationalError

from videos import ledger
from videos.changes import Changes, FieldSums
from videos.counters import Batch, Confirmation
from videos.fields import field_names, video_of
from videos.flush.run import Run
from videos.ledger.reads import read_facts

logger = logging.getLogger(__name__)


class Mover:
    """Moves the fields of one batch. Its methods return False once another batch was claimed."""

    def __init__(self, run: Run, batch: Batch) -> None:
        self.run = run
        self.batch = batch
        self.left_out: set[int] = set()  # videos of a replay whose rows are locked

    def move(self, chunk: Mapping[int, Changes], *, again: bool = False) -> bool:
        """Apply a chunk and confirm it. Fields that the database refuses are rejected."""
        try:
            outcomes, sums = ledger.apply(self.batch, chunk)
        except Exception as error:
            held = ledger.is_lock_timeout(error)
            if not held and not ledger.is_data_fault(error):
                raise
            if len(chunk) > 1:
                video_ids = sorted(chunk)
                half = len(video_ids) // 2
                return all(
                    self.move({video_id: chunk[video_id] for video_id in part})
                    for part in (video_ids[:half], video_ids[half:])
                )
            culprits = None if held else self._find_culprits(chunk)
            if culprits is not None:
                return self._move_without(culprits, chunk, error, again=again)
            outcomes, sums = ledger.apply(self.batch, chunk, postpone=True)
        self.run.add(sums)
        postponed = [video_id for video_id in chunk if outcomes[video_id].postponed]
        for video_id in postponed:
            logger.warning("Shard %s, video %s: its row is locked, so its changes wait", self.batch.shard, video_id)
            if self.batch.is_replay:
                self.left_out.add(video_id)
            elif not self.batch.give_back(video_id, field_names(video_id, chunk[video_id])):
                return False
        self.run.note_postponed(self.batch.shard, len(postponed))
        done = [video_id for video_id in chunk if not outcomes[video_id].postponed]
        self.batch.forget_recent((video_id, mark.user_id) for video_id in done for mark in chunk[video_id].marks)
        return self.confirm([_confirmation_of(video_id, chunk[video_id], outcomes[video_id]) for video_id in done])

    def reject(self, malformed: Iterable[bytes], changes: Mapping[int, Changes]) -> bool:
        """Reject malformed fields: they are set aside in Redis."""
        by_video: dict[int | None, list[bytes]] = {}
        for name in malformed:
            logger.error("Rejected the pending field %r: it is malformed", name[:100])
            by_video.setdefault(video_of(name), []).append(name)
        return not by_video or self.confirm(
            [_rejection(video_id, names, leave_live=video_id in changes) for video_id, names in by_video.items()]
        )

    def confirm(self, confirmations: Sequence[Confirmation]) -> bool:
        """Confirm in Redis what the database has committed."""
        if not self.batch.confirm(confirmations):
            return False
        self.run.rest()
        sums = {outcome: sum(len(getattr(one, outcome)) for one in confirmations) for outcome in FieldSums._fields}
        self.run.add(fields=sum(sums.values()), **sums)
        return True

    def _move_without(self, culprits: Changes, chunk: Mapping[int, Changes], error: Exception, *, again: bool) -> bool:
        """Reject the fields of one video that the database refuses, then apply the others in one transaction.

        The rejection comes first: once the others have set the row's watermark, another flush would take the culprits
        for applied.
        """
        ((video_id, changes),) = chunk.items()
        if not len(culprits):
            if not again:
                return self.move(chunk, again=True)  # no field fails any more: try all of them again
            culprits = changes  # the fault comes only with the commit, so reject all
        logger.error("Shard %s, video %s: rejected %s fields: %s", self.batch.shard, video_id, len(culprits), error)
        bad = set(culprits.flat())
        rest = Changes.of(change for change in changes.flat() if change not in bad)
        rejection = _rejection(video_id, field_names(video_id, culprits), leave_live=len(rest) > 0)
        return self.confirm([rejection]) and (not len(rest) or self.move({video_id: rest}))

    def _find_culprits(self, chunk: Mapping[int, Changes]) -> Changes | None:
        """The fields of one video that the database refuses; None if another transaction holds the row meanwhile."""
        ((video_id, changes),) = chunk.items()
        try:
            return self._culprits(video_id, changes)
        except OperationalError as error:
            if not ledger.is_lock_timeout(error):
                raise
            return None

    def _culprits(self, video_id: int, changes: Changes) -> Changes:
        try:
            ledger.apply(self.batch, {video_id: changes}, commit=False)
        except Exception as error:
            if not ledger.is_data_fault(error):
                raise
        else:
            return Changes()
        if len(changes) == 1:
            return changes
        flat = changes.flat()
        half = len(flat) // 2
        found = [self._culprits(video_id, Changes.of(part)) for part in (flat[:half], flat[half:])]
        if not any(map(len, found)):
            return changes  # the database accepts each half alone, and refuses both together
        return Changes.of([*found[0].flat(), *found[1].flat()])


def _confirmation_of(video_id: int, changes: Changes, outcome: ledger.Outcome) -> Confirmation:
    if outcome.repeated and outcome.totals is None:  # the row is held: its totals are not known
        return Confirmation(None, repeated=field_names(video_id, changes))
    if outcome.totals is None:
        return Confirmation(video_id, None, dropped=field_names(video_id, changes))
    if outcome.repeated:
        return Confirmation(video_id, outcome.totals, repeated=field_names(video_id, changes))
    if outcome.dropped:
        gone = Changes([mark for mark in changes.marks if mark.user_id in outcome.dropped])
        kept = Changes([mark for mark in changes.marks if mark.user_id not in outcome.dropped], changes.tallies)
        names = field_names(video_id, kept), field_names(video_id, gone)
        return Confirmation(video_id, outcome.totals, applied=names[0], dropped=names[1])
    return Confirmation(video_id, outcome.totals, applied=field_names(video_id, changes))


def _rejection(video_id: int | None, names: Sequence[bytes | str], *, leave_live: bool) -> Confirmation:
    """Reject fields, and set live to the row's totals; `leave_live` if other fields of the video follow."""
    if video_id is None or leave_live:
        return Confirmation(None, rejected=names)
    facts = read_facts([video_id]).get(video_id)
    return Confirmation(video_id, None if facts is None else facts.totals, rejected=names)
