"""How much of Redis' memory each kind of key takes."""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

SAMPLE: Final = 200  # keys of a kind that are measured; more are estimated from these
PIPELINE: Final = 1000


def kind_of(key: bytes) -> str:
    """`live` of `{videos:7}:live:42`, `recent` of `{user:9}:recent`; the name itself of any other."""
    found = re.match(rb"\{[^}]*\}:([a-z_]+)", key)
    return (found[1] if found else key).decode()


def measure(client: Any, found: Iterable[bytes] | None = None) -> dict[str, dict[str, int]]:
    """Keys and bytes of each kind, and of a hash kind that has few keys the number of fields. Raises RedisError."""
    keys: dict[str, list[bytes]] = defaultdict(list)
    for key in client.scan_iter(count=PIPELINE) if found is None else found:
        keys[kind_of(key)].append(key)
    kinds: dict[str, dict[str, int]] = {}
    for kind, members in keys.items():
        sample = members[:: -(-len(members) // SAMPLE)]
        pipe = client.pipeline(transaction=False)
        for key in sample:
            pipe.execute_command("MEMORY USAGE", key, "SAMPLES", 50)
        sizes = [size or 0 for size in pipe.execute()]  # None: it is gone by now
        kinds[kind] = {"keys": len(members), "bytes": int(sum(sizes) * len(members) / len(sample))}
        if kind in {"pending", "claimed", "done"}:
            for key in members:
                pipe.hlen(key)
            kinds[kind]["fields"] = sum(pipe.execute())
    return dict(sorted(kinds.items()))
