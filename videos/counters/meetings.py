"""What a meeting with the database needs of Redis; videos/meeting.py tells the rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from videos.changes import Newer
from videos.conf import conf
from videos.counters import keys, scripts
from videos.counters.connection import CountersUnavailable, exchange, forget_connections
from videos.counters.keys import keys_of

SCANNED_KEYS: Final = 1000  # in one call; all other clients wait meanwhile


class Pairing(NamedTuple):
    """Which database a Redis belongs to, and the VIDEOS_SHARDS of its keys; None before the first meeting."""

    identity: str | None
    shards: int | None
    location: str | None  # a hash of where the database was when they first met


class ShardRun(NamedTuple):
    """What a shard knows of meetings."""

    run: str | None  # the run id that has met
    fence: int
    last: int  # number of its newest batch
    open: int  # number of the open batch; 0 if none is


def read_pairing() -> Pairing:
    """What Redis says of its database."""
    found = _ask([("GET", keys.IDENTITY), ("GET", keys.SHARDS), ("GET", keys.LOCATION)])
    identity, shards, location = (None if reply is None else reply.decode() for reply in found)
    return Pairing(identity, None if shards is None else int(shards), location)


def pair(identity: str, shards: int, location: str, *, replace: bool = False) -> Pairing:
    """Write which database it belongs to, unless that is known or `replace`; return what is there then."""
    only = () if replace else ("NX",)
    values = ((keys.IDENTITY, identity), (keys.SHARDS, shards), (keys.LOCATION, location))
    _ask([("SET", key, value, *only) for key, value in values])
    return read_pairing()


def pair_as(pairing: Pairing) -> None:
    """Put back what Redis said of its database."""
    values = zip((keys.IDENTITY, keys.SHARDS, keys.LOCATION), pairing, strict=True)
    _ask([("DEL", key) if value is None else ("SET", key, value) for key, value in values])


def disconnect_others() -> bool:
    """Close all other connections to Redis; False if it does not let us."""
    try:
        _ask([("CLIENT", "KILL", "TYPE", "normal")])
    except CountersUnavailable as error:
        if not error.code:
            raise
        return False
    forget_connections()  # those of other threads of this process are closed too
    return True


def clear_shards(shards: Iterable[int], *, changes: bool) -> None:
    """Drop what is kept of closed batches, and with `changes` also what is not flushed."""
    for names in map(keys_of, shards):
        (numbers,) = _ask([("HKEYS", names.closed)])
        gone = [names.closed, *(names.done(int(number)) for number in numbers)]
        commands: list[tuple[Any, ...]] = [("UNLINK", *gone)]
        if changes:
            commands += [
                ("UNLINK", names.pending, names.claimed, names.sums, names.claimed_sums),
                ("HDEL", names.batch, "open"),
            ]
        _ask(commands)


def forget_views() -> None:
    """Drop what is remembered of viewers and addresses, of all shards. It scans all keys of this Redis."""
    for pattern in keys.OF_VIEWS:
        cursor = b"0"
        while True:
            ((cursor, found),) = _ask([("SCAN", cursor, "MATCH", pattern, "COUNT", SCANNED_KEYS)])
            if found:
                _ask([("UNLINK", key) for key in found])
            if cursor == b"0":
                break


def shard_runs(shards: Iterable[int] | None = None, *, run: str = "") -> dict[int, ShardRun]:
    """What each shard knows of meetings, in one round trip. Raises Unmet if this is not that run of Redis."""
    chosen = list(range(conf.SHARDS) if shards is None else shards)
    replies = _ask([("HMGET", keys_of(shard).batch, "met", "fence", "last", "open", "number") for shard in chosen], run)
    return {
        shard: ShardRun(
            None if run is None else run.decode(),
            int(fence or 0),
            int(last or 0),
            int(number) if is_open == b"1" else 0,
        )
        for shard, (run, fence, last, is_open, number) in zip(chosen, replies, strict=True)
    }


def take_fences(
    run: str,
    known: Mapping[int, ShardRun],
    found: Mapping[int, tuple[int, Newer]],
    *,
    forget: bool = False,
    abandon: bool = False,
) -> set[int]:
    """Give shards their fences, and let each act on the newer batches, once; return those that did.

    Raises Unmet if this is another run, or a shard has claimed or been set back since it was read.

    `forget`: live and liked keys of before are invalid in any case. `abandon`: the database has lost a batch for good.
    """
    commands = []
    for shard, (fence, newer) in found.items():
        names = keys_of(shard)
        script_keys = (
            *(names.pending, names.claimed, names.batch, names.closed),
            *(names.done(known[shard].open), names.done(newer.first), names.sums, names.claimed_sums),
        )
        flags = int(forget or abandon), int(abandon)
        newest = newer.first, int(newer.finished), newer.newest, known[shard].last
        postponed = len(newer.postponed_by_open), *newer.postponed_by_open, *newer.postponed_by_first
        commands.append(scripts.MEET.command(script_keys, run, fence, *flags, *newest, *postponed))
    replies = _ask(commands, run) if commands else []
    return {shard for shard, behind in zip(found, replies, strict=True) if behind}


def _ask(commands: Sequence[tuple[Any, ...]], run: str = "") -> list[Any]:
    return exchange(commands, for_flush=True, meeting=run)
