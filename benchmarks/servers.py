"""Everything that is started: MariaDB, Redis, web servers, flush loops; and that all of it stops, also on Ctrl-C."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import MySQLdb
import redis

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60
STOP_SECONDS = 20
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class StartFailed(RuntimeError):
    """A server did not come up; the message ends with what it said."""


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _die_with_parent() -> None:
    # Linux: the child gets SIGTERM when the benchmark dies, even by SIGKILL, so nothing is ever left running.
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Process:
    """One started program with its own process group and log."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def tail(self, characters: int = 2000) -> str:
        """The end of what it wrote."""
        return self.log.read_text(errors="replace")[-characters:]

    def pids(self) -> list[int]:
        """Its process and all descendants."""
        found = [self.popen.pid]
        for pid in found:
            try:
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += [int(child) for child in (task / "children").read_text().split()]
            except (FileNotFoundError, ProcessLookupError):
                continue
        return found

    def stop(self, first: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, wait, then kill its whole group; its exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(first)
            with suppress(subprocess.TimeoutExpired):
                self.popen.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        return self.popen.wait()


def start(
    name: str, command: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None
) -> Process:
    """Start a program in the background; the caller stops it."""
    log = folder / f"{name}.log"
    with log.open("ab") as out:
        popen = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=dict(environment) if environment is not None else None,
            # Ctrl-C reaches the benchmark alone, which then stops all of them in order. No session of its own: Linux
            # schedules sessions as equals, whatever the priority of a process in one.
            process_group=0,
            preexec_fn=_die_with_parent,  # noqa: PLW1509
            cwd=ROOT,
        )
    return Process(name, popen, log)


def wait_until(ready: Callable[[], bool], process: Process, seconds: float = START_SECONDS) -> None:
    """Poll until `ready()`; StartFailed when the process ends first or time is over."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if process.popen.poll() is not None:
            raise StartFailed(f"{process.name} ended with {process.popen.returncode}:\n{process.tail()}")
        if ready():
            return
        time.sleep(0.05)
    raise StartFailed(f"{process.name} was not ready after {seconds:.0f} s:\n{process.tail()}")


def listens(port: int) -> bool:
    """Whether something accepts connections on 127.0.0.1:port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of these processes, in seconds."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int, peak: bool = False) -> int:
    """Memory a process holds now, or the most it ever held."""
    label = "VmHWM:" if peak else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(label):
            return int(line.split()[1]) * 1024
    return 0


