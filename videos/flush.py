"""The clock corridor: claim -> apply -> confirm, shard by shard; and reconcile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any


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


@dataclass(slots=True)
class ReconcileReport:
    """What a recount found: a row a difference `{video, column, stored, counted, repaired}`."""

    videos: int = 0
    differences: list[dict[str, Any]] = field(default_factory=list)
    repaired: int = 0


@dataclass(frozen=True, slots=True)
class FlushStatus:
    """What health and metrics tell of the flush."""

    last_finished_seconds: float | None  # since a batch was last finished, or a run found nothing to do; None: never
    pending_fields: int
    claimed_fields: int
    rejected_fields: int
    stale_notes: int
    rewound_batches: int
    late: bool  # nothing finished for three intervals although something is pending


def run_flush(
    *,
    shards: Iterable[int] | None = None,
    max_seconds: float | None = None,
    progress: Callable[[int, int, FlushReport], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> FlushReport:
    """Flush the given shards (all by default) once. `progress(done, total, report)` is called after each chunk.

    One shard's failure does not stop the others: it is in `report.failures`. Ends between chunks when `max_seconds` are
    over or `should_stop()` is true.
    """
    raise NotImplementedError


def reconcile(
    *,
    videos: Iterable[int] | None = None,
    repair: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ReconcileReport:
    """Recount like rows against `like_count` under the lock of each video's row, all videos by default."""
    raise NotImplementedError


def flush_status() -> FlushStatus:
    """Where the flush stands. Raises CountersUnavailable and django.db.Error as they come."""
    raise NotImplementedError
