"""The calls to Redis that only a flush makes: a batch from its claim to its end, and live totals set anew.

Over 250 lines: all of these calls share a batch's keys, its number and its fence.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple

import redis

from videos.changes import BatchFacts, FieldSums, StaleVideo, Totals, VideoFacts, zeros
from videos.conf import conf
from videos.counters import clock, scripts
from videos.counters.connection import FLUSH_TIMEOUT_SECONDS, CountersUnavailable, flush_call, flush_calls
from videos.counters.keys import keys_of, recent_key
from videos.counters.requests import forget_command, forgotten_seconds
from videos.fields import mark_field, parse_state

# Fields in one read of a claimed batch, and in one confirm. All other clients of Redis wait meanwhile: 15 µs a field.
READ_FIELDS: Final = 1000
CONFIRM_FIELDS: Final = 100
OUTCOMES: Final = FieldSums._fields  # in the order of confirm.lua's arguments

Names = Sequence[bytes | str]


@dataclass(slots=True)
class Confirmation:
    """What the database has committed for one video: the names of its fields, by outcome.

    With `video_id` None the live key is left as it is. With `totals` None the video is gone.
    """

    video_id: int | None
    totals: Totals | None = None  # in its row
    applied: Names = ()
    repeated: Names = ()
    dropped: Names = ()
    rejected: Names = ()

    def outcomes(self) -> list[Names]:
        """The names in the order of OUTCOMES."""
        return [self.applied, self.repeated, self.dropped, self.rejected]

    def __len__(self) -> int:
        return sum(map(len, self.outcomes()))

    def pieces(self) -> Iterator[Confirmation]:
        """Split it into confirmations of at most CONFIRM_FIELDS fields, each with the same totals."""
        if len(self) <= CONFIRM_FIELDS:
            yield self
            return
        for outcome, names in zip(OUTCOMES, self.outcomes(), strict=True):
            for first in range(0, len(names), CONFIRM_FIELDS):
                piece = Confirmation(self.video_id, self.totals)
                setattr(piece, outcome, names[first : first + CONFIRM_FIELDS])
                yield piece


class Batch(BatchFacts):
    """A claimed batch. Once another batch of the shard was claimed, its methods change nothing in Redis."""

    __slots__ = ()

    @classmethod
    def claim(cls, *, shard: int, fence: int, floor: int, newest: int, at_ms: int) -> Claim:
        """Claim what is pending in a shard, or find the batch that is open.

        `floor` is the highest batch number that the database knows of this shard, `newest` that of any shard.
        """
        names = keys_of(shard)
        script_keys = (names.pending, names.claimed, names.batch, names.sums, names.claimed_sums)
        script = scripts.CLAIM.command(script_keys, fence, floor, newest, at_ms)
        number, last, fields, rewound, claimed_ms, previous = flush_call(*script)
        batch = cls(shard, number, fields, bool(rewound), claimed_ms, previous, fence) if number else None
        return Claim(batch, last, number or previous)

    def scan(self, at_once: int = READ_FIELDS) -> Iterator[list[tuple[bytes, bytes]] | None]:
        """Yield lists of about `at_once` fields and values; a field may come twice. None: another batch was claimed."""
        return self._scan(keys_of(self.shard).claimed, self.number, at_once)

    def _scan(self, key: str, number: int | str, at_once: int) -> Iterator[list[tuple[bytes, bytes]] | None]:
        cursor: bytes | int = 0
        while True:
            script = scripts.CLAIMED.command((key, keys_of(self.shard).batch), self.fence, number, cursor, at_once)
            reply = flush_call(*script)
            if reply is None:
                yield None
                return
            cursor, flat = reply
            yield list(zip(flat[::2], flat[1::2], strict=True))
            if cursor in {b"0", 0}:
                return

    def confirm(self, confirmations: Iterable[Confirmation]) -> bool:
        """Remove committed fields, and set the live totals from the rows. False: another batch was claimed."""
        part: list[Confirmation] = []
        size = 0
        for confirmation in confirmations:
            for piece in confirmation.pieces():
                fields = len(piece)
                if part and size + fields > CONFIRM_FIELDS:
                    if not self._confirm_part(part):
                        return False
                    part, size = [], 0
                part.append(piece)
                size += fields
        return self._confirm_part(part) if part else True

    def _confirm_part(self, part: Sequence[Confirmation]) -> bool:
        shard = keys_of(self.shard)
        names = [shard.claimed, shard.batch, shard.rejected, shard.sums, shard.done(self.number)]
        args: list[Any] = [self.fence, self.number, conf.LIVE_SETTLED_SECONDS]
        fields: list[bytes | str] = []
        for piece in part:
            if piece.video_id is None:
                names.append(shard.claimed)
                args += ("", *zeros())
            else:
                names.append(shard.live(piece.video_id))
                args += (0, *zeros()) if piece.totals is None else (1, *piece.totals)
            for outcome in piece.outcomes():
                args.append(len(outcome))
                fields += outcome
        return flush_call(*scripts.CONFIRM.command(names, *args, *fields)) is not None

    def forget_recent(self, marks: Iterable[tuple[int, int]]) -> None:
        """Take marks, by video and user, that are in the rows now from the users' recent ones.

        A mark that is pending again is put back. Call it before the confirm: a run that dies here does it again.
        """
        iterator = iter(marks)
        while part := list(islice(iterator, READ_FIELDS)):
            by_user: dict[int, list[int]] = {}
            for video_id, user_id in part:
                by_user.setdefault(user_id, []).append(video_id)
            flush_calls([("ZREM", recent_key(user_id), *video_ids) for user_id, video_ids in by_user.items()])
            pending = flush_call("HMGET", keys_of(self.shard).pending, *(mark_field(*mark) for mark in part))
            back = [(mark, parse_state(value)) for mark, value in zip(part, pending, strict=True) if value is not None]
            flush_calls(
                [
                    ("ZADD", recent_key(user_id), "NX", state.at_ms, video_id)
                    for (video_id, user_id), state in back
                    if state is not None
                ]
            )

    def give_back(self, video_id: int, names: Names) -> bool:
        """Move a video's fields back to pending; its row is held by others. False: another batch was claimed.

        The ledger must have recorded before that the video is postponed.
        """
        shard = keys_of(self.shard)
        done = shard.done(self.number)
        names_of_keys = (shard.claimed, shard.batch, shard.pending, shard.sums, shard.claimed_sums, done)
        return all(
            flush_call(*scripts.GIVE_BACK.command(names_of_keys, self.fence, self.number, video_id, *part)) is not None
            for part in (names[first : first + CONFIRM_FIELDS] for first in range(0, len(names), CONFIRM_FIELDS))
        )

    def sums(self) -> FieldSums | None:
        """How many fields had each outcome. None while fields are left, and after the batch was closed."""
        return self._close(close=False)

    def close(self) -> None:
        """Close the batch, so that the next one can be claimed. What it held is kept for a replay."""
        self._close(close=True)

    def _close(self, *, close: bool) -> FieldSums | None:
        names = keys_of(self.shard)
        script = scripts.CLOSE.command((names.claimed, names.batch, names.closed), self.fence, self.number, int(close))
        reply = flush_call(*script)
        return None if reply is None else FieldSums(*reply)

    def make_durable(self) -> None:
        """Wait until the claim is on disk, and on every attached replica.

        With `appendfsync always` it is on disk already; WAITAOF (Redis 7.2, Valkey) ensures it under other settings.
        Older servers have only WAIT, for replicas. Raises CountersUnavailable after VIDEOS_FLUSH_DURABLE_SECONDS.
        """
        info = flush_call("INFO", "replication").decode().splitlines()
        replicas = next((int(line[17:]) for line in info if line.startswith("connected_slaves:")), 0)
        timeout_ms = int(conf.FLUSH_DURABLE_SECONDS * 1000)
        wait = conf.FLUSH_DURABLE_SECONDS + FLUSH_TIMEOUT_SECONDS
        try:
            local, remote = flush_call("WAITAOF", 1, replicas, timeout_ms, wait_seconds=wait)
        except CountersUnavailable as error:
            if not isinstance(error.__cause__, redis.ResponseError):
                raise
            local, remote = 1, 0  # no WAITAOF, or no append-only file, which a system check reports
            if replicas:
                remote = flush_call("WAIT", replicas, timeout_ms, wait_seconds=wait)
        if local < 1 or remote < replicas:
            raise CountersUnavailable(
                f"A claim was not durable within {conf.FLUSH_DURABLE_SECONDS} s: on disk {local} of 1, "
                f"on replicas {remote} of {replicas}. Nothing was applied; the next run goes on."
            )


class Claim(NamedTuple):
    """The result of a claim; `batch` is None when nothing was pending."""

    batch: Batch | None
    last: int  # number of the shard's newest batch
    tail: int  # number of this batch, else of the newest closed one


class DoneBatch(Batch):
    """What is kept of a batch, to be applied again. The live totals were right when it was confirmed, and still are."""

    __slots__ = ()
    is_replay = True

    def scan(self, at_once: int = READ_FIELDS) -> Iterator[list[tuple[bytes, bytes]] | None]:
        """Yield lists of about `at_once` fields and values; a field may come twice."""
        yield from self._scan(keys_of(self.shard).done(self.number), "", at_once)

    def confirm(self, confirmations: Iterable[Confirmation]) -> bool:
        """Only make what Redis remembers of videos that are gone invalid."""
        for confirmation in confirmations:
            if confirmation.video_id is not None and confirmation.totals is None:
                flush_call(*forget_command(self.shard, confirmation.video_id))
        return True

    def size(self) -> int:
        """How many fields are kept."""
        return int(flush_call("HLEN", keys_of(self.shard).done(self.number)))

    def renew(self) -> None:
        """Start the time anew for which it is kept."""
        names = keys_of(self.shard)
        flush_call(*scripts.RENEW.command((names.batch, names.closed), self.fence, self.number))


class Closed(NamedTuple):
    """A closed batch that is kept for a replay."""

    number: int
    closed_ms: int  # Unix milliseconds, of the server's clock
    previous: int  # the batch that was closed before it; 0: none


class Kept(NamedTuple):
    """What a flush of a shard begins with."""

    fence: int
    last: int  # number of the newest batch
    tail: int  # number of the newest closed batch
    is_open: bool  # whether a batch is
    now_ms: int  # Unix milliseconds, of the server's clock
    waits: bool  # whether there is something to claim
    closed: list[Closed]  # in ascending order


def read_kept(shards: Iterable[int]) -> dict[int, Kept]:
    """The closed batches of each shard that are kept, and the fence for all further calls."""
    names = {shard: keys_of(shard) for shard in shards}
    script_keys = [(one.batch, one.closed, one.pending, one.claimed, one.sums) for one in names.values()]
    sent = time.monotonic()
    replies = flush_calls([scripts.KEPT.command(one) for one in script_keys])
    for *_, now_ms, _, _ in replies[-1:]:
        clock.note(now_ms / 1000, sent, time.monotonic())  # so that what this run records has the time of Redis
    return {
        shard: Kept(fence, last, tail, bool(is_open), now_ms, bool(waits), _closed(flat))
        for shard, (fence, last, tail, is_open, now_ms, waits, flat) in zip(names, replies, strict=True)
    }


def _closed(flat: Sequence[bytes]) -> list[Closed]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return sorted(Closed(int(number), *map(int, value.split(b":"))) for number, value in pairs)


def drop_kept(shard: int, fence: int, numbers: Sequence[int], *, forget: bool = False, early: bool = False) -> None:
    """Drop closed batches. `forget`: live and liked keys of before are invalid. `early`: a replay might need them."""
    names = keys_of(shard)
    script_keys = [names.batch, names.closed, *map(names.done, numbers)]
    flush_call(*scripts.DROP.command(script_keys, fence, int(forget), int(early), *numbers))


def resync(*, shard: int, fence: int, last: int, stale: Mapping[int, StaleVideo]) -> set[int]:
    """Set the live totals of videos of a shard from their rows, in two round trips. The caller holds their locks.

    Returns the videos that were set. The others wait for the next run: a batch is claimed, or was claimed since `last`,
    or another flush has set live totals meanwhile.
    """
    stamp = int(flush_call("HGET", keys_of(shard).batch, "stamp") or 0)  # each command adds one
    commands = [
        _resync_command(shard, (fence, last, stamp + place), video_id, changed)
        for place, (video_id, changed) in enumerate(stale.items())
    ]
    return {video_id for video_id, done in zip(stale, flush_calls(commands), strict=True) if done}


def _resync_command(shard: int, moment: tuple[int, int, int], video_id: int, changed: StaleVideo) -> tuple[Any, ...]:
    names = keys_of(shard)
    own = changed.facts or VideoFacts(Totals(), 0, 0)
    state = 0 if changed.facts is None else 2 if changed.edited else 1
    args: list[Any] = [*moment, state, own.owner_id, own.duration, video_id]
    args += (conf.LIVE_SECONDS, conf.LIVE_SETTLED_SECONDS, conf.LIKED_SECONDS, forgotten_seconds(), *own.totals)
    for user_id, value, at_ms, _ in changed.marks:
        args += (mark_field(video_id, user_id), value, at_ms)
    return scripts.RESYNC.command(
        [
            *(names.live(video_id), names.pending, names.claimed, names.batch, names.sums, names.claimed_sums),
            names.lives,
            *(names.liked(video_id, mark.user_id) for mark in changed.marks),
        ],
        *args,
    )
