"""`python -m benchmarks.gather`: let changes gather in Redis, by the service's own scripts, many in one round trip.

Reads `{"videos": n, "pairs": [[user, video], ...], "views": n, "likes": n, "users": n}` from standard input: videos
1..videos become live, and Redis learns that these users do not like these videos; then videos 1..views are each watched
once, and videos 1..likes each liked once, by one of the users.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from benchmarks.ceilings import calls

CHUNK = 1000
T = TypeVar("T")


def main() -> None:
    """Put it there."""
    told = json.load(sys.stdin)
    for videos in _parts(range(1, told["videos"] + 1)):
        calls.make_live(videos)
    for pairs in _parts(told.get("pairs", ())):
        calls.know_unliked(pairs)
    for videos in _parts(range(1, told.get("views", 0) + 1)):
        if calls.views([(video, f"v{video}") for video in videos]) != len(videos):
            raise SystemExit("A view did not count.")
    users = told.get("users", 1)
    for videos in _parts(range(1, told.get("likes", 0) + 1)):
        calls.like_new([(video, video % users + 1) for video in videos])


def _parts(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while part := list(islice(iterator, CHUNK)):
        yield part


if __name__ == "__main__":
    main()
