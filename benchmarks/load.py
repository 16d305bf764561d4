"""The load generators: wrk replays prepared requests at little cost of its own, k6 plays users and keeps rates."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.contender import Contender, Site
from benchmarks.contenders import ROWS
from benchmarks.results import Result, Run
from benchmarks.traffic import USER_AGENT, Request, write_requests
from servers import K6, ROOT, StartFailed, call

HERE = ROOT / "benchmarks"
CONNECTIONS = 32


@dataclass(frozen=True)
class Load:
    """What a generator saw. Latencies in milliseconds."""

    rate: float  # requests answered as they should be, a second
    requests: int
    errors: int
    mean: float
    p50: float
    p95: float
    p99: float
    wrapped: bool  # the prepared requests were used up, and began again


def wrk(
    site: Site, requests: Path, *, seconds: int, connections: int = CONNECTIONS, skip: int = 0, think_ms: int = 0
) -> Load:
    """Replay requests, each connection as soon as it is answered or after a while; statuses from 400 on are errors."""
    command: list[str | Path] = [
        "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", HERE / "replay.lua", site.url
    ]  # fmt: skip
    environment = {**os.environ, "REQUESTS": str(requests), "SKIP": str(skip), "THINK": str(think_ms)}
    told = json.loads(call(command, environment).stdout.strip().splitlines()[-1])
    good = told["requests"] - told["bad_status"]
    errors = int(told["bad_status"] + told["socket_errors"])
    latencies = {name: told[name] for name in ("mean", "p50", "p95", "p99")}
    return Load(good / told["seconds"], int(good), errors, wrapped=bool(told["wrapped"]), **latencies)


def warm(site: Site, folder: Path, seconds: int = 1) -> None:
    """Let every worker load its code: a GET that counts nothing, whatever its answer. Not when only trying out."""
    if not os.environ.get("BENCH_QUICK"):
        wrk(site, write_requests(folder / "warm", [Request("GET", "/api/videos/1/like/")]), seconds=seconds)


def replay(
    run: Run, result: Result, table: str, row: str, contender: Contender, requests: Path, *, seconds: int,
    connections: int = CONNECTIONS, **serving: Any,
) -> Load:  # fmt: skip
    """Serve a contender, replay requests, and note what came of it.

    A figure of requests that were refused is worth nothing; what the database refuses to ROWS, its row of the table
    tells.
    """
    with contender.serving(run.servers, **serving) as site:
        warm(site, run.servers.folder)
        load = wrk(site, requests, seconds=seconds, connections=connections)
    if load.errors and contender is not ROWS:
        raise StartFailed(f"{row}: {load.errors} of {load.requests} requests ({table}) failed.{site.process.tail()}")
    note(run, result, table, row, load)
    return load


def note(run: Run, result: Result, table: str, row: str, load: Load) -> None:
    """Note one round's load."""
    values = {name: float(value) for name, value in asdict(load).items() if name not in {"requests", "wrapped"}}
    result.add(table, row, **values)
    run.say(f"  {table} {row}: {load.rate:,.0f}/s, p50 {load.p50:.2f}, p99 {load.p99:.1f} ms, {load.errors} errors")


def k6(script: str, folder: Path, environment: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Run a k6 script of ours; its metrics by name, and the lines it wrote to the console."""
    summary, console = folder / "k6-summary.json", folder / "k6-console"
    for path in (summary, console):
        path.unlink(missing_ok=True)
    command: list[str | Path] = [
        K6, "run", "--quiet", "--no-usage-report", "--no-color", "--address", "", "--log-format", "raw",
        "--console-output", console, HERE / script,
    ]  # fmt: skip
    # GOGC: k6 is to collect its garbage less often, and leave more of the machine to what is measured.
    call(command, {**os.environ, "GOGC": "400", "AGENT": USER_AGENT, **environment, "SUMMARY": str(summary)})
    if not summary.exists():
        raise StartFailed("k6 wrote no summary.")
    metrics = {name: metric["values"] for name, metric in json.loads(summary.read_text())["metrics"].items()}
    return metrics, console.read_text().splitlines() if console.exists() else []
