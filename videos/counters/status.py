"""What health, metrics and checks read from Redis: depths, when the flush last ran, the server's configuration."""

import contextlib
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import redis
from django.core.exceptions import ImproperlyConfigured

from videos.conf import conf
from videos.counters import keys, memory, scripts
from videos.counters.connection import CountersUnavailable, exchange, flush_call, make_connection, send
from videos.counters.keys import keys_of

PROBED_SECONDS: Final = 60
# Each command that scripts, requests and the flush use, in a form that changes nothing but a key of its own.
NOBODY: Final = 2**62  # the id of no client
_KEY: Final = "{videos:0}:tried"
TRIALS: Final[tuple[tuple[Any, ...], ...]] = (
    *(("SET", key, 1, "EX", PROBED_SECONDS) for key in ("videos:probed", "{user:0}:tried", _KEY)),
    *(("PING",), ("TIME",), ("INFO", "server"), ("WAIT", 0, 1), ("WAITAOF", 0, 0, 1)),
    *(("SCRIPT", "LOAD", "return 1"), scripts.KEPT.command([]), ("SCAN", 0), ("CLIENT", "KILL", "ID", NOBODY)),
    *((name, _KEY) for name in ("EXISTS", "GET", "HGETALL", "HKEYS", "HLEN", "INCR", "PTTL", "TTL")),
    *((name, _KEY, "0") for name in ("HDEL", "HEXISTS", "HGET", "HMGET", "HSCAN", "SADD", "SREM", "SSCAN", "ZREM")),
    *(("HSET", _KEY, "0", 0), ("HSETNX", _KEY, "0", 0), ("HINCRBY", _KEY, "0", 0), ("ZADD", _KEY, 0, "0")),
    *(("ZRANGEBYSCORE", _KEY, 0, 0), ("ZREVRANGE", _KEY, 0, 0), ("RENAME", _KEY, _KEY), ("EXPIRE", _KEY, 60)),
    *(("PEXPIRE", _KEY, 60_000), ("INCRBY", _KEY, 0)),
    *(("UNLINK", _KEY), ("DEL", _KEY)),
)
AOF_OFF: Final = "no append-only file"
AOF_FAILS: Final = "the append-only file cannot be written"


class Depth(NamedTuple):
    """How many fields a shard holds."""

    pending: int
    claimed: int
    rejected: int
    unkept_ms: int  # when batches were last dropped although a replay might need them, in Unix ms; 0: never


def depths(shards: int | None = None) -> list[Depth]:
    """The depth of each shard, in one round trip."""
    commands = [
        command
        for shard in map(keys_of, range(shards or conf.SHARDS))
        for command in (
            *(("HLEN", key) for key in (shard.pending, shard.claimed, shard.rejected)),
            ("HGET", shard.batch, "unkept"),
        )
    ]
    replies = send(commands) if shards is None else exchange(commands, for_flush=True, meeting="")
    return [Depth(*(int(reply or 0) for reply in replies[at : at + 4])) for at in range(0, len(replies), 4)]


def memory_share() -> float:
    """How much of its maxmemory Redis uses; 0 without a maxmemory."""
    return memory.share_of(flush_call(*memory.QUESTION))


def note_finished_run(at_ms: int) -> int | None:
    """Record when a run of the flush finished; return when the one before did. Both in Unix milliseconds."""
    before = flush_call("SET", keys.FLUSHED, at_ms, "GET")
    return None if before is None else int(before)


def note_beats(shards: Iterable[int], at_ms: int) -> None:
    """Record that a run of the flush has finished with these shards."""
    beats = [part for shard in shards for part in (shard, at_ms)]
    if beats:
        flush_call("HSET", keys.BEATS, *beats)


def beats() -> dict[int, int]:
    """When a run of the flush last finished with each shard, in Unix milliseconds."""
    (reply,) = send([("HGETALL", keys.BEATS)])
    return {int(shard): int(at_ms) for shard, at_ms in zip(reply[::2], reply[1::2], strict=True)}


def last_finished_run() -> int | None:
    """When a run of the flush last finished, in Unix milliseconds; None if Redis does not know."""
    (reply,) = send([("GET", keys.FLUSHED)])
    return None if reply is None else int(reply)


def watched_since(at_ms: int) -> int:
    """When this was first called, in Unix milliseconds. A flush that has not run since then can be late.

    It is `at_ms` while Redis takes no writes. Raises CountersUnavailable.
    """
    (reply,) = send([("GET", keys.WATCHED)])
    if reply is None:
        with contextlib.suppress(CountersUnavailable):
            _, reply = send([("SET", keys.WATCHED, at_ms, "NX"), ("GET", keys.WATCHED)])
    return at_ms if reply is None else int(reply)


def find_fault() -> str | None:
    """Why a Redis that takes writes may lose them; None: it has an append-only file and can write it.

    Notes the use of memory, too. Raises CountersUnavailable, also if Redis answers but takes no writes.
    """
    _, info = send([("SET", keys.PROBED, 1, "EX", PROBED_SECONDS), ("INFO", "persistence"), memory.QUESTION])
    facts = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    if facts.get("aof_enabled") != "1":
        return AOF_OFF
    return None if facts.get("aof_last_write_status") == "ok" else AOF_FAILS


def option_fault() -> str | None:
    """Why no connection can be made of the OPTIONS in CACHES; None if one can. No server is asked."""
    try:
        make_connection(for_flush=False)
    except (TypeError, ValueError, redis.RedisError, ImproperlyConfigured) as error:
        return str(error)
    return None


def refused() -> list[str]:
    """What Redis' access control list refuses to the service's user: commands, and patterns of keys."""
    found: dict[str, None] = {}
    for trial in TRIALS:
        try:
            _ask(*trial)
        except CountersUnavailable as error:
            if not error.code:
                raise
            if error.code == "NOPERM":
                name = " ".join(trial[:2]) if trial[0] in {"SCRIPT", "CLIENT"} else trial[0]
                found[name if "to run" in str(error) else f"keys like {trial[1]}"] = None
    return list(found)


def server_facts() -> dict[str, Any]:
    """The server's version and configuration, for checks: eviction policy, append-only file, role, replicas.

    `appendfsync` is None if the server hides its configuration, as managed servers do.
    """
    sections = [_ask("INFO", section) for section in ("server", "replication", "persistence", "memory")]
    lines = b"\n".join(sections).decode().splitlines()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    appendfsync = None
    with contextlib.suppress(CountersUnavailable):
        appendfsync = _ask("CONFIG", "GET", "appendfsync")[1].decode()
    return {
        "version": facts.get("valkey_version") or facts.get("redis_version"),
        "server": facts.get("server_name", "redis"),
        "maxmemory": int(facts.get("maxmemory", 0)),
        "maxmemory_policy": facts.get("maxmemory_policy"),
        "aof_enabled": facts.get("aof_enabled") == "1",
        "appendfsync": appendfsync,
        "role": facts.get("role"),
        "connected_replicas": int(facts.get("connected_slaves", 0)),
    }


def _ask(*command: Any) -> Any:
    """The reply to a command for which Redis need not have met the database."""
    return exchange([command], for_flush=True, meeting="")[0]
