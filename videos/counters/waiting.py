"""What waits in Redis for the flush, of one video in all detail, or of many as sums: for their history."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from videos.changes import COUNTS, HOUR_MS, MARK_PLACES, PLACES, TallyChange
from videos.counters.connection import send
from videos.counters.keys import keys_of, shard_of
from videos.counters.requests import MAX_SCANNED_FIELDS, SCAN_FIELDS
from videos.fields import parse, replaced_value

# Claims, meetings and fields that go back to pending change one of these. So if all are the same before and after a
# scan of pending and claimed, no field moved from one to the other meanwhile.
_VERSION: Final = ("number", "last", "open", "fields", "fence", "meeting")
_NAMES: Final = [count.name for count in COUNTS]


class Gain(NamedTuple):
    """How much a count gains in an hour."""

    hour: int  # since 1970
    place: int  # in COUNTS
    amount: int
    batch: int = 0  # that postponed it: a row with this watermark has it


class Waiting(NamedTuple):
    """What waits of one video. Rows hold what was claimed if their watermark is `number` or more."""

    pending: Sequence[Gain]
    claimed: Sequence[Gain]
    number: int  # of the batch that was claimed last
    version: Any  # of the shard: read the rows, and then `is_current`
    whole: bool = True  # False: so much waits in the shard that it was not read


def read_waiting(video_id: int) -> Waiting:
    """What waits of a video, if its version `is_current` in the end."""
    keys = keys_of(shard_of(video_id))
    names = [f"{name}:{video_id}" for name in _NAMES]
    version, sums, claimed_sums, *sizes = send([
        ("HMGET", keys.batch, *_VERSION), ("HMGET", keys.sums, *names), ("HMGET", keys.claimed_sums, *names),
        ("HLEN", keys.pending), ("HLEN", keys.claimed),
    ])  # fmt: skip
    number = int(version[0] or 0)
    if all(value is None for value in (*sums, *claimed_sums)):
        return Waiting((), (), number, version)
    if sum(sizes) > MAX_SCANNED_FIELDS:
        return Waiting((), (), number, version, whole=False)
    pending, claimed = (_scan(key, video_id) for key in (keys.pending, keys.claimed))
    return Waiting(pending, claimed, number, version)


def is_current(video_id: int, version: Any) -> bool:
    """Whether no field of the video's shard has moved since this version was read."""
    return bool(send([("HMGET", keys_of(shard_of(video_id)).batch, *_VERSION)]) == [version])


def _scan(key: str, video_id: int) -> list[Gain]:
    fields: dict[bytes, bytes] = {}
    cursor: Any = 0
    while cursor != b"0":
        ((cursor, flat),) = send([("HSCAN", key, cursor, "MATCH", f"?:{video_id}:*", "COUNT", SCAN_FIELDS)])
        fields |= zip(flat[::2], flat[1::2], strict=True)
    return [gain for name, value in fields.items() for gain in _gains_of(name, value)]


def _gains_of(name: bytes, value: bytes) -> Iterator[Gain]:
    parsed = parse(name, value)
    if parsed is None:  # malformed: the flush rejects it
        return
    _, change = parsed
    if isinstance(change, TallyChange):
        yield Gain(change.hour, PLACES[change.name], change.amount, change.batch)
        return
    before = replaced_value(value)
    for step, mark in ((1, change.value), (-1, before)):
        if mark in MARK_PLACES and change.value != before:
            yield Gain(change.at_ms // HOUR_MS, MARK_PLACES[mark], step, change.batch)


class WaitingSums(NamedTuple):
    """How much waits of the totals of a video, in the order of COUNTS."""

    pending: Sequence[int]
    claimed: Sequence[int]
    number: int  # of the batch that was claimed last


def read_waiting_sums(video_ids: Iterable[int]) -> Mapping[int, WaitingSums] | None:
    """What waits of these videos, those left out of which nothing waits; None if fields moved meanwhile: try again."""
    by_shard: dict[int, list[int]] = {}
    for video_id in video_ids:
        by_shard.setdefault(shard_of(video_id), []).append(video_id)
    commands: list[tuple[Any, ...]] = []
    for shard, members in by_shard.items():
        keys, names = keys_of(shard), [f"{name}:{video_id}" for video_id in members for name in _NAMES]
        version = ("HMGET", keys.batch, *_VERSION)
        commands += (version, ("HMGET", keys.sums, *names), ("HMGET", keys.claimed_sums, *names), version)
    replies = send(commands) if commands else []
    found: dict[int, WaitingSums] = {}
    width = len(COUNTS)
    for place, members in enumerate(by_shard.values()):
        before, sums, claimed, after = replies[4 * place : 4 * place + 4]
        if before != after:
            return None
        for at, video_id in enumerate(members):
            part = slice(width * at, width * (at + 1))
            gains = [[int(value or 0) for value in values[part]] for values in (sums, claimed)]
            if any(map(any, gains)):
                found[video_id] = WaitingSums(gains[0], gains[1], int(before[0] or 0))
    return found