@dataclass
class Servers:
    """The private database and Redis that every contender of a run shares, and what else is running."""

    folder: Path
    database_port: int
    redis_port: int
    database: Process
    redis_server: Process
    _connection: Any = field(default=None, repr=False)

    def database_url(self, name: str) -> str:
        """URL of one database on the private server."""
        return f"mysql://bench:bench@127.0.0.1:{self.database_port}/{name}"

    def redis_url(self, number: int = 0) -> str:
        """URL of one numbered database on the private Redis."""
        return f"redis://127.0.0.1:{self.redis_port}/{number}"

    def redis_client(self, number: int = 0) -> Any:
        """A client of the harness's own."""
        return redis.Redis(port=self.redis_port, db=number)

    def sql(self, statement: str, *arguments: Any, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run one statement on the harness's own connection and return its rows."""
        if self._connection is None:
            self._connection = MySQLdb.connect(
                host="127.0.0.1",
                port=self.database_port,
                user="bench",
                passwd="bench",
                autocommit=True,
                charset="utf8mb4",
            )
        if database:
            self._connection.select_db(database)
        with self._connection.cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return list(cursor.fetchall())

    def copy_database(self, source: str, copy: str) -> None:
        """Make a database anew, with the tables and the rows of another."""
        self.sql(f"DROP DATABASE IF EXISTS {copy}")
        self.sql(f"CREATE DATABASE {copy}")
        self.sql("SET FOREIGN_KEY_CHECKS = 0", database=copy)
        for (table,) in self.sql(f"SHOW TABLES IN {source}"):
            self.sql(self.sql(f"SHOW CREATE TABLE {source}.{table}")[0][1])
            self.sql(f"INSERT INTO {table} SELECT * FROM {source}.{table}")
        self.sql("SET FOREIGN_KEY_CHECKS = 1")

    def status(self, *names: str) -> dict[str, int]:
        """Global counters of the database server (`SHOW GLOBAL STATUS`)."""
        wanted = {name.lower() for name in names}
        return {k.lower(): int(v) for k, v in self.sql("SHOW GLOBAL STATUS") if k.lower() in wanted}


REDIS_OPTIONS = {"save": "", "appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
DATABASE_OPTIONS = {
    "innodb_flush_log_at_trx_commit": "1",
    "log_bin": "binlog",
    "binlog_format": "ROW",
    "innodb_buffer_pool_size": "2G",
    "innodb_log_file_size": "512M",
    "max_connections": "300",
    "character_set_server": "utf8mb4",
    "collation_server": "utf8mb4_general_ci",
    "max_allowed_packet": "64M",
}


def _start_database(folder: Path, stack: ExitStack) -> tuple[Process, int]:
    data = folder / "mariadb"
    # Short: a UNIX socket's path has at most 107 characters.
    local = folder / "m.sock"
    as_root = ["--user=root"] if os.geteuid() == 0 else []
    installed = subprocess.run(
        ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal",
         "--skip-test-db", *as_root],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if installed.returncode:
        raise StartFailed(f"mariadb-install-db: {installed.stdout}{installed.stderr}")
    port = free_port()
    options = [f"--{name.replace('_', '-')}={value}" for name, value in DATABASE_OPTIONS.items()]
    process = start(
        "mariadb",
        ["mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={local}", f"--port={port}",
         "--bind-address=127.0.0.1", f"--pid-file={folder}/mariadb.pid", "--server-id=1", *as_root, *options],
        folder,
    )  # fmt: skip
    stack.callback(process.stop)
    wait_until(lambda: local.exists() and listens(port), process)
    admin = MySQLdb.connect(unix_socket=str(local), user="root", autocommit=True)
    with admin.cursor() as cursor:
        cursor.execute("CREATE USER bench@'127.0.0.1' IDENTIFIED BY 'bench'")
        cursor.execute("GRANT ALL ON *.* TO bench@'127.0.0.1'")
    admin.close()  # type: ignore[no-untyped-call]
    return process, port


def _start_redis(folder: Path, stack: ExitStack) -> tuple[Process, int]:
    port = free_port()
    home = folder / "redis"
    home.mkdir()
    options = [part for name, value in REDIS_OPTIONS.items() for part in (f"--{name}", value)]
    process = start(
        "redis", ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", home, *options], folder
    )
    stack.callback(process.stop)
    wait_until(lambda: listens(port), process)
    return process, port


def _raise_interrupt(number: int, _frame: Any) -> None:
    raise KeyboardInterrupt(f"signal {number}")


@contextmanager
def private_servers() -> Iterator[Servers]:
    """MariaDB and Redis in a temporary folder, with the settings that production needs; gone at the end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a shell may have let SIGINT be ignored
        signal.signal(number, _raise_interrupt)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))
        database, database_port = _start_database(folder, stack)
        redis_server, redis_port = _start_redis(folder, stack)
        yield Servers(folder, database_port, redis_port, database, redis_server)


def call(
    command: Sequence[str | Path], environment: Mapping[str, str], **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; StartFailed with what it said when it fails."""
    done = subprocess.run(
        [str(part) for part in command], env=dict(environment), capture_output=True, text=True, cwd=ROOT, check=False,
        preexec_fn=_die_with_parent, **options,
    )  # fmt: skip
    if done.returncode:
        raise StartFailed(
            f"{' '.join(map(str, command))} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}"
        )
    return done


PYTHON = Path(sys.executable)
K6 = PYTHON.parent / "k6"
