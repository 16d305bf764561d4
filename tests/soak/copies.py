"""Copies of a running database and a running Redis: what each had on disk when it stood still."""

import contextlib
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from servers import wait_until
from tests.soak.stack import Stack

KEPT_SECONDS: Final = 300.0
YOUNG_SECONDS: Final = 30.0  # copies younger than this are all kept
APART_SECONDS: Final = 10.0  # of the others one in this time is


class Copy(NamedTuple):
    """A copy, and when the store stopped: between two moments of time.monotonic."""

    begun: float
    ended: float
    path: Path


class Copies:
    """The copies of one store, of the last minutes."""

    def __init__(self, folder: Path, copy: Callable[[Path], tuple[float, float]]) -> None:
        folder.mkdir()
        self.folder = folder
        self.copy = copy
        self.kept: list[Copy] = []
        self._taken = 0

    def take(self) -> Copy:
        """Copy the store as it is."""
        self._taken += 1
        path = self.folder / str(self._taken)
        self.kept.append(Copy(*self.copy(path), path))
        self._thin_out(time.monotonic())
        return self.kept[-1]

    def nearest(self, at: float) -> Copy:
        """The copy that was made nearest to a moment, but for the newest: with that, nothing would be set back."""
        return min(self.kept[:-1], key=lambda one: abs(one.ended - at))

    def _thin_out(self, now: float) -> None:
        kept: list[Copy] = []
        for copy in self.kept:
            old, close = now - copy.ended > KEPT_SECONDS, kept and copy.ended - kept[-1].ended < APART_SECONDS
            if old or (close and now - copy.ended > YOUNG_SECONDS):
                remove(copy.path)
            else:
                kept.append(copy)
        self.kept = kept


def remove(path: Path) -> None:
    """Remove a copy."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def copy_redis(stack: Stack, target: Path) -> tuple[float, float]:
    """Copy the append-only file."""
    with stopped(stack.pids_of("redis", 0)) as moments:
        shutil.copytree(stack.redis.folder / "appendonlydir", target)
    return moments


def copy_database(stack: Stack, target: Path) -> tuple[float, float]:
    """Copy the data folder of a server, as a crash would leave it, or the file of SQLite, by its backup."""
    if stack.database is None:
        begun = time.monotonic()
        copy_sqlite(stack.folder / "soak.sqlite3", target)
        return begun, time.monotonic()
    with stopped(stack.pids_of("database", 0)) as moments:
        shutil.copytree(stack.database.data, target, ignore=shutil.ignore_patterns("*.sock", "*.pid"))
    return moments


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a database in one transaction."""
    with (
        contextlib.closing(sqlite3.connect(source, timeout=30)) as one,
        contextlib.closing(sqlite3.connect(target, timeout=30)) as other,
    ):
        one.backup(other)


@contextlib.contextmanager
def stopped(pids: Sequence[int]) -> Iterator[tuple[float, float]]:
    """Processes stand still inside. Yields between which moments they stopped."""
    begun = time.monotonic()
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: all(map(_stands_still, pids)), what="a process stops")
        yield begun, time.monotonic()
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _stands_still(pid: int) -> bool:
    states = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            states.append((task / "stat").read_text().rpartition(")")[2].split()[0])
    return set(states) <= {"T", "t"}
