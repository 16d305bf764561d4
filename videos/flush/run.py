"""What the shards of one run share: report, time limits, pace. Knows no threads and no shards."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

from videos.changes import SUM_COLUMNS, Changes, VideosError
from videos.conf import conf
from videos.counters import Kept
from videos.counters.batches import READ_FIELDS
from videos.flush.pace import Pace
from videos.ledger.batches import Compared

# For a gentle run: it rests while the rows of a chunk are locked, so a chunk is small.
GENTLE_CHUNK_FIELDS: Final = 100
GENTLE_READ_FIELDS: Final = 100
SETTLE_SHARE: Final = 0.5  # of the flush's interval: when it is over, a run leaves further notes to the next one


T = TypeVar("T")


class Stopped(VideosError):
    """The run is out of time or was told to stop; the next run continues."""


class GentleTimeOver(VideosError):
    """The time of a gentle run is over; a thread of normal priority continues."""


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
    replayed: int = 0  # batches that the database had lost
    unkept: int = 0  # batches that Redis has no memory to keep for a replay
    postponed: int = 0  # videos whose rows were locked to the end; their changes are pending again
    settled: int = 0  # videos whose rows had changed outside a batch
    notes: int = 0  # of these videos, deleted
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


class ClosedBatch(NamedTuple):
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


class Foreseen(NamedTuple):
    """What a flush of a shard begins with, of both stores."""

    kept: Kept
    compared: Compared
    floor: int  # number of the newest batch that the database knows of the shard
    newest: int  # and of any shard
    memory_share: float  # how much of its maxmemory Redis uses


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the flush."""

    report: FlushReport
    max_seconds: float | None = None
    pace: Pace | None = None  # of a gentle run
    should_stop: Callable[[], bool] = lambda: False
    on_batch: Callable[[ClosedBatch], None] | None = None
    begin: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)  # held to change the report and in callbacks
    crashed: threading.Event = field(default_factory=threading.Event)  # a thread raised an unexpected exception
    gentle_time_over: threading.Event = field(default_factory=threading.Event)
    # shard -> its newest batch, its newest closed batch and the fence, if this run has flushed it
    flushed: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    foreseen: dict[int, Foreseen] = field(default_factory=dict)  # by shard, until that begins
    postponed: dict[int, int] = field(default_factory=dict)  # shard -> videos whose rows are locked

    def check_time(self, *, low_priority: bool) -> None:
        """Call it between chunks. Raises Stopped if the run must end, GentleTimeOver if this thread must."""
        late = self.max_seconds is not None and time.monotonic() - self.begin >= self.max_seconds
        report = self.report
        moved = report.fields or report.notes or report.failures
        if self.crashed.is_set() or self.should_stop() or (late and moved):
            raise Stopped
        if low_priority and self.pace is not None and self.pace.is_over():
            self.gentle_time_over.set()
            raise GentleTimeOver

    def add(self, sums: Mapping[str, int] | None = None, /, **figures: int) -> None:
        """Add to the report: sums by SUM_COLUMNS, and its other figures by name."""
        with self.lock:
            for name, number in (sums or {}).items():
                self.report.sums[name] += number
            for name, number in figures.items():
                setattr(self.report, name, getattr(self.report, name) + number)

    def note_postponed(self, shard: int, videos: int) -> None:
        """Count videos whose changes went back to pending."""
        if videos:
            self.postponed[shard] = self.postponed.get(shard, 0) + videos  # one thread has the shard

    def check_time_to_settle(self) -> None:
        """Call it between chunks of notes. Raises Stopped if the next run must go on with them."""
        if self.pace is not None:
            over = self.pace.is_over()
        else:
            over = time.monotonic() - self.begin >= conf.FLUSH_INTERVAL_SECONDS * SETTLE_SHARE
        if over and self.report.notes:
            raise Stopped

    def note_closed(self, batch: ClosedBatch) -> None:
        """Count a batch that has ended, and pass it to `on_batch`."""
        self.add(batches=1, rewound=batch.rewound)
        if self.on_batch is not None:
            with self.lock:
                self.on_batch(batch)

    def rest(self) -> None:
        """Rest after a piece of work, if this is a gentle run."""
        if self.pace is not None:
            self.pace.rest()

    @property
    def read_fields(self) -> int:
        """How many fields of a batch are read at once."""
        return READ_FIELDS if self.pace is None else GENTLE_READ_FIELDS

    def chunks(self, changes: Mapping[int, Changes]) -> Iterator[dict[int, Changes]]:
        """Yield the chunks to move, and tell the pace how long each took."""
        yield from self.paced(split(changes, conf.FLUSH_CHUNK_FIELDS if self.pace is None else GENTLE_CHUNK_FIELDS))

    def paced(self, pieces: Iterable[T]) -> Iterator[T]:
        """Yield pieces of work, and tell the pace how long each took."""
        pace, report = self.pace, self.report
        for piece in pieces:
            moved, worked = report.fields + report.notes, 0.0 if pace is None else pace.worked()
            yield piece
            if pace is not None:
                pace.note_moved(report.fields + report.notes - moved, pace.worked() - worked)


def split(changes: Mapping[int, Changes], most: int) -> Iterator[dict[int, Changes]]:
    """Yield chunks of about `most` fields, in the order of video ids. All fields of a video are in one chunk."""
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
