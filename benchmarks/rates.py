"""How many warm views and likes a second each way of counting takes, and where the ceilings are."""

from __future__ import annotations

import csv
import json
import os
from functools import partial
from importlib import resources
from pathlib import Path

from benchmarks.ceilings.arguments import view_arguments
from benchmarks.contenders import BARE, HITS, OURS, PLAIN, RECIPE, ROWS, Contender, prepare
from benchmarks.flush import gather
from benchmarks.load import CONNECTIONS, Load, warm, write_requests, wrk
from benchmarks.results import Column, Result, Run, Table
from benchmarks.traffic import distinct_pairs, popular, take, tokens
from servers import PYTHON, Servers, StartFailed, call

VIDEOS = 1_000
VIEWS_PREPARED = 150_000  # distinct viewers, more than the quickest can take in one measurement
SESSIONS = 20_000
USERS = 10_000  # each token is verified at its first request, then remembered (TOKENS_REMEMBERED)
SECONDS = 3

_RATE = (
    Column("rate", "requests/s", spread=True),
    Column("mean", "mean ms", "{:.2f}"),
    Column("p50", "p50 ms", "{:.2f}"),
    Column("p99", "p99 ms", "{:.2f}"),
    Column("errors", "errors"),
)
TABLES = (
    Table("view", "warm view, skewed over 1,000 videos", _RATE),
    Table("like", "warm like, token checked", _RATE),
    Table(
        "limit",
        "the view script alone, no web",
        (Column("events", "views/s", spread=True), *(Column(f"p{n}", f"p{n} ms", "{:.2f}") for n in (50, 99))),
    ),
)
LABELS = {
    "redis-py": "redis-py, one connection",
    "socket": "a socket and hiredis, one connection",
    "redis-benchmark": f"redis-benchmark, {CONNECTIONS} connections",
}
LIKES_CREATED = 60_000  # the recipe and the rows cannot take a like twice: each is a new pair


def measure(run: Run) -> Result:
    """Views, then likes."""
    result = Result("rates", "Warm requests")
    viewers, likers = [BARE, PLAIN, OURS, RECIPE, ROWS, HITS], [BARE, PLAIN, OURS, RECIPE, ROWS]
    prepare(run.servers, viewers)
    _Views(run, result).measure(viewers)
    _Likes(run, result).measure(likers)
    run.alternate(result, list(LABELS), partial(_limit, run, result))
    result.claim("warm view, ours over a bare WSGI function", result.ratios("view", "ours", "bare"), 0.5)
    result.claim("warm view, ours over a plain Django view", result.ratios("view", "ours", "plain"), 0.9)
    result.claim("warm like, ours over a bare WSGI function", result.ratios("like", "ours", "bare"), 0.4)
    result.claim("warm like, ours over the recipe", result.ratios("like", "ours", "recipe"), 5)
    result.claim("views, ours over django-hitcount", result.ratios("view", "ours", "hits"), 5)
    result.claim("views, ours over F() + 1", result.ratios("view", "ours", "rows"), 3)
    return result


class _Endpoint:
    """One kind of request, asked of each contender in turn."""

    table = ""

    def __init__(self, run: Run, result: Result) -> None:
        self.run, self.result = run, result
        self.seconds = run.size(SECONDS, 1)

    def measure(self, contenders: list[Contender]) -> None:
        """Every contender in every round."""
        self.run.alternate(self.result, contenders, self._one)

    def _one(self, contender: Contender, number: int) -> None:
        self.fill(contender)
        with contender.serving(self.run.servers) as site:
            warm(site, self.run.servers.folder)
            load = wrk(site, self.requests(contender), seconds=self.seconds)
        self.judge(contender, load)
        self.result.add(self.table, contender.name, number, **load.values())
        self.run.say(
            f"  {number} {self.table} {contender.name}: {load.rate:,.0f}/s, p99 {load.p99:.1f} ms, {load.errors} errors"
        )

    def fill(self, contender: Contender) -> None:
        raise NotImplementedError

    def requests(self, contender: Contender) -> Path:
        raise NotImplementedError

    def judge(self, contender: Contender, load: Load) -> None:
        """A figure of requests that were refused is worth nothing; what others' databases refuse, their row tells."""
        if load.errors and contender is not ROWS:
            raise StartFailed(f"{contender.name}: {load.errors} of {load.requests} {self.table} requests failed.")


