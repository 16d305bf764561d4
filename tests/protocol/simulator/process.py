"""The simulator's processes: each is a thread that does one step a turn, with state of the app's modules of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from django.db import connection, connections

from videos.counters import clock
from videos.counters import connection as wire

STATE = ((wire, "_away_until"), (wire, "_met_run"), (wire, "_met_pairing"), (wire, "_meeting"), (clock, "_skew"))
TURN_SECONDS = 30.0  # a run that hangs says where

Act = Callable[["Process"], None]


class Meeting:
    """The lock of a process' meetings; a thread that waits for it lets others take their turns."""

    def __init__(self) -> None:
        self._held = False

    def __enter__(self) -> None:
        while self._held:
            gate("lock")
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False


class Machine:
    """What the threads of one operating system's process share: the state of the app's modules, and a wall clock."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: list[Any] = [0.0, "", None, Meeting(), None]  # of STATE
        self.wall_ahead_us = 0
        self.cut_off_until_us = 0  # from Redis

    def enter(self) -> list[Any]:
        """Put its state into the modules; return what was there."""
        before = [getattr(module, name) for module, name in STATE]
        self._put(self.state)
        return before

    def leave(self, before: list[Any]) -> None:
        """Take its state out of the modules."""
        self.state = [getattr(module, name) for module, name in STATE]
        self._put(before)

    @staticmethod
    def _put(values: list[Any]) -> None:
        for (module, name), value in zip(STATE, values, strict=True):
            setattr(module, name, value)


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


class Worker:
    """A thread that runs one process after another; its connection to the database stays open meanwhile."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Process | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def begin(self, process: Process) -> None:
        self._work.put(process)

    def end(self) -> None:
        self._work.put(None)
        self._thread.join(TURN_SECONDS)

    def _run(self) -> None:
        while process := self._work.get():
            process.run()
        connections.close_all()


class Process:
    """A thread of a web server that sends requests to itself, or of a flush, or of a command."""

    current = threading.local()  # .process, in a worker's thread

    def __init__(self, name: str, machine: Machine, act: Act, worker: Worker, weight: float) -> None:
        self.name = name
        self.machine = machine
        self.act = act
        self.weight = weight
        self.step = "begin"
        self.awake_at_us = 0
        self.viewers: dict[int, str] = {}  # of the views that it records, by video
        self.in_transaction = self.in_request = self.finished = self.dying = False
        self.error: BaseException | None = None
        self._go, self._back = threading.Lock(), threading.Lock()  # held until it is the process' turn, or the world's
        self._go.acquire()
        self._back.acquire()
        worker.begin(self)

    def run(self) -> None:
        """Act, in a worker's thread."""
        Process.current.process = self
        wire._leases.request = wire._leases.flush = None
        self._go.acquire()
        try:
            if not self.dying:
                self.act(self)
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            self.error = error
        finally:
            self.finished = True
            self._back.release()

    def gate(self, step: str, *, awake_at_us: int = 0) -> None:
        """Wait for the next turn; called in the process' own thread."""
        if self.dying:
            raise Killed
        self.step, self.awake_at_us = step, awake_at_us
        self.in_transaction = connection.in_atomic_block
        self._back.release()
        self._go.acquire()
        self.in_transaction = False
        if self.dying:
            raise Killed

    def turn(self) -> None:
        """Let the process do one step; called by the world."""
        before = self.machine.enter()
        self._go.release()
        if not self._back.acquire(timeout=TURN_SECONDS):
            raise AssertionError(f"{self.name} hangs in {self.step}")
        self.machine.leave(before)
        if self.error is not None:
            raise self.error

    def kill(self) -> None:
        """End the process where it waits."""
        self.dying = True
        self.turn()


def running() -> Process | None:
    """The process of this thread; None in the test's own."""
    return getattr(Process.current, "process", None)


def gate(step: str) -> None:
    """Wait for the next turn, if this is a process' thread."""
    if (process := running()) is not None:
        process.gate(step)


def gated(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, after a turn of its own when a process calls it."""

    def call(*args: Any, **kwargs: Any) -> Any:
        gate(step)
        return function(*args, **kwargs)

    return call
