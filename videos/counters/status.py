"""What health, metrics and checks ask of Redis: depths, when the flush last ran, how the server is set."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

from videos.conf import conf
from videos.counters import keys
from videos.counters.connection import CountersUnavailable, flush_call, send
from videos.counters.keys import keys_of


class Depth(NamedTuple):
    """How much lies in a shard, in fields."""

    pending: int
    claimed: int
    rejected: int


def depths() -> list[Depth]:
    """How much lies in each shard, in two round trips; shards of an earlier, larger VIDEOS_SHARDS are among them."""
    (known,) = send([("GET", keys.SHARDS)])
    commands = [
        ("HLEN", key)
        for shard in map(keys_of, range(max(int(known or 0), conf.SHARDS)))
        for key in (shard.pending, shard.claimed, shard.rejected)
    ]
    replies = send(commands)
    return [Depth(*replies[place : place + 3]) for place in range(0, len(replies), 3)]


def note_finished_run(at_ms: int) -> int | None:
    """Note that a run of the flush finished; return when one finished before. Both in Unix milliseconds."""
    before = flush_call("SET", keys.FLUSHED, at_ms, "GET")
    return None if before is None else int(before)


def last_finished_run() -> int | None:
    """When a run of the flush last finished, in Unix milliseconds; None where Redis does not know."""
    (reply,) = send([("GET", keys.FLUSHED)])
    return None if reply is None else int(reply)


def watched_since(at_ms: int) -> int:
    """When somebody first asked, in Unix milliseconds: from then on a flush that never ran is late."""
    _, reply = send([("SET", keys.WATCHED, at_ms, "NX"), ("GET", keys.WATCHED)])
    return int(reply)


def server_facts() -> dict[str, Any]:
    """What the server is and how it is set, for checks: version, policy of eviction, append-only file, role, replicas.

    `appendfsync` is None where the server does not tell, as managed ones do not.
    """
    sections = [flush_call("INFO", section) for section in ("server", "replication", "persistence", "memory")]
    lines = b"\n".join(sections).decode().splitlines()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    appendfsync = None
    with contextlib.suppress(CountersUnavailable):
        appendfsync = flush_call("CONFIG", "GET", "appendfsync")[1].decode()
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
