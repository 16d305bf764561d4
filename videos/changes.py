"""The words that requests and flush share: counts, changes, the facts of a video, batches.

A count is a *mark* or a *tally*. A mark is the state that a user gave a video: a like, a dislike, or none. A
tally is a sum per video and hour: views. `COUNTS` names every count; Lua scripts, SQL, answers, the admin and health
loop over it.
docs/adding-a-count.md lists what else a new count needs; docs/glossary.md explains the terms.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple, Self

MAX_ID: Final = 2**63 - 1  # BIGINT: the largest id that a row can have, and the largest count
DAY_SECONDS: Final = 86_400
HOUR_SECONDS: Final = 3600
HOUR_MS: Final = 3_600_000
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# Values of a mark. Redis stores them, so a value that was used once must keep its meaning.
NOTHING: Final = 0
LIKE: Final = 1
DISLIKE: Final = 2


class CountName(NamedTuple):
    """One kind of count."""

    name: str  # in Redis, in `Totals`, in the columns of VideoHour and FlushBatch
    kind: Literal["mark", "tally"]
    letter: str  # begins its fields in Redis' pending hash
    column: str  # of Video, and the name in answers
    value: int = NOTHING  # a mark counts the users whose state is this value
    orders: bool = False  # whether pages of videos may be ordered by it: its column has an index


COUNTS: Final = (
    CountName("likes", "mark", "l", "like_count", LIKE, orders=True),
    CountName("views", "tally", "v", "view_count", orders=True),
    CountName("watched", "tally", "w", "watch_seconds"),
    CountName("dislikes", "mark", "l", "dislike_count", DISLIKE),
)


class Totals(NamedTuple):
    """A number for each of COUNTS, in their order: the totals of a video, or how much they gain."""

    likes: int = 0
    views: int = 0
    watched: int = 0
    dislikes: int = 0


COLUMNS: Final = tuple(count.column for count in COUNTS)
ORDERS: Final = ("created_at", *(count.column for count in COUNTS if count.orders))  # of pages of videos
TALLIES: Final = tuple(count for count in COUNTS if count.kind == "tally")
MARKS: Final = tuple(count for count in COUNTS if count.kind == "mark")
PLACES: Final = {count.name: place for place, count in enumerate(COUNTS)}
MARK_PLACES: Final = {count.value: PLACES[count.name] for count in MARKS}  # a mark's value -> its place in Totals


# The sums of a batch, as columns of FlushBatch: changed rows, then the gain of each count.
SUM_COLUMNS: Final = (
    "videos",
    *(
        column
        for count in COUNTS
        for column in ((f"{count.name}_added", f"{count.name}_removed") if count.kind == "mark" else (count.name,))
    ),
)


class VideoFacts(NamedTuple):
    """What Redis needs of a video's row before it counts: the totals, and the values that the rules of views use."""

    totals: Totals
    owner_id: int
    duration: int  # seconds; 0 if unknown
    watermark: int = 0  # the newest batch that the totals contain
    version: str = ""  # of the shard in Redis, as a script told it before the row was read


class MarkChange(NamedTuple):
    """The state that a user gave a video, and when."""

    user_id: int
    value: int  # NOTHING, or the value of a mark
    at_ms: int  # Unix milliseconds
    batch: int = 0  # that postponed it: a row with this watermark has it


class TallyChange(NamedTuple):
    """What a tally of a video gained in an hour."""

    name: str  # of the tally in COUNTS
    hour: int  # hours since 1970, UTC
    amount: int
    batch: int = 0  # that postponed it: a row with this watermark has it


def _key(tally: TallyChange) -> tuple[str, int, int]:
    return tally.name, tally.hour, tally.batch


class Changes:
    """The changes of one video. The last one added wins: of a user, or of a tally, hour and batch."""

    __slots__ = ("_marks", "_tallies")

    def __init__(self, marks: Iterable[MarkChange] = (), tallies: Iterable[TallyChange] = ()) -> None:
        # A flush makes one of these for each video, and most hold a single change: so skip what is empty.
        self._marks = {mark.user_id: mark for mark in marks} if marks else {}
        self._tallies = {_key(tally): tally for tally in tallies} if tallies else {}

    @classmethod
    def of(cls, changes: Iterable[MarkChange | TallyChange]) -> Self:
        made = cls()
        for change in changes:
            made.add(change)
        return made

    def add(self, change: MarkChange | TallyChange) -> None:
        if isinstance(change, MarkChange):
            self._marks[change.user_id] = change
        else:
            self._tallies[_key(change)] = change

    @property
    def marks(self) -> Collection[MarkChange]:
        """The marks, one for each user."""
        return self._marks.values()

    @property
    def tallies(self) -> Collection[TallyChange]:
        """The tallies, one for each name, hour and batch."""
        return self._tallies.values()

    def flat(self) -> list[MarkChange | TallyChange]:
        """All changes in one list."""
        return [*self._marks.values(), *self._tallies.values()]

    def lacking(self, watermark: int) -> Self:
        """Those that a row with this watermark does not have. Without postponed ones, they are all."""
        if not any(one.batch for one in self._marks.values()) and not any(key[2] for key in self._tallies):
            return self
        return self.of(one for one in self.flat() if not one.batch or one.batch > watermark)

    def __len__(self) -> int:
        return len(self._marks) + len(self._tallies)


class StaleVideo(NamedTuple):
    """A video whose rows changed outside a batch."""

    facts: VideoFacts | None  # None: it is gone
    marks: Sequence[MarkChange]  # those that notes name, with their values in the rows
    edited: bool = False  # its notes are of edits only, which change nobody's mark


class BatchFacts(NamedTuple):
    """A batch that was claimed from a shard. Its number grows from batch to batch of the shard."""

    shard: int
    number: int
    fields: int  # at the claim
    rewound: bool  # Redis or the database had been set back
    claimed_ms: int  # Unix milliseconds
    previous: int = 0  # number of the batch that was closed before it; 0: none
    fence: int = 0  # of the meeting that the flush works under

    @property
    def is_replay(self) -> bool:
        """Whether it was closed, and what is kept of it is applied again."""
        return False


class Newer(NamedTuple):
    """The batches of a shard that Redis does not know; 0 if there is none."""

    first: int = 0
    finished: bool = False  # whether the first is
    newest: int = 0
    postponed_by_open: Sequence[int] = ()  # videos that Redis' open batch postponed
    postponed_by_first: Sequence[int] = ()


class FieldSums(NamedTuple):
    """How many fields of a batch had each outcome."""

    applied: int
    repeated: int  # applied by an earlier run
    dropped: int  # their video or user is gone
    rejected: int  # malformed or refused by the database; set aside in Redis


def moment(unix_ms: int) -> datetime:
    """The time of Unix milliseconds."""
    return EPOCH + timedelta(milliseconds=unix_ms)


def zeros() -> list[int]:
    """A list with a zero for each of COUNTS, to add gains to."""
    return [0] * len(COUNTS)


class VideosError(Exception):
    """Base of this app's errors. The docstring of a class is its default message."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__)
