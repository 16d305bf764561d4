"""The state of the flush, for health, metrics and the admin."""

from typing import Final, NamedTuple

from videos import counters, ledger
from videos.changes import moment
from videos.conf import conf

UNKEPT_SECONDS: Final = 600.0  # for which health tells it at least


class ShardStatus(NamedTuple):
    """What health and metrics show of the flush of one shard."""

    shard: int
    finished_seconds: float | None  # since a run last finished with it, or finished a batch of it; None: never
    pending_fields: int
    claimed_fields: int
    late: bool  # something of it waits, and nothing of it was finished for three intervals


class FlushStatus(NamedTuple):
    """What health and metrics show of the flush."""

    last_finished_seconds: float | None  # since a batch was last finished, or a run found nothing to do; None: never
    pending_fields: int
    claimed_fields: int
    rejected_fields: int
    stale_notes: int
    rewound_batches: int
    unkept: bool  # lately Redis had no memory to keep batches for a replay
    late: bool  # one of the shards is late
    shards: list[ShardStatus]


def read_status() -> FlushStatus:
    """The state of the flush now. Raises CountersUnavailable and django.db errors."""
    now = counters.now_ms()
    limit = now - 3000 * conf.FLUSH_INTERVAL_SECONDS
    depths, beats = counters.depths(), counters.beats()
    facts = ledger.read_flush_facts(moment(limit))
    shards = []
    for shard, depth in enumerate(depths):
        ends = beats.get(shard, 0), facts.finished_ms.get(shard, 0)
        # The clock of a flush's machine may be ahead: an end that is to come would hide for long that the flush died.
        finished = max((at_ms for at_ms in ends if at_ms <= now), default=0) or None
        late = False
        if depth.pending or depth.claimed:
            begun = finished or counters.watched_since(now)
            late = begun < limit or (depth.claimed > 0 and shard in facts.stuck)
        age = (now - finished) / 1000 if finished else None
        shards.append(ShardStatus(shard, age, depth.pending, depth.claimed, late))
    ages = [shard.finished_seconds for shard in shards if shard.finished_seconds is not None]
    if facts.last_finished is not None and facts.last_finished <= moment(now):
        ages.append(now / 1000 - facts.last_finished.timestamp())
    return FlushStatus(
        last_finished_seconds=min(ages, default=None),
        pending_fields=sum(depth.pending for depth in depths),
        claimed_fields=sum(depth.claimed for depth in depths),
        rejected_fields=sum(depth.rejected for depth in depths),
        stale_notes=facts.stale_notes,
        rewound_batches=facts.rewound,
        unkept=any(depth.unkept_ms > now - 1000 * max(conf.REPLAY_SECONDS, UNKEPT_SECONDS) for depth in depths),
        late=any(shard.late for shard in shards),
        shards=shards,
    )
