"""A child process: its log, its signals, its end, its CPU time and memory."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PYTHON = Path(sys.executable)
HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
LOG_LINES = 15  # that a message quotes
# Asks Linux to send the child a signal when its parent ends (PR_SET_PDEATHSIG, 1, of linux/prctl.h), then becomes the
# wanted program. `preexec_fn` could do the same, but it is not safe where the parent has threads. Python ignores
# SIGPIPE; the wanted program must not inherit that.
LAUNCHER = """
import ctypes, os, signal, sys
parent, number = map(int, sys.argv[1:3])
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, number)
    if os.getppid() != parent:
        sys.exit("the parent has ended")
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class StartFailed(RuntimeError):
    """A program did not start, or did not do its work. The message ends with what it wrote last."""


class MissingServerError(StartFailed):
    """A server is not installed here. The message says what to install."""


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that is free now, and that the system gives to no connection meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)  # connections get ports from 32,768 on
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.bind((HOST, port))
            return port


def listens(port: int) -> bool:
    """Whether something accepts connections on 127.0.0.1:port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0


def wait_until(ready: Callable[[], bool], *, what: str, seconds: float = START_SECONDS) -> None:
    """Return as soon as `ready()` is true. TimeoutError names `what` when that takes longer than `seconds`."""
    limit = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > limit:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)


def end_with_parent(command: Sequence[str | Path], number: signal.Signals = signal.SIGTERM) -> list[str]:
    """Return the command that runs `command` and sends it `number` when its parent, or the parent's thread, ends.

    On systems other than Linux the program goes on without its parent.
    """
    return [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), str(int(number)), *map(str, command)]


def call(
    command: Sequence[str | Path], environment: Mapping[str, str], *, check: bool = True, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; it also ends with its parent. With `check` a failure raises StartFailed."""
    if "input" not in options:
        options["stdin"] = subprocess.DEVNULL
    done: subprocess.CompletedProcess[str] = subprocess.run(
        end_with_parent(command), env=dict(environment), capture_output=True, text=True, cwd=ROOT, check=False,
        **options,
    )  # fmt: skip
    if check and done.returncode:
        said = (done.stdout + done.stderr)[-3000:]
        raise StartFailed(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{said}")
    return done


class Process:
    """A running program that leads a process group. `log` is where it writes, None for the terminal.

    It ends when its parent ends, even by SIGKILL. Linux counts the thread that started it as the parent.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path | None,
        name: str = "",
        env: Mapping[str, str] | None = None,
        own_session: bool = True,
        end_signal: signal.Signals = signal.SIGKILL,  # under SIGSTOP a process acts on no other signal
    ) -> None:
        self.log = log
        self.command = [str(part) for part in command]
        self.name = name or Path(self.command[0]).name
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(log.open("ab")) if log else None
            self.popen = subprocess.Popen(
                end_with_parent(self.command, end_signal),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                env=dict(env) if env is not None else None,
                cwd=ROOT,
                # Either way Ctrl-C reaches the parent alone, which then stops its children in order.
                start_new_session=own_session,
                process_group=None if own_session else 0,
            )

    @property
    def pid(self) -> int:
        """Its process number, which is that of its group too."""
        return self.popen.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.popen.poll() is None

    @property
    def output(self) -> str:
        """Everything in its log, both streams. Empty when it writes to the terminal."""
        return self.log.read_text(errors="replace") if self.log is not None and self.log.is_file() else ""

    def tail(self) -> str:
        """Return a new line and the last lines of its log, for the end of a message; nothing when there are none."""
        return "".join(f"\n{line}" for line in self.output.splitlines()[-LOG_LINES:])

    def wait_until(self, ready: Callable[[], bool], *, seconds: float = START_SECONDS) -> None:
        """Return as soon as `ready()` is true. StartFailed when the process ends first, or after `seconds`."""
        limit = time.monotonic() + seconds
        while not ready():
            if not self.running:
                raise StartFailed(f"{self.name} ended with {self.popen.returncode}.{self.tail()}")
            if time.monotonic() > limit:
                raise StartFailed(f"{self.name} is not ready after {seconds:.0f} s.{self.tail()}")
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        """Send a signal. Nothing happens when the process has ended."""
        self.popen.send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for its end and return its exit code, negative for a signal. TimeoutExpired after `seconds`."""
        return self.popen.wait(seconds)

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """Ask it to end (SIGTERM) and return its exit code. What is left of its group after that is killed.

        TimeoutExpired when it did not end within `seconds`; it is killed then.
        """
        self.send(signal.SIGTERM)
        try:
            return self.wait(seconds)
        finally:
            self.kill()

    def kill(self) -> int:
        """End it, and what it started, at once (SIGKILL). Return its exit code."""
        self.kill_group()
        return self.wait()

    def kill_group(self) -> None:
        """Send SIGKILL to it and to what it started, without waiting for the end."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def pids(self) -> list[int]:
        """Return its process number and those of all its descendants (Linux)."""
        found = [self.pid]
        for pid in found:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += [int(child) for child in (task / "children").read_text().split()]
        return found


def started_at(pid: int) -> str | None:
    """Return the start time of a process, None when it has ended. A later process of the same number has another."""
    if sys.platform != "linux":
        shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return shown.stdout.strip() or None
    fields = _stat(pid)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None if not fields or fields[0] == "Z" else f"{boot} {fields[19]}"  # proc(5): state, starttime


def alive(pid: int) -> bool:
    """Whether a process runs. A zombie does not."""
    return started_at(pid) is not None


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the user and system time of these processes (Linux)."""
    ticks = sum(int(fields[11]) + int(fields[12]) for fields in map(_stat, pids) if fields)
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int, peak: bool = False) -> int:
    """Return the memory that a process holds now, or the most that it ever held (Linux)."""
    label = "VmHWM:" if peak else "VmRSS:"
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(label)), 0)


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the program's name, which may contain spaces and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []
