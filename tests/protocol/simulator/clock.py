"""The simulator's clocks: one true time, wall clocks that may stand wrong, and Redis' clock in shared memory.

Each module of the app that reads `time`, `datetime.now`, `random` or `secrets` gets what stands here instead.
"""

from __future__ import annotations

import datetime as dt
import mmap
import os
import random
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.db import connection
from django.utils import timezone

from servers import MissingServerError, RedisServer

BEGIN_US = 1_800_000_000_000_000
SECOND_US = 1_000_000


def prepare(server: RedisServer) -> memoryview:
    """Let this server, which has not started, take its wall clock (Unix µs) from memory. Returns that memory."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise MissingServerError("no C compiler (Debian: apt install gcc libc6-dev)")
    library, file = server.folder / "clock.so", server.folder / "clock"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
    file.write_bytes(BEGIN_US.to_bytes(8, sys.byteorder))
    server.env = os.environ | {"LD_PRELOAD": str(library), "SIMULATED_CLOCK": str(file)}
    with file.open("r+b") as opened:
        return memoryview(mmap.mmap(opened.fileno(), 8)).cast("q")


class Clock:
    """The true time of a run, and the clock of its Redis."""

    def __init__(self, redis: memoryview) -> None:
        self._redis = redis
        self.random = random.Random()  # of the app
        self.begin(0)

    def begin(self, seed: int) -> None:
        """Begin another run."""
        self.now_us = BEGIN_US
        self.redis_ahead_us = 0
        self.random.seed(seed)
        self.advance(0)

    def advance(self, us: int) -> None:
        """Let time pass."""
        self.now_us += us
        self._redis[0] = self.now_us + self.redis_ahead_us

    @property
    def redis_us(self) -> int:
        """Unix microseconds by Redis' clock."""
        return self.now_us + self.redis_ahead_us

    def install(
        self, patch: pytest.MonkeyPatch, wall_ahead_us: Callable[[], int], sleep: Callable[[float], None]
    ) -> None:
        """Let the app take its time from here; the running process' wall clock is `wall_ahead_us()` ahead."""

        def wall_us() -> int:
            return self.now_us + wall_ahead_us()

        class Simulated(dt.datetime):
            @classmethod
            def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
                return dt.datetime.fromtimestamp(wall_us() / SECOND_US, tz)

        simulated = SimpleNamespace(
            time=lambda: wall_us() / SECOND_US,
            time_ns=lambda: wall_us() * 1000,
            monotonic=lambda: (self.now_us - BEGIN_US) / SECOND_US + 1000,
            sleep=sleep,
        )
        for name, module in list(sys.modules.items()):
            if not name.startswith("videos."):
                continue
            known = vars(module)
            # The breaker's threads, which only MySQL needs, are no part of a run.
            if known.get("time") is time and not (name == "videos.ledger.breaker" and connection.vendor == "mysql"):
                patch.setitem(known, "time", simulated)
            if known.get("random") is random:
                patch.setitem(known, "random", self.random)
            if known.get("secrets") is secrets:
                patch.setitem(
                    known, "secrets", SimpleNamespace(token_hex=lambda size: self.random.randbytes(size).hex())
                )
            if known.get("datetime") is dt.datetime and "datetime.now(" in Path(known["__file__"]).read_text():
                patch.setitem(known, "datetime", Simulated)
        patch.setattr(timezone, "datetime", Simulated)
