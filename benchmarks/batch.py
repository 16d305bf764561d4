"""Views in batches, beside a raw client that runs the same script with the same events."""

from __future__ import annotations

import json

from benchmarks.contenders import OURS, Request, prepare
from benchmarks.flush import gather
from benchmarks.load import warm, write_requests, wrk
from benchmarks.results import Column, Result, Run, Table
from benchmarks.traffic import popular, tokens
from servers import PYTHON, StartFailed, call

VIDEOS = 1_000
EVENTS = 500  # of one batch
BATCHES = 1_200
CONNECTIONS = 4
SECONDS = 4

TABLES = (
    Table(
        "batch",
        f"views in batches of {EVENTS}",
        (
            Column("events", "events/s", spread=True),
            Column("p50", "p50 ms", "{:.1f}"),
            Column("p99", "p99 ms", "{:.1f}"),
        ),
    ),
)
LABELS = {"raw": "raw redis-py client, one script a shard, pipelined"}


def measure(run: Run) -> Result:
    """The endpoint and the raw client in turn."""
    result = Result("batch", "Views in batches")
    servers = run.servers
    prepare(servers, [OURS])
    batches = _batches(run.size(BATCHES, 60))
    path = "/api/views/"
    (token,) = tokens(1, send_views=True)
    requests = [Request("POST", path, token, json.dumps({"events": events})) for events in batches]
    file = write_requests(servers.folder / "batches", requests)
    seconds = run.size(SECONDS, 1)

    def one(name: str, number: int) -> None:
        OURS.fill(servers, users=10, videos=VIDEOS)
        gather(servers, videos=VIDEOS)
        if name == "raw":
            told = call(
                [PYTHON, "-m", "benchmarks.raw"], OURS.environment(servers),
                input=json.dumps({"seconds": seconds, "batches": batches}),
            )  # fmt: skip
            values = json.loads(told.stdout)
        else:
            with OURS.serving(servers) as site:
                warm(site, servers.folder)
                load = wrk(site, file, seconds=seconds, connections=CONNECTIONS)
            if load.errors:
                raise StartFailed(f"{load.errors} of {load.requests} batches failed.")
            values = {"events": load.rate * EVENTS, "p50": load.p50, "p99": load.p99}
        result.add("batch", name, number, **values)
        run.say(f"  {number} batch {name}: {values['events']:,.0f} events/s")

    run.alternate(result, ["ours", "raw"], one)
    result.claim(
        "batch views, events/s, ours over a raw client",
        result.ratios("batch", "ours", "raw", "events"), 0.5,
    )  # fmt: skip
    return result


def _batches(number: int) -> list[list[dict[str, object]]]:
    """Skewed over the videos; every event another viewer."""
    drawn = popular(number * EVENTS, VIDEOS, seed=6)
    return [
        [{"video": drawn[i], "viewer": f"viewer{i:09d}"} for i in range(first, first + EVENTS)]
        for first in range(0, len(drawn), EVENTS)
    ]
