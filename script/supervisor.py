"""The children of one parent: started in order, watched, started again when they die, stopped in reverse order."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

STOP_SECONDS = 20.0  # a flush ends after the chunk in hand; what takes longer is killed, which is safe too
STALE_SECONDS = 10.0
RESTARTS = 5  # in RESTART_WINDOW_SECONDS; then something is wrong that another start does not cure
RESTART_WINDOW_SECONDS = 60.0
RESTART_PAUSE_SECONDS = 0.5
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class ChildError(Exception):
    """A child cannot be kept running; the message says which, and what it said last."""


@dataclass
class Child:
    """A program to keep running. `ready` tells whether it works; `log` is where it writes, None for the terminal."""

    name: str
    command: Sequence[str | Path]
    env: Mapping[str, str]
    ready: Callable[[], bool] = lambda: True
    log: Path | None = None
    popen: subprocess.Popen[bytes] | None = field(default=None, init=False)
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=RESTARTS), init=False)

    def last_words(self) -> str:
        """The end of its log, for messages."""
        if self.log is None or not self.log.is_file():
            return ""
        return "\n" + "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


class Supervisor:
    """Keeps children running until `stop` is asked for. Their process numbers stand in `pid_file`."""

    def __init__(self, pid_file: Path, *, cwd: Path) -> None:
        self.pid_file = pid_file
        self.cwd = cwd
        self.children: list[Child] = []
        self.stopping = False

    def catch_signals(self) -> None:
        """From now on Ctrl-C, SIGTERM and a closed terminal ask for the end; asked twice, everything is killed."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup has it ignored, and means it. SIGINT is ignored in what a script starts with &, and means nothing.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._asked_to_stop)

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        if self.stopping:
            for child in self.children:
                _kill_group(child)
        self.stopping = True

    def start(self, child: Child, *, seconds: float = 30.0) -> None:
        """Start a child and return when it is ready, or when the end was asked for meanwhile. Raises ChildError."""
        if child not in self.children:
            self.children.append(child)
        self._launch(child)
        limit = time.monotonic() + seconds
        while not self.stopping and not child.ready():
            if child.popen is not None and child.popen.poll() is not None:
                raise ChildError(f"{child.name} ended with {child.popen.returncode}.{child.last_words()}")
            if time.monotonic() > limit:
                raise ChildError(f"{child.name} is not ready after {seconds:.0f} s.{child.last_words()}")
            time.sleep(0.02)

    def _launch(self, child: Child) -> None:
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(child.log.open("ab")) if child.log else None
            child.popen = subprocess.Popen(
                [str(part) for part in child.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                env=dict(child.env),
                cwd=self.cwd,
                start_new_session=True,  # Ctrl-C reaches the parent alone, which stops the children in their order
                preexec_fn=_end_with_parent(os.getpid()),  # noqa: PLW1509  this process has one thread
            )
        running = [kept.popen.pid for kept in self.children if kept.popen]
        fresh = self.pid_file.with_suffix(".new")
        fresh.write_text(json.dumps({pid: _started_at(pid) for pid in running}))
        fresh.replace(self.pid_file)  # whoever reads it, or kills us now, finds a whole one

    def watch(self) -> None:
        """Start again what dies, until the end is asked for. Raises ChildError for what dies again and again."""
        while not self.stopping:
            for child in self.children:
                if child.popen is not None and child.popen.poll() is not None and not self.stopping:
                    self._revive(child, child.popen.returncode)
            time.sleep(0.1)

    def _revive(self, child: Child, code: int) -> None:
        _kill_group(child)  # the workers of a web server that was killed keep its port, and would share it
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        now = time.monotonic()
        if len(child.deaths) == RESTARTS and now - child.deaths[0] < RESTART_WINDOW_SECONDS:
            raise ChildError(f"{child.name} died again ({how}), after {RESTARTS} new starts.{child.last_words()}")
        child.deaths.append(now)
        print(f"{child.name} died ({how}); starting it again.", file=sys.stderr, flush=True)
        time.sleep(RESTART_PAUSE_SECONDS)
        self.start(child)

    def stop(self) -> None:
        """Stop the children, the last one started first, each in order; kill what does not end."""
        self.stopping = True
        for child in reversed(self.children):
            if child.popen is None:
                continue
            _send(child, signal.SIGTERM)
            try:
                child.popen.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"{child.name} did not end within {STOP_SECONDS:.0f} s and is killed.", file=sys.stderr)
            _kill_group(child)
            child.popen.wait()
        self.pid_file.unlink(missing_ok=True)

    def end_stale_children(self) -> None:
        """End the children that a killed parent left. A process that was given an old one's number is left alone."""
        try:
            left: dict[str, str | None] = json.loads(self.pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return
        stale = {int(pid): started for pid, started in left.items() if started and _started_at(int(pid)) == started}
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in stale:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, number)
            limit = time.monotonic() + STALE_SECONDS
            while time.monotonic() < limit:
                stale = {pid: started for pid, started in stale.items() if _started_at(pid) == started}
                if not stale:
                    break
                time.sleep(0.02)
        self.pid_file.unlink(missing_ok=True)


def _send(child: Child, number: signal.Signals) -> None:
    if child.popen is not None:
        child.popen.send_signal(number)


def _kill_group(child: Child) -> None:
    """Kill what is left of a child and of what it started itself."""
    if child.popen is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.popen.pid, signal.SIGKILL)


def _started_at(pid: int) -> str | None:
    """When a process began, which tells it from a later one of the same number; None when there is none."""
    if sys.platform != "linux":
        shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return shown.stdout.strip() or None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()  # the name may hold anything
    except OSError:
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None if fields[0] == "Z" else f"{boot} {fields[19]}"  # proc(5): state, starttime


def _end_with_parent(parent: int) -> Callable[[], None]:
    """Linux ends the child when the parent is killed; elsewhere the next start ends it, by `end_stale_children`."""
    if sys.platform != "linux":
        return lambda: None
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before it could be asked for
            os.kill(os.getpid(), signal.SIGTERM)

    return ask
