"""`python -m benchmarks.parts`: where the time of a warm like and a warm view goes, part by part.

py-spy looks some hundred times a second at `benchmarks.inside`, which calls the service as a web server does, and every
look counts for the innermost frame that stands in PARTS. µs are that part's share of the median by the clock of the
same calls when nobody looks: waiting for Redis, and so for the disk that holds its file, is part of it. With a TMPDIR
in memory there is no disk to wait for.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmarks.contenders import OURS, prepare
from benchmarks.flush import gather
from benchmarks.traffic import tokens
from servers import PYTHON, Servers, call, private_servers

LOOKS_A_SECOND = 400
CALLS = 20_000
USERS = 300
LAYERS = ("ours_like", "ours_whole_like", "ours", "ours_whole")
LABELS = ("like", "like, whole way", "view", "view, whole way")

# Part -> what stands in a frame, "function (path:line)", of it. The first that fits, from the innermost frame outwards.
PARTS: tuple[tuple[str, str], ...] = (
    ("Redis: packed, sent, waited for, parsed", r"exchange.*videos/counters\.py"),
    ("Redis: keys and arguments of the script", r"videos/counters\.py"),
    ("token: found in memory, its end compared", r"videos/api/(authentication|tokens)\.py|/jwt/"),
    ("throttle", r"videos/api/throttling\.py|/limits/"),
    ("who is watching: address, agent, hash", r"videos/api/viewers\.py"),
    ("JSON: the body read, the answer written", r"videos/api/(answers|bodies|negotiation|shapes)\.py|/json/"),
    ("settings", r"videos/conf\.py"),
    ("what a like and a view mean", r"videos/services\.py"),
    ("the express lane", r"videos/api/(express|operations)\.py"),
    ("the door: headers of the answer", r"videos/api/(handler|frames)\.py"),
    ("the view", r"videos/api/(base|errors|views)"),
    ("Django REST framework: dispatch, request, permissions", r"/rest_framework/"),
    ("Django: handler, request, response, middleware", r"/django/|/asgiref/"),
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


def looks(folded: Iterable[str]) -> Counter[str]:
    """How many looks met each part of a call, the harness' own left out."""
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
    pairs = [(number % USERS + 1, (number + number // USERS) % 1_000 + 1) for number in numbers]
    environment = {**OURS.environment(servers), "CALLS": str(CALLS), "TOKENS": json.dumps(tokens(USERS))}
    folded = servers.folder / "folded"
    ask: list[str | Path] = [PYTHON, "-m", "benchmarks.inside", layer]
    spy: list[str | Path] = [
        PYTHON.parent / "py-spy",
        "record",
        "--idle",
        "--full-filenames",
        "--rate",
        str(LOOKS_A_SECOND),
    ]
    said = []
    for command in (ask, [*spy, "--format", "raw", "--output", folded, "--", *ask]):
        OURS.fill(servers, users=USERS, videos=1_000)
        gather(servers, videos=1_000, pairs=pairs)
        said.append(call(command, environment).stdout)
    seen = looks(folded.read_text().splitlines())
    microseconds = json.loads(said[0])["wall"] / seen.total()
    return {part: number * microseconds for part, number in seen.items()}


def main() -> None:
    """Print the table in Markdown."""
    with private_servers() as servers:
        prepare(servers, [OURS])
        seen = {layer: watch(servers, layer) for layer in sys.argv[1:] or LAYERS}
    labels = dict(zip(LAYERS, LABELS, strict=True))
    print("| clock µs |", " | ".join(labels.get(layer, layer) for layer in seen), "|")
    print("|---|", "|".join("---:" for _ in seen), "|", sep="")
    for part in [*(part for part, _ in PARTS), "the rest"]:
        times = [parts.get(part, 0) for parts in seen.values()]
        if max(times) >= 0.5:
            print(f"| {part} |", " | ".join(f"{time:.1f}" if time else "" for time in times), "|")
    print("| all of it |", " | ".join(f"{sum(parts.values()):.0f}" for parts in seen.values()), "|")


if __name__ == "__main__":
    main()
