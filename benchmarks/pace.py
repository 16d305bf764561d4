"""Does one flusher keep up? Likes and views as fast as the web side takes them, with one flush loop beside them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from benchmarks.contenders import OURS, prepare
from benchmarks.load import warm, write_requests, wrk
from benchmarks.results import Column, Result, Run, Table
from benchmarks.traffic import distinct_pairs, popular, take, tokens
from servers import Servers, StartFailed, start

USERS = 20_000
VIDEOS = 1_000
SECONDS = 16
PREPARED = 200_000
VIEW_EVERY = 6  # as in the headline: five likes for a view
FLUSH_EVERY_SECONDS = 5

TABLES = (
    Table(
        "pace",
        "likes and views as fast as they are taken, `flush_counters --every 5` beside them",
        (
            Column("taken", "requests/s", spread=True),
            Column("moved", "fields moved/s of flushing", spread=True),
            Column("room", "moved over taken", "{:.2f}", spread=True),
            Column("busy", "share of time spent flushing", "{:.0%}", spread=True),
            Column("left", "fields left at the end"),
        ),
    ),
)


def measure(run: Run) -> Result:
    """Rounds of the same."""
    result = Result("pace", "Does one flusher keep up?")
    servers = run.servers
    prepare(servers, [OURS])
    signed_in = tokens(USERS)
    number, seconds = run.size(PREPARED, 20_000), run.size(SECONDS, 4)
    pairs = take(distinct_pairs(USERS, VIDEOS, seed=21), number)
    watched = popular(number, VIDEOS, seed=22)
    path = write_requests(
        servers.folder / "pace",
        [
            OURS.view(watched[i], f"p{i}") if i % VIEW_EVERY == 0 else OURS.like(video, signed_in[user - 1])
            for i, (user, video) in enumerate(pairs)
        ],
    )

    def one(_: str, number: int) -> None:
        OURS.fill(servers, users=USERS, videos=VIDEOS)
        environment = OURS.environment(servers)
        command = OURS.manage_command("flush_counters", "--every", str(run.size(FLUSH_EVERY_SECONDS, 1)), "--json")
        with OURS.serving(servers) as site:
            warm(site, servers.folder)
            log = servers.folder / "flush-pace.log"
            log.unlink(missing_ok=True)
            process = start("flush-pace", command, servers.folder, environment)
            time.sleep(2)  # its start
            seen = len(_reports(log))
            load = wrk(site, path, seconds=seconds)
            left = _pending(servers)
            reports = _reports(log)[seen:]
            process.stop()
        if load.errors or any(report["failures"] for report in reports):
            raise StartFailed(f"{load.errors} requests failed, or a flush did: {reports}")
        flushing = sum(report["seconds"] for report in reports)
        moved = sum(report["fields"] for report in reports) / flushing
        values = {
            "taken": load.rate, "moved": moved, "room": moved / load.rate, "left": float(left),
            "busy": flushing / seconds,
        }  # fmt: skip
        result.add("pace", "ours", number, **values)
        run.say(f"  {number} pace: {load.rate:,.0f} taken, {moved:,.0f} moved a second, {left} left")

    run.alternate(result, ["ours"], one)
    room = result.series("pace", "ours", "room")
    result.claim("changes that a flusher moves over those that the web side takes, a second", room, 1.25)
    return result


def _pending(servers: Servers) -> int:
    client = servers.redis_client(OURS.redis_db)
    return sum(int(client.hlen(key)) for key in client.scan_iter("{videos:*}:pending"))


def _reports(log: Path) -> list[dict[str, Any]]:
    """What each run of the loop said of itself."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [json.loads(line) for line in lines if line.startswith("{")]
