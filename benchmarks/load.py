"""The load generators: wrk replays prepared requests at little cost of its own, k6 plays users and keeps rates."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contenders import Request, Site
from servers import K6, ROOT, StartFailed, end_with_parent

REPLAY = ROOT / "benchmarks" / "replay.lua"
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
    wrapped: bool = False  # the prepared requests were used up, and began again
    extra: dict[str, Any] = field(default_factory=dict)

    def values(self) -> dict[str, float]:
        """The figures that tables show."""
        return {
            "rate": self.rate, "mean": self.mean, "p50": self.p50, "p95": self.p95, "p99": self.p99,
            "errors": float(self.errors),
        }  # fmt: skip


def write_requests(path: Path, requests: Sequence[Request]) -> Path:
    """Requests as `replay.lua` reads them: a length in bytes on a line, then the bytes."""
    with path.open("wb") as out:
        for request in requests:
            raw = request.raw()
            out.write(b"%d\n" % len(raw) + raw)
    return path


def wrk(
    site: Site, requests: Path, *, seconds: int, connections: int = CONNECTIONS, skip: int = 0, think_ms: int = 0
) -> Load:
    """Replay requests, each connection as soon as it is answered or after a while; statuses from 400 on are errors."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(REPLAY), site.url]
    environment = {**os.environ, "REQUESTS": str(requests), "SKIP": str(skip), "THINK": str(think_ms)}
    done = subprocess.run(end_with_parent(command), env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise StartFailed(f"wrk ended with {done.returncode}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    told = json.loads(lines[-1])
    good = told["requests"] - told["bad_status"]
    return Load(
        rate=good / told["seconds"],
        requests=int(good),
        errors=int(told["bad_status"] + told["socket_errors"]),
        mean=told["mean"],
        p50=told["p50"],
        p95=told["p95"],
        p99=told["p99"],
        wrapped=bool(told["wrapped"]),
    )


def warm(site: Site, folder: Path, seconds: int = 1) -> None:
    """Let every worker load its code: a GET that counts nothing, whatever its answer. Not when only trying out."""
    if os.environ.get("BENCH_QUICK"):
        return
    wrk(site, write_requests(folder / "warm", [Request("GET", "/api/videos/1/like/")]), seconds=seconds)


def k6(script: str, folder: Path, environment: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Run a k6 script of ours; its metrics by name, and the lines it wrote to the console."""
    summary, console = folder / "k6-summary.json", folder / "k6-console"
    for path in (summary, console):
        path.unlink(missing_ok=True)
    command = [
        str(K6), "run", "--quiet", "--no-usage-report", "--no-color", "--address", "", "--log-format", "raw",
        "--console-output", str(console), str(ROOT / "benchmarks" / "k6" / script),
    ]  # fmt: skip
    # GOGC: k6 is to collect its garbage less often, and leave more of the machine to what is measured.
    environment = {**os.environ, "GOGC": "400", **environment, "SUMMARY": str(summary)}
    done = subprocess.run(
        end_with_parent(command), env=environment, capture_output=True, text=True, check=False, cwd=folder
    )
    if done.returncode or not summary.exists():
        raise StartFailed(f"k6 ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    metrics: dict[str, Any] = {
        name: metric["values"] for name, metric in json.loads(summary.read_text())["metrics"].items()
    }
    return metrics, console.read_text().splitlines() if console.exists() else []
