"""The state of the flush, for health, metrics and the admin."""

from typing import NamedTuple

from videos import counters, ledger
from videos.changes import moment
from videos.conf import conf


class FlushStatus(NamedTuple):
    """What health and metrics show of the flush."""

    last_finished_seconds: float | None  # since a batch was last finished, or a run found nothing to do; None: never
    pending_fields: int
    claimed_fields: int
    rejected_fields: int
    stale_notes: int
    rewound_batches: int
    late: bool  # a shard had something to flush for three intervals, and nothing of it was finished


def read_status() -> FlushStatus:
    """The state of the flush now. Raises CountersUnavailable and django.db errors."""
    now = counters.now_ms()
    limit = now - 3000 * conf.FLUSH_INTERVAL_SECONDS
    depths = counters.depths()
    facts = ledger.read_flush_facts(moment(limit))
    last_run = counters.last_finished_run()
    finished = [] if facts.last_finished is None else [int(facts.last_finished.timestamp() * 1000)]
    if last_run is not None:
        finished.append(last_run)
    waiting = {shard for shard, depth in enumerate(depths) if depth.pending or depth.claimed}
    claimed = {shard for shard, depth in enumerate(depths) if depth.claimed}
    late = False
    if waiting:
        begun = last_run or counters.watched_since(now)
        # A run with a failed shard is not recorded as finished, although the other shards finish batches.
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
