"""`python -m benchmarks.raw`: the view script with batches of events, by a raw client; prints events/s as JSON.

Reads `{"seconds": n, "batches": [[{"video", "viewer"}, ...], ...]}` from standard input; begins again when all are
sent.
"""

import json
import statistics
import sys
import time
from itertools import cycle

from benchmarks.ceilings.calls import views


def main() -> None:
    """Send batches one after another."""
    told = json.load(sys.stdin)
    batches = [[(event["video"], event["viewer"]) for event in batch] for batch in told["batches"]]
    took = []
    events = 0
    began = now = time.perf_counter()
    for batch in cycle(batches):
        views(batch)
        before, now = now, time.perf_counter()
        took.append((now - before) * 1000)
        events += len(batch)
        if now - began >= told["seconds"]:
            break
    percentiles = statistics.quantiles(took, n=100) if len(took) > 1 else took * 99
    print(json.dumps({"events": events / (now - began), "p50": percentiles[49], "p99": percentiles[98]}))


if __name__ == "__main__":
    main()