class _Views(_Endpoint):
    table = "view"

    def __init__(self, run: Run, result: Result) -> None:
        super().__init__(run, result)
        self.files: dict[str, Path] = {}
        self.videos = popular(run.size(VIEWS_PREPARED, 20_000), VIDEOS, seed=3)

    def fill(self, contender: Contender) -> None:
        servers = self.run.servers
        contender.fill(servers, users=10, videos=VIDEOS)
        if contender is HITS:
            HITS.add_sessions(servers, [_viewer(n) for n in range(SESSIONS)])
        if contender.database == OURS.database:
            gather(servers, videos=VIDEOS)

    def requests(self, contender: Contender) -> Path:
        if contender.name not in self.files:
            viewers = SESSIONS if contender is HITS else len(self.videos)
            requests = [contender.view(video, _viewer(n % viewers)) for n, video in enumerate(self.videos)]
            path = self.run.servers.folder / f"views-{contender.name}"
            self.files[contender.name] = write_requests(path, requests)
        return self.files[contender.name]

    def judge(self, contender: Contender, load: Load) -> None:
        super().judge(contender, load)
        # Every answer must have been a count: what wrk no longer waited for at the end may have counted too.
        counted = contender.views_counted(self.run.servers)
        if not load.requests <= counted <= load.requests + CONNECTIONS:
            raise StartFailed(f"{contender.name}: {load.requests} views were acknowledged, {counted} counted.")


class _Likes(_Endpoint):
    table = "like"

    def __init__(self, run: Run, result: Result) -> None:
        super().__init__(run, result)
        self.files: dict[bool, Path] = {}
        self.users = run.size(USERS, 1_000)
        self.tokens = tokens(self.users)
        self.pairs = list(enumerate(popular(self.users, VIDEOS, seed=4), start=1))

    def fill(self, contender: Contender) -> None:
        contender.fill(self.run.servers, users=self.users, videos=VIDEOS)
        if contender.database == OURS.database:
            gather(self.run.servers, videos=VIDEOS, pairs=self.pairs)

    def requests(self, contender: Contender) -> Path:
        """Where a like can be taken back: all like, then all take it back, again and again; else new pairs only."""
        toggles = contender.database == OURS.database
        if toggles not in self.files:
            if toggles:
                requests = [
                    contender.like(video, self.tokens[user - 1], liked=liked)
                    for liked in (True, False)
                    for user, video in self.pairs
                ]
            else:
                number = self.run.size(LIKES_CREATED, 10_000)
                pairs = take(distinct_pairs(self.users, VIDEOS, seed=4), number)
                requests = [contender.like(video, self.tokens[user - 1]) for user, video in pairs]
            self.files[toggles] = write_requests(self.run.servers.folder / f"likes-{toggles}", requests)
        return self.files[toggles]


def _limit(run: Run, result: Result, client: str, number: int) -> None:
    """The script by raw clients."""
    servers, seconds = run.servers, run.size(SECONDS, 1)
    OURS.fill(servers, users=10, videos=VIDEOS)
    gather(servers, videos=VIDEOS)
    if client == "redis-benchmark":
        values = _redis_benchmark(servers, run.size(200_000, 10_000))
    else:
        told = json.dumps({"seconds": seconds, "client": client})
        values = json.loads(call([PYTHON, "-m", "benchmarks.raw"], OURS.environment(servers), input=told).stdout)
    result.add("limit", client, number, **values)
    run.say(f"  {number} {client}: {values['events']:,.0f} views/s")


def _redis_benchmark(servers: Servers, requests: int) -> dict[str, float]:
    """redis-benchmark repeats the script, each time with another viewer of one video."""
    text = resources.files("videos.lua").joinpath("view.lua").read_text()
    sha = servers.redis_client(OURS.redis_db).script_load(text)
    arguments = view_arguments(sha, 1, "__rand_int__")
    command = [
        "redis-benchmark", "-p", str(servers.redis_port), "-n", str(requests), "-c", str(CONNECTIONS), "-r",
        "1000000000", "--csv", "EVALSHA", *map(str, arguments),
    ]  # fmt: skip
    said = call(command, {**os.environ}).stdout.strip().splitlines()
    names, figures = (next(csv.reader([line])) for line in said[-2:])
    row = dict(zip(names, figures, strict=True))
    return {
        "events": float(row["rps"]), "p50": float(row["p50_latency_ms"]), "p99": float(row["p99_latency_ms"]),
    }  # fmt: skip


def _viewer(number: int) -> str:
    return f"viewer{number:08d}"
