"""What a run of the flush reports."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from videos.changes import SUM_COLUMNS


@dataclass(slots=True)
class FlushReport:
    """What a run of the flush moved, over all of its shards."""

    batches: int = 0
    fields: int = 0
    applied: int = 0
    repeated: int = 0
    dropped: int = 0
    rejected: int = 0
    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SUM_COLUMNS, 0))
    rewound: int = 0
    settled: int = 0  # videos whose rows had changed outside a batch
    seconds: float = 0.0
    complete: bool = True  # False when the time budget or a stop ended the run early
    failures: dict[int, str] = field(default_factory=dict)  # shard -> reason

    @property
    def failed(self) -> bool:
        """Whether a shard failed; the next run finishes its batch."""
        return bool(self.failures)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON, with the sums beside the other figures."""
        values = asdict(self)
        sums: dict[str, int] = values.pop("sums")
        return values | sums


@dataclass(frozen=True, slots=True)
class ClosedBatch:
    """A batch that has ended. `seconds` is the time since its claim, also if another run claimed it."""

    shard: int
    number: int
    fields: int
    applied: int
    repeated: int
    dropped: int
    rejected: int
    rewound: bool
    seconds: float
