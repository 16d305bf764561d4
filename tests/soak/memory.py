"""Redis' memory by kind of key: script/soak memory [--likes N] [--on PAIR]

Makes N likes and N views (60,000: a minute at 1,000 a second) of 1,000 videos. Ids have six digits for
videos and seven for users. Measures, flushes, and measures again.
"""

import argparse
import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from tests.soak.stack import Stack

VIDEOS: Final = 1000
USERS: Final = 2000
FIRST_VIDEO, FIRST_USER = 100_000, 1_000_000
EVENTS: Final = 1000  # of one call
HASHES: Final = frozenset({"pending", "claimed", "done", "closed", "sums", "claimed_sums"})
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
        if kind in HASHES:
            for key in members:
                pipe.hlen(key)
            kinds[kind]["fields"] = sum(pipe.execute())
    return dict(sorted(kinds.items()))


def main(arguments: list[str]) -> int:
    """Fill a private Redis, flush, print both tables; 0."""
    parser = argparse.ArgumentParser("script/soak memory", description=__doc__)
    parser.add_argument("--likes", type=int, default=60_000, help="and as many views (60,000)")
    parser.add_argument("--on", choices=("sqlite", "mariadb", "mysql"), default="mariadb", help="default: mariadb")
    options = parser.parse_args(arguments)
    patient = {"REDIS_TIMEOUT_SECONDS": "10"}
    with TemporaryDirectory(prefix="memory-") as name, Stack(Path(name), options.on, variables=patient) as stack:
        os.environ |= stack.environment()
        import django

        django.setup()
        from django.core.management import call_command

        from videos.flush import run_flush

        call_command("migrate", verbosity=0)
        run_flush()  # so that the two have met
        _fill(options.likes)
        _show(stack, "before the flush")
        assert not run_flush().failures
        _show(stack, "after it")
    return 0


def _fill(likes: int) -> None:
    from django.contrib.auth.models import User

    from videos import services
    from videos.models import Video

    users = range(FIRST_USER, FIRST_USER + USERS)
    User.objects.bulk_create((User(id=user, username=str(user)) for user in users), batch_size=1000)
    videos = range(FIRST_VIDEO, FIRST_VIDEO + VIDEOS)
    Video.objects.bulk_create(
        Video(id=video, title="one", url="https://example.com/v", owner_id=FIRST_USER) for video in videos
    )
    shown = time.monotonic()
    for made in range(0, likes, EVENTS):
        numbers = range(made, min(made + EVENTS, likes))
        services.record_views(
            events=[services.ViewEvent(videos[number % VIDEOS], f"viewer-{number}") for number in numbers]
        )
        for number in numbers:
            user = users[(number // VIDEOS * 31 + number) % USERS]
            services.set_like(video_id=videos[number % VIDEOS], user_id=user, liked=True)
        if time.monotonic() > shown + 10:
            shown = time.monotonic()
            print(f"{made + EVENTS:,} of {likes:,} likes", flush=True)


def _show(stack: Stack, moment: str) -> None:
    import redis

    client = redis.Redis(port=stack.redis.port, protocol=2)
    used: Any = client.info("memory")
    print(f"\n{stack.redis.name}, {moment}: {used['used_memory'] / 1e6:,.1f} MB\n")
    print("| key | keys | fields | bytes of a key | bytes of a field |\n|---|---:|---:|---:|---:|")
    for kind, one in measure(client).items():
        fields = one.get("fields", 0)
        of_fields = f"{one['bytes'] / fields:,.0f}" if fields else ""
        print(f"| {kind} | {one['keys']:,} | {fields or ''} | {one['bytes'] / one['keys']:,.0f} | {of_fields} |")
