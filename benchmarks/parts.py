"""`python -m benchmarks.parts`: where the time of a warm like and a warm view goes, part by part.

py-spy samples `benchmarks.inside`, which calls the service as a web server does, some hundred times a second; a sample
counts for its innermost frame that stands in PARTS. µs are that part's share of the median by the clock of the same
calls without py-spy: waiting for Redis, and so for the disk that holds its file, is part of it. With a TMPDIR in memory
there is no disk to wait for.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmarks.contenders import OURS, prepare
from benchmarks.latency import LAYER_USERS, VIDEOS, inside, inside_command
from benchmarks.traffic import tokens, write_lines
from servers import PYTHON, Servers, call, private_servers

SAMPLES_A_SECOND = 400
CALLS = 20_000
LABELS = {"ours_like": "like", "ours_whole_like": "like, whole way", "ours": "view", "ours_whole": "view, whole way"}

# Part -> what stands in a frame of it, "function (path:line)". The first that fits, from the innermost frame outwards.
PARTS: tuple[tuple[str, str], ...] = (
    ("Redis: packed, sent, waited for, parsed", r"videos/counters/connection\.py"),
    ("Redis: keys and arguments of the script", r"videos/counters/"),
    ("token: found in memory, its end compared", r"videos/api/(authentication|tokens)\.py|/jwt/"),
    ("throttle", r"videos/api/throttling\.py|/limits/"),
    ("who is watching: address, agent, hash", r"videos/api/viewers\.py"),
    ("JSON: the body read, the answer written", r"videos/api/(answers|bodies|negotiation|shapes)\.py|/json/"),
    ("settings", r"videos/conf\.py"),
    ("what a like and a view mean", r"videos/services"),
    ("the express lane", r"videos/api/(express|operations)\.py"),
    ("the door: headers of the answer", r"videos/api/(handler|frames)\.py|streaming/wsgi\.py"),
    ("the view", r"videos/api/(base|errors|views)"),
    ("Django REST framework: dispatch, request, permissions", r"/rest_framework/"),
    ("Django: handler, request, response, middleware", r"/django/|/asgiref/|/corsheaders/"),
    ("the harness", r"benchmarks/inside\.py"),
)
_PARTS = [(part, re.compile(pattern)) for part, pattern in PARTS]


def part_of(stack: str) -> str:
    """The part to which a stack belongs, outermost frame first, frames with semicolons between them."""
    for frame in reversed(stack.split(";")):
        for part, pattern in _PARTS:
            if pattern.search(frame):
                return part
    return "the rest"


def samples(folded: Iterable[str]) -> Counter[str]:
    """How many samples met each part of a call, the harness' own left out."""
    seen: Counter[str] = Counter()
    for line in folded:
        stack, _, number = line.rpartition(" ")
        if "_answer (" in stack:
            seen[part_of(stack)] += int(number)
    del seen["the harness"]
    return seen


def watch(servers: Servers, layer: str) -> dict[str, float]:
    """Of each part, its µs of one call."""
    numbers = range(1, 2 * CALLS) if layer.endswith("_like") else ()
    pairs = [(number % LAYER_USERS + 1, (number + number // LAYER_USERS) % VIDEOS + 1) for number in numbers]
    file = write_lines(servers.folder / "tokens", tokens(LAYER_USERS))

    def fill() -> None:
        OURS.fill(servers, users=LAYER_USERS, videos=VIDEOS)
        OURS.scripts(servers).gather(videos=VIDEOS, unliked=pairs)

    fill()
    wall = inside(servers, layer, CALLS, file)["wall"]
    fill()
    command, environment = inside_command(servers, layer, CALLS, file)
    folded = servers.folder / "folded"
    spy: list[str | Path] = [
        PYTHON.parent / "py-spy",
        "record",
        "--idle",
        "--full-filenames",
        "--rate",
        str(SAMPLES_A_SECOND),
    ]
    call([*spy, "--format", "raw", "--output", folded, "--", *command], environment)
    seen = samples(folded.read_text().splitlines())
    return {part: number * wall / seen.total() for part, number in seen.items()}


def main() -> None:
    """Print the table in Markdown."""
    with private_servers() as servers:
        prepare(servers, [OURS])
        seen = {layer: watch(servers, layer) for layer in sys.argv[1:] or LABELS}
    print("| clock µs |", " | ".join(LABELS.get(layer, layer) for layer in seen), "|")
    print("|---|", "|".join("---:" for _ in seen), "|", sep="")
    for part in [*(part for part, _ in PARTS), "the rest"]:
        times = [parts.get(part, 0) for parts in seen.values()]
        if max(times) >= 0.5:
            print(f"| {part} |", " | ".join(f"{time:.1f}" if time else "" for time in times), "|")
    print("| all of it |", " | ".join(f"{sum(parts.values()):.0f}" for parts in seen.values()), "|")


if __name__ == "__main__":
    main()
