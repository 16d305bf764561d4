"""What the machine is, and how quiet it is."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from importlib.metadata import distributions
from pathlib import Path

from servers import DATABASE_OPTIONS, K6, REDIS_OPTIONS, Servers

LOOP_STEPS = 400_000
IDLE_SECONDS = 0.3


def _busy_and_total() -> tuple[int, int]:
    numbers = [int(part) for part in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle = numbers[3] + numbers[4]
    return sum(numbers) - idle, sum(numbers)


def noise(idle_seconds: float) -> tuple[float, float]:
    """A fixed loop's milliseconds, and the share of the CPU that is busy while the benchmark does nothing."""
    busy, total = _busy_and_total()
    time.sleep(idle_seconds)
    busy_after, total_after = _busy_and_total()
    began = time.perf_counter()
    accumulator = 0
    for step in range(LOOP_STEPS):
        accumulator += step * step
    return (time.perf_counter() - began) * 1000, (busy_after - busy) / max(1, total_after - total)


def _fsync_us(folder: Path) -> float:
    path = folder / "fsync"
    file = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        began = time.perf_counter()
        for _ in range(200):
            os.write(file, b"x" * 256)
            os.fdatasync(file)
        return (time.perf_counter() - began) / 200 * 1e6
    finally:
        os.close(file)
        path.unlink()


def _first_match(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found.group(1) if found else "unknown"


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def facts(servers: Servers) -> dict[str, str]:
    """The machine and the versions, as docs/benchmarks.md shows them."""
    memory = int(_first_match(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text()))
    packages = ("Django", "djangorestframework", "PyJWT", "django-redis", "redis", "hiredis",
                "granian", "mysqlclient-static", "django-hitcount")  # fmt: skip
    installed = {one.name.lower(): one.version for one in distributions()}
    return {
        "cores": str(os.cpu_count()),
        "processor": _first_match(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text()),
        "memory": f"{memory / 1024 / 1024:.0f} GiB",
        "fdatasync of 256 bytes": f"{_fsync_us(servers.folder):.0f} µs",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "MariaDB": str(servers.sql("SELECT VERSION()")[0][0]),
        "MariaDB settings": ", ".join(f"{name}={value}" for name, value in DATABASE_OPTIONS.items()),
        "Redis": str(servers.redis_client().info("server")["redis_version"]),
        "Redis settings": ", ".join(f"{name} {value or repr('')}" for name, value in REDIS_OPTIONS.items()),
        "wrk": _first_match(r"wrk (\S+)", _said("wrk", "-v")),
        "k6": _first_match(r"k6 v?(\S+)", _said(str(K6), "version")),
        **{package: installed[package.lower()] for package in packages if package.lower() in installed},
    }
