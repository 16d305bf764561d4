"""What a million likes cost: CPU in web, Redis, database and flush; commits, rows written and binlog bytes."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.contenders import OURS, RECIPE, Contender, prepare
from benchmarks.load import warm, write_requests, wrk
from benchmarks.plots import figure, save
from benchmarks.results import Column, Result, Run, Table
from benchmarks.traffic import distinct_pairs, take, tokens
from servers import Servers, cpu_seconds

USERS = 20_000
VIDEOS = 1_000
SECONDS = {"ours": 8, "recipe": 8}
PREPARED = 120_000
FLUSH_EVERY_SECONDS = 2
MILLION = 1_000_000

TABLES = (
    Table(
        "cost",
        "a million likes, a flush every 2 s",
        (
            Column("web", "web CPU s", spread=True),
            Column("redis", "Redis CPU s"),
            Column("database", "database CPU s"),
            Column("flush", "flush CPU s"),
            Column("total", "all CPU s", spread=True),
            Column("commits", "commits"),
            Column("rows", "rows written"),
            Column("binlog_mb", "binlog MiB"),
        ),
    ),
)
PLOTS = {"cost.svg": "CPU seconds for a million likes"}
PARTS = ("web", "redis", "database", "flush")


def measure(run: Run) -> Result:
    """Ours and the recipe in turn: new likes as fast as they are answered, then a last flush."""
    result = Result("cost", "What a million likes cost")
    prepare(run.servers, [OURS, RECIPE])
    signed_in = tokens(USERS)
    pairs = take(distinct_pairs(USERS, VIDEOS, seed=11), run.size(PREPARED, 20_000))
    files = {
        contender.name: write_requests(
            run.servers.folder / f"cost-{contender.name}",
            [contender.like(video, signed_in[user - 1]) for user, video in pairs],
        )
        for contender in (OURS, RECIPE)
    }

    def one(contender: Contender, number: int) -> None:
        contender.fill(run.servers, users=USERS, videos=VIDEOS)
        values = _cost(run, contender, files[contender.name])
        result.add("cost", contender.name, number, **values)
        run.say(
            f"  {number} {contender.name}: {values['total']:,.0f} CPU s, {values['commits']:,.0f} commits a million"
        )

    run.alternate(result, [OURS, RECIPE], one)
    for key, what in (("total", "CPU"), ("database", "database CPU"), ("commits", "commits"), ("binlog_mb", "binlog")):
        seen = result.ratios("cost", "recipe", "ours", key)
        result.claim(f"{what} of a million likes, the recipe's over ours", seen, 1)
    return result


def _cost(run: Run, contender: Contender, requests: Path) -> dict[str, float]:
    servers, every = run.servers, run.size(FLUSH_EVERY_SECONDS, 1)
    with contender.serving(servers) as site:
        warm(site, servers.folder)
        before = _spent(servers)
        web = cpu_seconds(site.process.pids())
        with contender.flushing(servers, every) as flusher:
            assert flusher is not None
            time.sleep(1)  # its start is no like's cost
            flush = cpu_seconds(flusher.pids())
            load = wrk(site, requests, seconds=run.size(SECONDS[contender.name], 1))
            time.sleep(2 * every)  # all that gathered is flushed
            flush = cpu_seconds(flusher.pids()) - flush
        web = cpu_seconds(site.process.pids()) - web
        spent = {name: value - before[name] for name, value in _spent(servers).items()}
    likes = sum(contender.like_rows(servers).values())
    if likes < load.requests:
        raise ValueError(f"{contender.name}: of {load.requests} likes {likes} are in the rows.")
    spent |= {"web": web, "flush": flush}
    spent["total"] = sum(spent[part] for part in PARTS)
    return {name: value / likes * MILLION for name, value in spent.items()}


def _spent(servers: Servers) -> dict[str, float]:
    status = servers.status(
        "Binlog_bytes_written", "Binlog_commits", "Handler_write", "Handler_update", "Handler_delete"
    )
    return {
        "redis": cpu_seconds(servers.redis_server.pids()),
        "database": cpu_seconds(servers.database.pids()),
        "commits": float(status["binlog_commits"]),
        "rows": float(sum(value for name, value in status.items() if name.startswith("handler"))),
        "binlog_mb": status["binlog_bytes_written"] / 1024 / 1024,
    }


def plot(result: Result, folder: Path) -> None:
    """Stacked bars."""
    chart, axis = figure()
    names = {"recipe": "recipe", "ours": "this service"}
    bottom = [0.0, 0.0]
    for part in PARTS:
        values = [result.median("cost", name, part) for name in names]
        axis.barh(list(names.values()), values, left=bottom, label=part)
        bottom = [a + b for a, b in zip(bottom, values, strict=True)]
    axis.set_xlabel("CPU seconds for a million likes")
    axis.legend()
    save(chart, folder / "cost.svg")
