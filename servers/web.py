"""The service's own programs: its web server and manage.py."""

from __future__ import annotations

import http.client
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from servers.process import HOST, PYTHON, ROOT, START_SECONDS, Process, call
from servers.server import Server

SERVICE = "streaming.wsgi:application"


def granian(
    port: int,
    *,
    application: str = SERVICE,
    workers: int = 1,
    threads: int = 1,
    options: Sequence[str] = (),
    python: Path = PYTHON,
) -> list[str | Path]:
    """Return the command that serves an application with granian on 127.0.0.1."""
    arguments = {
        "interface": "wsgi", "host": HOST, "port": port, "workers": workers, "blocking-threads": threads,
        "workers-kill-timeout": 10,  # a worker that has not started yet misses the request to stop
    }  # fmt: skip
    pairs = [part for name, value in arguments.items() for part in (f"--{name}", str(value))]
    return [python.parent / "granian", *pairs, "--http", "1", "--no-ws", *options, application]


def serve(
    port: int, *, workers: int = 1, threads: int = 1, options: Sequence[str] = (), python: Path = PYTHON
) -> list[str | Path]:
    """Return the command that serves the service on 127.0.0.1, as in production."""
    numbers = {"--host": HOST, "--port": port, "--workers": workers, "--threads": threads}
    return [python, "-m", "streaming.serve", *[str(part) for pair in numbers.items() for part in pair], *options]


class WebServer(Server):
    """The service under its web server. `options` are those of `serve`."""

    name = "web"
    end_signal = signal.SIGTERM  # its workers go on when it is killed

    def __init__(self, folder: Path, *, env: Mapping[str, str], port: int | None = None, **options: Any) -> None:
        super().__init__(folder, env=env, port=port)
        self._command = serve(self.port, **options)

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://{HOST}:{self.port}"

    def ready(self) -> bool:
        """Whether it answers."""
        return self.answers(10)

    def answers(self, seconds: float) -> bool:
        """Whether it answers within this time."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=seconds)
        try:
            connection.request("GET", "/health/live")
            return connection.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def manage_command(*arguments: str, python: Path = PYTHON) -> list[str | Path]:
    """Return the command that runs `manage.py` with these arguments."""
    return [python, ROOT / "manage.py", *arguments]


def start_manage(*arguments: str, env: Mapping[str, str], log: Path) -> Process:
    """Start `manage.py` with these arguments and return at once."""
    return Process(manage_command(*arguments), log=log, env=env)


def run_manage(
    *arguments: str, env: Mapping[str, str], seconds: float = START_SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run `manage.py` with these arguments to its end; the caller judges its exit code."""
    return call(manage_command(*arguments), env, check=False, timeout=seconds)
