"""`python -m benchmarks.raw`: the view script by raw clients; prints events a second and latencies in ms as JSON.

Reads from standard input `{"seconds": n}` and one of: `"client": "redis-py"` or `"socket"`, for one view a call on one
connection; `"batches": [[{"video", "viewer"}, ...], ...]`, for a batch a call, again from the first when all are sent.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count, cycle
from typing import Any

from benchmarks.ceilings import calls

VIDEOS = 1_000


def main() -> None:
    """Call again and again."""
    told = json.load(sys.stdin)
    took = []
    events = 0
    began = now = time.perf_counter()
    for number, call in _calls(told):
        call()
        before, now = now, time.perf_counter()
        took.append((now - before) * 1000)
        events += number
        if now - began >= told["seconds"]:
            break
    percentiles = statistics.quantiles(took, n=100) if len(took) > 1 else took * 99
    print(json.dumps({"events": events / (now - began), "p50": percentiles[49], "p99": percentiles[98]}))


def _calls(told: dict[str, Any]) -> Iterator[tuple[int, Callable[[], object]]]:
    """Calls to make, each with the number of its events."""
    if "batches" in told:
        batches = [[(event["video"], event["viewer"]) for event in batch] for batch in told["batches"]]
        for batch in cycle(batches):
            yield len(batch), lambda batch=batch: calls.views(batch)  # type: ignore[misc]
    view: Callable[[int, str], object] = calls.Socket().view if told["client"] == "socket" else calls.view
    for number in count():
        yield 1, lambda number=number: view(number % VIDEOS + 1, f"raw{number}")  # type: ignore[misc]


if __name__ == "__main__":
    main()
