"""What a soak runs: database, Redis, web server and two flushes, with proxies between them."""

import contextlib
import os
import re
import shlex
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from servers import (
    PYTHON,
    ROOT,
    MariaDBServer,
    MySQLServer,
    Process,
    RedisServer,
    ValkeyServer,
    WebServer,
    alive,
    run_manage,
    start_manage,
)
from servers.database import SMALL
from servers.process import HOST
from tests.support.proxy import Proxy

SECRET_KEY: Final = "soak-" + "0123456789abcdef" * 4
WORKERS: Final = 2
# Both run all the time, so that they overlap.
FLUSHES: Final = (("--every", "1"), ("--every", "3", "--gently", "2"))
RESTART_SECONDS: Final = 1.0  # until the clock, or systemd, starts a process again


class ReadmeServer(WebServer):
    """The service, started as README says, with two workers."""

    @property
    def command(self) -> list[str | Path]:
        """README's line; of an option that comes twice the last is taken."""
        (line,) = re.findall(r"^python -m streaming\.serve .*", (ROOT / "README.md").read_text(), re.MULTILINE)
        ours = ("--host", HOST, "--port", str(self.port), "--workers", str(WORKERS), "--log-level", "warning")
        return [PYTHON, *shlex.split(line)[1:], *ours]


class Stack:
    """The processes. `pair` is that of script/test: sqlite, mariadb or mysql."""

    def __init__(
        self,
        folder: Path,
        pair: str,
        *,
        flushes: Sequence[Sequence[str]] = FLUSHES,
        database_options: Mapping[str, str] = SMALL | {"innodb_flush_log_at_trx_commit": "1"},
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.pair = pair
        self.flush_arguments = flushes
        self.variables = variables or {}
        self.redis: RedisServer = ValkeyServer(folder / "redis") if pair == "sqlite" else RedisServer(folder / "redis")
        self.database: MariaDBServer | None = None
        if pair != "sqlite":
            kind = MySQLServer if pair == "mysql" else MariaDBServer
            self.database = kind(folder / "database", database_options)
        self.proxies: dict[tuple[str, str], Proxy] = {}  # by who asks (web, flusher) and whom (redis, database)
        self.flushes: list[Process] = []
        self.unexpected: list[str] = []  # processes that ended, though no fault was theirs
        self._dead: dict[int, float] = {}  # place of a flush -> when it was seen to have ended
        self._expected: set[int] = set()  # pids that a fault has killed
        self._stack = contextlib.ExitStack()
        self.web: WebServer | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.redis)
            if self.database is not None:
                stack.enter_context(self.database)
            for client in ("web", "flusher"):
                self.proxies[client, "redis"] = stack.enter_context(Proxy(self.redis.port))
                if self.database is not None:
                    self.proxies[client, "database"] = stack.enter_context(Proxy(self.database.port))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.flushes:
            process.kill()
        self._stack.close()

    def environment(self, client: str | None = None) -> dict[str, str]:
        """The environment of the web server or of a flush, behind its proxies; without a client the servers' own."""
        redis_url = self.redis.url
        database_url = f"sqlite:///{self.folder / 'soak.sqlite3'}" if self.database is None else self.database.url
        if client is not None:
            redis_url = redis_url.replace(f":{self.redis.port}", f":{self.proxies[client, 'redis'].port}")
            if self.database is not None:
                port = self.proxies[client, "database"].port
                database_url = database_url.replace(f":{self.database.port}", f":{port}")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAMING_")}
        return kept | {
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",  # without throttles: all load comes from one address
            "SECRET_KEY": SECRET_KEY, "DATABASE_URL": database_url, "REDIS_URL": redis_url,
            "ALLOWED_HOSTS": "127.0.0.1", "SECURE_SSL_REDIRECT": "0", "TOKEN_MINUTES": "600",
            "FLUSH_INTERVAL_SECONDS": "2", "STREAMING_ENV_FILE": os.devnull, "LOG_LEVEL": "WARNING",
            **self.variables,
        }  # fmt: skip

    def start_service(self) -> None:
        """Start the web server and the flushes. Call it from the main thread: they end with the thread that starts."""
        self.web = self._stack.enter_context(ReadmeServer(self.folder / "web", env=self.environment("web")))
        self.flushes = [self._start_flush(place) for place in range(len(self.flush_arguments))]

    def _start_flush(self, place: int) -> Process:
        log = self.folder / f"flush-{place}.log"
        return start_manage("flush_counters", *self.flush_arguments[place], env=self.environment("flusher"), log=log)

    def manage(self, *arguments: str) -> None:
        """Run `manage.py` on the servers themselves. AssertionError when it fails."""
        done = run_manage(*arguments, env=self.environment(), seconds=300)
        assert done.returncode == 0, done.stdout + done.stderr

    def revive(self) -> None:
        """Start what has ended, as systemd or a clock would. Call it often, from the main thread."""
        assert self.web is not None
        assert self.web.process is not None
        if not self.web.process.running:
            self.unexpected.append(f"granian ended.{self.web.process.tail()}")
            self.web.kill()
            self.web.start()
        for place, process in enumerate(self.flushes):
            if process.running:
                continue
            if place not in self._dead:
                self._dead[place] = time.monotonic()
                if process.pid not in self._expected:
                    self.unexpected.append(f"flush {place} ended.{process.tail()}")
            elif time.monotonic() - self._dead[place] > RESTART_SECONDS:
                del self._dead[place]
                self.flushes[place] = self._start_flush(place)

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.revive()
            time.sleep(min(left, 0.05))

    def wait_until(self, ready: Callable[[], bool], *, what: str, seconds: float = 60.0) -> None:
        """Return as soon as `ready()` is true. TimeoutError names `what` when that takes longer than `seconds`."""
        end = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > end:
                raise TimeoutError(f"{what}: not within {seconds:.0f} s")
            self.revive()
            time.sleep(0.05)

    def workers(self) -> list[int]:
        """The pids of granian's workers."""
        assert self.web is not None
        return [pid for pid in self.web.pids()[1:] if alive(pid)]

    def pids_of(self, target: str, choice: int) -> list[int]:
        """The processes that a signal to this target goes to."""
        if target == "web":
            workers = self.workers()
            return [workers[choice % len(workers)]] if workers else []
        if target == "flusher":
            return [self.flushes[choice % len(self.flushes)].pid]
        if target == "redis":
            return self.redis.pids()[:1]
        assert self.database is not None
        if isinstance(self.database, MySQLServer):
            return [int((self.database.folder / "mysqld.pid").read_text())]
        return self.database.pids()[:1]

    def kill(self, target: str, choice: int) -> None:
        """SIGKILL."""
        if target == "redis":
            self.redis.kill()
        elif target == "database":
            assert self.database is not None
            self.database.kill()
        else:
            for pid in self.pids_of(target, choice):
                self._expected.add(pid)
                os.kill(pid, signal.SIGKILL)

    def restart(self, target: str) -> None:
        """After a kill. Granian and `revive` start workers and flushes by themselves."""
        if target == "redis":
            self.redis.restart()
        elif target == "database":
            assert self.database is not None
            self.database.restart()

    def proxies_of(self, target: str) -> list[Proxy]:
        """The proxies before a server, or those of the flushes."""
        return [proxy for pair, proxy in self.proxies.items() if target in pair]

    def logs(self) -> Mapping[str, str]:
        """What each program wrote."""
        return {path.name: path.read_text(errors="replace") for path in self.folder.rglob("*.log")}
