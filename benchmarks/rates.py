"""Warm views and likes: how many a second each way of counting takes, where the ceilings are, one by one or in batches.

And which web server with how many workers and threads, measured with the service's own warm views.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.contender import Contender
from benchmarks.contenders import BARE, HITS, OURS, PLAIN, RECIPE, ROWS, prepare
from benchmarks.load import CONNECTIONS, replay
from benchmarks.results import Column, Result, Run, Table
from benchmarks.traffic import Request, distinct_pairs, popular, tokens, write_requests
from benchmarks.wire import view_arguments
from servers import PYTHON, Servers, StartFailed, call

VIDEOS = 1_000
VIEWS_PREPARED = 150_000  # distinct viewers, more than the quickest can take in one measurement
SESSIONS = 20_000
USERS = 10_000  # each token is verified at its first request, then remembered (TOKENS_REMEMBERED)
LIKES_CREATED = 60_000  # the recipe and the rows cannot take a like twice: each is a new pair
SECONDS = 3
EVENTS = 500  # of one batch
BATCHES = 1_200
BATCH_CONNECTIONS = 4
# server, workers, threads a worker
CHOICES = (
    ("granian", 1, 1), ("granian", 2, 1), ("granian", 2, 2), ("granian", 2, 4), ("granian", 2, 8),
    ("granian", 2, 16), ("granian", 4, 1), ("granian", 4, 4),
    ("serve", 2, 4), ("gunicorn", 2, 1), ("gunicorn", 2, 8),
)  # fmt: skip

_PERCENTILES = (Column("p50", "p50 ms", "{:.2f}"), Column("p99", "p99 ms", "{:.2f}"))
_RATE = (Column("rate", "requests/s", spread=True), Column("mean", "mean ms", "{:.2f}"), *_PERCENTILES,
         Column("errors", "errors"))  # fmt: skip
_TENTHS = (Column("p50", "p50 ms", "{:.1f}"), Column("p99", "p99 ms", "{:.1f}"))
TABLES = (
    Table("view", "warm view, skewed over 1,000 videos", _RATE),
    Table("like", "warm like, token checked", _RATE),
    Table("limit", "the view script alone, no web", (Column("events", "views/s", spread=True), *_PERCENTILES)),
    Table("batch", f"views in batches of {EVENTS}", (Column("events", "events/s", spread=True), *_TENTHS)),
    Table(
        "server", "warm views", (Column("rate", "requests/s", spread=True), *_TENTHS, Column("errors", "errors"))
    ),
)  # fmt: skip
LIMITS = {
    "redis-py": "redis-py, one connection",
    "socket": "a socket and hiredis, one connection",
    "redis-benchmark": f"redis-benchmark, {CONNECTIONS} connections",
}
LABELS = {
    **LIMITS,
    "raw": "raw redis-py client, one script a shard, pipelined",
    **{
        f"{server}_{workers}_{threads}": f"{server}, {workers} worker{'s' * (workers > 1)}, "
        f"{threads} thread{'s' * (threads > 1)} each"
        for server, workers, threads in CHOICES
    },
}


def measure(run: Run) -> Result:
    """Every contender in every round, one table after another."""
    result = Result("rates")
    prepare(run.servers, [OURS, RECIPE, ROWS, HITS])
    _views(run, result)
    _likes(run, result)
    _limits(run, result)
    _batches(run, result)
    _web_servers(run, result)
    return result


def _alive(servers: Servers, **gathered: Any) -> None:
    OURS.fill(servers, users=10, videos=VIDEOS)
    OURS.scripts(servers).gather(videos=VIDEOS, **gathered)


def _views(run: Run, result: Result) -> None:
    servers = run.servers
    drawn = popular(run.size(VIEWS_PREPARED, 20_000), VIDEOS, seed=3)
    files: dict[str, Path] = {}

    def one(contender: Contender, _: int) -> None:
        if contender.database == OURS.database:
            _alive(servers)
        else:
            contender.fill(servers, users=10, videos=VIDEOS)
        if contender is HITS:
            HITS.add_sessions(servers, [_viewer(n) for n in range(SESSIONS)])
        if contender.name not in files:
            viewers = SESSIONS if contender is HITS else len(drawn)
            requests = [contender.view(video, _viewer(n % viewers)) for n, video in enumerate(drawn)]
            files[contender.name] = write_requests(servers.folder / f"views-{contender.name}", requests)
        file = files[contender.name]
        load = replay(run, result, "view", contender.name, contender, file, seconds=run.size(SECONDS, 1))
        # Every answer must have been a count: what wrk no longer waited for at the end may have counted too.
        counted = contender.views_counted(servers)
        if not load.requests <= counted <= load.requests + CONNECTIONS:
            raise StartFailed(f"{contender.name}: {load.requests} views were acknowledged, {counted} counted.")

    run.alternate(result, [BARE, PLAIN, OURS, RECIPE, ROWS, HITS], one)
    for what, other, goal in (
        ("warm view, ours over a bare WSGI function", "bare", 0.5),
        ("warm view, ours over a plain Django view", "plain", 0.9),
        ("views, ours over django-hitcount", "hits", 5),
        ("views, ours over F() + 1", "rows", 3),
    ):
        result.claim("view", what, result.ratios("view", "ours", other), goal)


def _likes(run: Run, result: Result) -> None:
    """Where a like can be taken back: all like, then all take it back, again and again; else new pairs only."""
    servers, users = run.servers, run.size(USERS, 1_000)
    signed_in = tokens(users)
    pairs = list(enumerate(popular(users, VIDEOS, seed=4), start=1))
    files = {True: write_requests(servers.folder / "toggles", toggles(pairs, signed_in))}
    new = distinct_pairs(users, VIDEOS, run.size(LIKES_CREATED, 10_000), seed=4)
    files[False] = write_requests(
        servers.folder / "new", [OURS.like(video, signed_in[user - 1]) for user, video in new]
    )

    def one(contender: Contender, _: int) -> None:
        contender.fill(servers, users=users, videos=VIDEOS)
        ours = contender.database == OURS.database
        if ours:
            OURS.scripts(servers).gather(videos=VIDEOS, unliked=pairs)
        replay(run, result, "like", contender.name, contender, files[ours], seconds=run.size(SECONDS, 1))

    run.alternate(result, [BARE, PLAIN, OURS, RECIPE, ROWS], one)
    result.claim("like", "warm like, ours over a bare WSGI function", result.ratios("like", "ours", "bare"), 0.4)
    result.claim("like", "warm like, ours over the recipe", result.ratios("like", "ours", "recipe"), 5)


def toggles(pairs: list[tuple[int, int]], signed_in: list[str]) -> list[Request]:
    """All (user, video) like, then all take it back."""
    return [OURS.like(video, signed_in[user - 1], liked=liked) for liked in (True, False) for user, video in pairs]


def _limits(run: Run, result: Result) -> None:
    """The script by raw clients."""

    def one(client: str, _: int) -> None:
        _alive(run.servers)
        if client == "redis-benchmark":
            values = _redis_benchmark(run.servers, run.size(200_000, 10_000))
        else:
            values = _raw(run.servers, seconds=run.size(SECONDS, 1), client=client)
        result.add("limit", client, **values)
        run.say(f"  {client}: {values['events']:,.0f} views/s")

    run.alternate(result, list(LIMITS), one)


def _raw(servers: Servers, **told: Any) -> dict[str, float]:
    done = call([PYTHON, "-m", "benchmarks.wire"], OURS.environment(servers), input=json.dumps(told))
    values: dict[str, float] = json.loads(done.stdout)
    return values


def _redis_benchmark(servers: Servers, requests: int) -> dict[str, float]:
    """redis-benchmark repeats the script, each time with another viewer of one video."""
    command = [
        "redis-benchmark", "-p", str(servers.redis_port), "-n", str(requests), "-c", str(CONNECTIONS), "-r",
        "1000000000", "--csv", "EVALSHA", *map(str, view_arguments(OURS.scripts(servers).view_sha, 1, "__rand_int__")),
    ]  # fmt: skip
    said = call(command, {**os.environ}).stdout.strip().splitlines()
    row = dict(zip(*(next(csv.reader([line])) for line in said[-2:]), strict=True))
    return {
        "events": float(row["rps"]), "p50": float(row["p50_latency_ms"]), "p99": float(row["p99_latency_ms"]),
    }  # fmt: skip


def _batches(run: Run, result: Result) -> None:
    """The endpoint and a raw client that runs the same script with the same events; every event another viewer."""
    servers, seconds = run.servers, run.size(4, 1)
    drawn = popular(run.size(BATCHES, 60) * EVENTS, VIDEOS, seed=6)
    events = [(video, f"viewer{n:09d}") for n, video in enumerate(drawn)]
    batches = [events[first : first + EVENTS] for first in range(0, len(events), EVENTS)]
    servers.sql("UPDATE auth_user SET is_superuser = 1 WHERE id = 1")  # who may send batches
    (token,) = tokens(1)
    bodies = [json.dumps({"events": [{"video": v, "viewer": who} for v, who in batch]}) for batch in batches]
    path = write_requests(servers.folder / "batches", [Request("POST", "/api/views/", token, body) for body in bodies])

    def one(name: str, _: int) -> None:
        _alive(servers)
        if name == "raw":
            result.add("batch", name, **_raw(servers, seconds=seconds, batches=batches))
        else:
            load = replay(run, result, "batch", name, OURS, path, seconds=seconds, connections=BATCH_CONNECTIONS)
            result.add("batch", name, events=load.rate * EVENTS)

    run.alternate(result, ["ours", "raw"], one)
    seen = result.ratios("batch", "ours", "raw", "events")
    result.claim("batch", "batch views, events/s, ours over a raw client", seen, 0.5)


def _web_servers(run: Run, result: Result) -> None:
    """Every choice in every round."""
    drawn = popular(run.size(60_000, 2_000), VIDEOS, seed=17)
    path = write_requests(run.servers.folder / "server", [OURS.view(v, f"w{i}") for i, v in enumerate(drawn)])

    def one(choice: tuple[str, int, int], _: int) -> None:
        server, workers, threads = choice
        _alive(run.servers)
        row = f"{server}_{workers}_{threads}"
        replay(
            run, result, "server", row, OURS, path, seconds=run.size(SECONDS, 1),
            server=server, workers=workers, threads=threads,
        )  # fmt: skip

    run.alternate(result, CHOICES[:: run.size(1, 9)], one, at_most=2)


def _viewer(number: int) -> str:
    return f"viewer{number:08d}"
