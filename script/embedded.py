"""What script/server does: make an environment and demo data; run Valkey, flush and web server under a supervisor."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import http.client
import json
import os
import secrets
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from environment import SetupError, ensure_environment

from servers.process import HOST, ROOT, MissingServerError, StartFailed, free_port
from servers.redis import ValkeyServer
from servers.server import Server, make_private, write_private
from servers.supervisor import Supervisor
from servers.web import WebServer, manage_command

FLUSH_SECONDS = 5  # so that a newcomer soon sees rows change; production flushes once a minute
DEMO_USER = "demo1"
DEMO_PASSWORD = "demo"  # noqa: S105  of demo accounts; the web server listens on 127.0.0.1 only  # nosec B105
PORT_TRIES = 5
THREADS = 4  # of a web worker: while one waits for Redis' disk, others work
VALKEY_SECONDS = 120  # for its start: it reads its append-only file


def main(description: str | None) -> int:
    """Run until Ctrl-C or SIGTERM. Return the exit code: 0 then, 1 if a server cannot be kept running."""
    options = _parse(description or "")
    begun = time.monotonic()
    try:
        return _serve(options, begun)
    except (SetupError, StartFailed) as error:
        print(f"script/server: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # only before the first server; later SIGINT stops the servers in order
        return 130


def _parse(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "script/server", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=_port, default=8000, help="where the web server listens on 127.0.0.1 (8000)")
    parser.add_argument("--var", type=Path, default=ROOT / "var", metavar="DIR", help="where everything is kept (var/)")
    parser.add_argument("--workers", type=int, default=_workers(), help="processes of the web server (%(default)s)")
    return parser.parse_args()


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")
    return port


def _workers() -> int:
    return max(2, min(4, os.cpu_count() or 2))


def _serve(options: argparse.Namespace, begun: float) -> int:
    var = options.var.resolve()
    make_private(var)
    with _only_one_on(var):
        supervisor = Supervisor(var / "children.json")
        supervisor.end_stale_children()
        _refuse_taken_port(options.port)
        python = ensure_environment(ROOT / ".venv", [ROOT / "requirements" / "embedded.txt"])
        supervisor.catch_signals()
        try:
            env = _start_servers(supervisor, python, var, options)
            if not supervisor.stopping:
                _greet(options.port, var, env, time.monotonic() - begun)
                supervisor.watch()
        finally:
            if supervisor.children:
                print("\nStopping ...", flush=True)
            supervisor.stop()
    print("Stopped. Every count is kept.", flush=True)
    return 0


@contextlib.contextmanager
def _only_one_on(var: Path) -> Iterator[None]:
    with (var / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise SetupError(
                f"it already runs on {var}, as process {lock.read().strip()}. To run another beside it, give that "
                "a --var and a --port of its own."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _refuse_taken_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise SetupError(
                f"port {port} cannot be used: {error.strerror}. Choose another one with --port."
            ) from error


def _start_servers(supervisor: Supervisor, python: Path, var: Path, options: argparse.Namespace) -> Mapping[str, str]:
    """Start Valkey, the flush and the web server, in this order, and return the environment of the service."""
    kept = _read_env(var / "env")
    service = {
        "STREAMING_EMBEDDED": "1",
        "SECRET_KEY": os.environ.get("SECRET_KEY") or kept.get("SECRET_KEY") or secrets.token_urlsafe(50),
        "DATABASE_URL": os.environ.get("DATABASE_URL") or f"sqlite:///{quote(str(var / 'streaming.sqlite3'))}",
        "REDIS_URL": os.environ.get("REDIS_URL") or _start_valkey(supervisor, python, var),
        "FLUSH_INTERVAL_SECONDS": os.environ.get("FLUSH_INTERVAL_SECONDS") or str(FLUSH_SECONDS),
        "TOKEN_MINUTES": os.environ.get("TOKEN_MINUTES") or "1440",
        "VIEW_WATCHED_REQUIRED": os.environ.get("VIEW_WATCHED_REQUIRED") or "1",
    }
    _write_env(var / "env", service)
    env = (
        os.environ | service | {"DJANGO_SETTINGS_MODULE": "streaming.settings", "STREAMING_ENV_FILE": str(var / "env")}
    )
    if not supervisor.stopping:
        _manage(python, ["seed_demo", "--migrate"], env)
    if not supervisor.stopping:
        every = service["FLUSH_INTERVAL_SECONDS"]
        flush = Server(var, manage_command("flush_counters", "--every", every, python=python), env=env)
        flush.name, flush.terminal = "The flush", True
        supervisor.start(flush)
    if not supervisor.stopping:
        web = WebServer(
            var, env=env, port=options.port, python=python, workers=options.workers, threads=THREADS,
            options=("--log-level", "error"),
        )  # fmt: skip
        web.name, web.terminal = "The web server", True
        supervisor.start(web)
    return env


def _start_valkey(supervisor: Supervisor, python: Path, var: Path) -> str:
    """Start the embedded Valkey on a free port and return its URL."""
    valkey = ValkeyServer(var / "valkey", python=python, password=secrets.token_urlsafe(24))
    for tries_left in reversed(range(PORT_TRIES)):
        valkey.log.unlink(missing_ok=True)
        try:
            supervisor.start(valkey, seconds=VALKEY_SECONDS)
            break
        except MissingServerError as error:
            raise SetupError(f"{error}\nSet REDIS_URL to a Redis of yours.") from error
        except StartFailed:
            if not tries_left or "Address already in use" not in valkey.log.read_text(errors="replace"):
                raise
            valkey.port = free_port()
    return valkey.url


def _read_env(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {name: value for name, _, value in (line.partition("=") for line in lines) if not name.startswith("#")}


def _write_env(path: Path, values: Mapping[str, str]) -> None:
    head = "# Written by script/server at each start, so that manage.py sees the same databases. SECRET_KEY is kept.\n"
    write_private(path, head + "".join(f"{name}={value}\n" for name, value in values.items()))


def _manage(python: Path, arguments: list[str], env: Mapping[str, str]) -> None:
    command = manage_command(*arguments, python=python)
    done = subprocess.run(
        command, env=dict(env), cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True, check=False
    )
    if done.returncode:
        raise SetupError(f"manage.py {arguments[0]} failed; its output is above.")


def _call(method: str, port: int, path: str, body: dict[str, str] | None = None) -> Any:
    """Return the service's answer, decoded; None if it is not a success."""
    request = urllib.request.Request(
        f"http://{HOST}:{port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  # nosec B310
            return json.load(answer)
    except (OSError, http.client.HTTPException, ValueError):
        return None


def _greet(port: int, var: Path, env: Mapping[str, str], seconds: float) -> None:
    """Print the address of the service, and commands to try."""
    url = f"http://{HOST}:{port}"
    tokens = _call("POST", port, "/api/token/", {"username": DEMO_USER, "password": DEMO_PASSWORD})
    page = _call("GET", port, "/api/videos/")
    lines = [f"\nReady after {seconds:.0f} s: {url}/"]
    if tokens:
        lines += [
            f"  API page   {url}/api/docs/",
            f"  Admin      {url}/admin/   (admin / admin)",
            f"  Accounts   demo1 ... demo100, password {DEMO_PASSWORD}",
            f"\nA token of {DEMO_USER}:\n  TOKEN={tokens['access']}",
        ]
    else:
        lines.append(
            "The database has accounts of its own, so no demo accounts were made. A token of one of yours:\n"
            f"  curl -X POST {url}/api/token/ -H 'Content-Type: application/json' "
            """-d '{"username": "...", "password": "..."}'"""
        )
    if page and page["results"]:
        video = page["results"][0]["id"]
        lines += [
            "\nLike a video, and view it:",
            f'  curl -X PUT {url}/api/videos/{video}/like/ -H "Authorization: Bearer $TOKEN"',
            (
                f'  curl -X POST {url}/api/videos/{video}/view/ -H "Authorization: Bearer $TOKEN" '
                """-H 'Content-Type: application/json' -d '{"watched": 30}'"""
            ),
            f"  curl {url}/api/videos/{video}/",
        ]
    here = "" if var == ROOT / "var" else f"STREAMING_ENV_FILE={shlex.quote(str(var / 'env'))} "
    lines += [
        f"\nThe flush runs every {env['FLUSH_INTERVAL_SECONDS']} s. By hand, in another terminal:",
        f"  {here}python3 manage.py flush_counters",
        "\nCtrl-C stops everything.",
    ]
    print("\n".join(lines), flush=True)
