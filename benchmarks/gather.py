"""`python -m benchmarks.gather`: let changes gather in Redis, through the service's own scripts, many in a round trip.

Reads `{"videos": n, "pairs": [[user, video], ...], "views": n, "likes": n, "users": n}` from standard input: videos
1..videos become live, and Redis learns that these users do not like these videos; then videos 1..views are each watched
once, and videos 1..likes each liked once, by one of the users.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

import django

CHUNK = 1000
T = TypeVar("T")


def main() -> None:
    """Prime Redis, then count."""
    django.setup()
    from videos import counters

    told = json.load(sys.stdin)
    for videos in _parts(range(1, told["videos"] + 1)):
        counters.prime(bases={video: counters.Base(0, 0, 1, 300) for video in videos})
    for user, video in told.get("pairs", ()):
        counters.prime(bases={}, user=user, states={video: False})
    now = counters.now_ms()
    for videos in _parts(range(1, told.get("views", 0) + 1)):
        counters.view([counters.Event(video, f"v{video}", now // 3_600_000) for video in videos])
    users = told.get("users", 1)
    for videos in _parts(range(1, told.get("likes", 0) + 1)):
        _like_each(videos, users, now)


def _like_each(videos: list[int], users: int, now: int) -> None:
    """One like of each video, by one of the users: the room's own command, sent for many videos at once."""
    from videos import counters
    from videos.conf import conf

    commands = []
    for video in videos:
        user, shard = video % users + 1, counters.shard_of(video)
        liked = counters._Keys.liked(video, user)
        pending, claimed, batch = (counters._Keys.shard(shard, name) for name in ("pending", "claimed", "batch"))
        commands.append(("SET", liked, f"0:{now}", "EX", conf.LIKED_SECONDS))
        keys = (counters._Keys.live(video), liked, pending, claimed, batch)
        like = (f"l:{video}:{user}", "1", now, conf.LIVE_SECONDS, conf.LIKED_SECONDS)
        commands.append(counters._LIKE.command(keys, *like))
    replies = counters._send(commands)
    if any(reply[0] != 1 for reply in replies[1::2]):
        raise SystemExit("A like changed nothing.")


def _parts(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while part := list(islice(iterator, CHUNK)):
        yield part


if __name__ == "__main__":
    main()
