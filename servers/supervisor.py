"""The servers of one parent: started in order, watched, started again when they die, stopped in reverse order."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from servers.process import Process, StartFailed, started_at
from servers.server import Server

STOP_SECONDS = 20.0  # a flush ends after its present chunk; killing a slower one loses nothing
STALE_SECONDS = 10.0
RESTARTS = 5  # in RESTART_WINDOW_SECONDS; after that another start would not help
RESTART_WINDOW_SECONDS = 60.0
RESTART_PAUSE_SECONDS = 0.5
ASK_SECONDS = 2.0  # between two questions whether a server answers, and how long an answer may take
ASKED = 10  # the last questions that are remembered: where some workers hang, the others answer in between
MISSED = 3  # of them; then the server hangs


class Supervisor:
    """Keeps servers running until it is asked to stop. `pid_file` holds their process numbers."""

    def __init__(self, pid_file: Path) -> None:
        self.pid_file = pid_file
        self.children: list[Server] = []
        self.stopping = False
        self._deaths: Mapping[Server, deque[float]] = defaultdict(lambda: deque(maxlen=RESTARTS))
        self._answered: Mapping[Server, deque[bool]] = defaultdict(lambda: deque(maxlen=ASKED))

    def catch_signals(self) -> None:
        """From now on Ctrl-C, SIGTERM and a closed terminal ask for the end. The second request kills every child."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup ignores SIGHUP on purpose. A script's & ignores SIGINT as a side effect.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._asked_to_stop)

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        if self.stopping:
            for child in self.children:
                if child.process is not None:
                    child.process.kill_group()
        self.stopping = True

    def start(self, child: Server, *, seconds: float = 30.0) -> None:
        """Start a server and return when it is ready, or when a signal asked for the end. Raises StartFailed."""
        child.end_signal = signal.SIGTERM  # so that it also ends in order when this process is killed
        process = child.launch()
        if child not in self.children:
            self.children.append(child)
        started = {kept.process.pid: started_at(kept.process.pid) for kept in self.children if kept.process}
        fresh = self.pid_file.with_suffix(".new")
        fresh.write_text(json.dumps(started))
        fresh.replace(self.pid_file)  # a reader, and the start after a crash, find a complete file
        process.wait_until(lambda: self.stopping or child.ready(), seconds=seconds)

    def watch(self) -> None:
        """Start servers again that died or hang, until a signal asks for the end. Raises StartFailed."""
        asked = time.monotonic()
        while not self.stopping:
            for child in self.children:
                if child.process is not None and not child.process.running and not self.stopping:
                    self._revive(child, child.process)
            if time.monotonic() > asked + ASK_SECONDS:
                self._end_hung_servers()
                asked = time.monotonic()
            time.sleep(0.1)

    def _end_hung_servers(self) -> None:
        for child in self.children:
            answered = self._answered[child]
            answered.append(child.answers(ASK_SECONDS))
            if answered.count(False) >= MISSED and child.process is not None and child.process.running:
                print(f"{child.name} does not answer.", file=sys.stderr, flush=True)
                child.process.kill()

    def _revive(self, child: Server, process: Process) -> None:
        code = process.kill()  # also the workers of a web server, which would keep its port
        self._answered[child].clear()
        deaths, now = self._deaths[child], time.monotonic()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if len(deaths) == RESTARTS and now - deaths[0] < RESTART_WINDOW_SECONDS:
            raise StartFailed(f"{child.name} died again ({how}), after {RESTARTS} new starts.{process.tail()}")
        deaths.append(now)
        print(f"{child.name} died ({how}); starting it again.", file=sys.stderr, flush=True)
        time.sleep(RESTART_PAUSE_SECONDS)
        self.start(child)

    def stop(self) -> None:
        """Stop the servers in order, the last one started first. Kill the ones that do not end."""
        self.stopping = True
        for child in reversed(self.children):
            if child.process is None:
                continue
            try:
                child.process.stop(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"{child.name} did not end within {STOP_SECONDS:.0f} s and is killed.", file=sys.stderr)
        self.pid_file.unlink(missing_ok=True)

    def end_stale_children(self) -> None:
        """End the servers that a killed parent left. Another process that has one's number by now is left alone."""
        try:
            left: dict[str, str | None] = json.loads(self.pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return
        stale = {int(pid): started for pid, started in left.items() if started and started_at(int(pid)) == started}
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in stale:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, number)
            limit = time.monotonic() + STALE_SECONDS
            while time.monotonic() < limit:
                stale = {pid: started for pid, started in stale.items() if started_at(pid) == started}
                if not stale:
                    break
                time.sleep(0.02)
        self.pid_file.unlink(missing_ok=True)
