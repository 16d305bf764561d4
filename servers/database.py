"""Private MariaDB and MySQL servers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from servers.process import HOST, STOP_SECONDS, MissingServerError, alive, call, wait_until
from servers.server import Server

# Small, and without a sync to disk at each commit: after SIGKILL the system still has the written files.
SMALL = {
    "innodb_flush_log_at_trx_commit": "2", "sync_binlog": "0", "log_bin": "binlog", "binlog_format": "ROW",
    "innodb_buffer_pool_size": "128M", "innodb_log_file_size": "32M", "max_connections": "300",
    "character_set_server": "utf8mb4",
}  # fmt: skip


class MariaDBServer(Server):
    """MariaDB with a row-based binary log and a database `streaming`. Its user root has no password."""

    name = "MariaDB"
    root = "root"

    def __init__(self, folder: Path, options: Mapping[str, str] = SMALL) -> None:
        super().__init__(folder)
        self.options = options

    def binary(self) -> Path:
        """Return the program's path. MissingServerError when it is not installed."""
        found = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if found is None or shutil.which("mariadb-install-db") is None:
            raise MissingServerError("mariadbd is not installed (Debian: apt install mariadb-server)")
        return Path(found)

    @property
    def url(self) -> str:
        """URL of the database `streaming`."""
        return self.url_of("streaming")

    def url_of(self, database: str) -> str:
        """Return the URL of one database."""
        return f"mysql://{self.root}@{HOST}:{self.port}/{database}"

    @property
    def data(self) -> Path:
        """The folder of its tables."""
        return self.folder / "data"

    @property
    def command(self) -> list[str | Path]:
        """The program, on files of this folder alone."""
        options = {
            "datadir": self.data, "socket": self.folder / "socket", "pid_file": self.folder / "pid",
            "tmpdir": self.folder,  # a server that starts empties its tmpdir, so two must not share one
            "port": self.port, "bind_address": HOST, "server_id": 1, **self.options,
        }  # fmt: skip
        return [self.binary(), "--no-defaults", *(f"--{key}={value}" for key, value in options.items()), *_as_root()]

    def start(self) -> None:
        """Start it. The first start makes its data folder and the database `streaming`."""
        fresh = not self.data.exists()
        if fresh:
            self.initialise()
        self.run()
        if fresh:
            self.query("CREATE DATABASE streaming")

    def run(self) -> None:
        """Start it on its data folder and return when it answers."""
        super().start()

    def initialise(self) -> None:
        """Make the data folder."""
        self.binary()
        options = ("--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal", *_as_root())
        call(["mariadb-install-db", f"--datadir={self.data}", *options], os.environ | {"TMPDIR": str(self.folder)})

    def connect(self, database: str = "") -> Any:
        """Return a DB-API connection of the caller's own; autocommit."""
        import MySQLdb

        return MySQLdb.connect(
            host=HOST, port=self.port, user=self.root, database=database, autocommit=True, connect_timeout=3
        )

    def query(self, statement: str, *parameters: object, database: str = "") -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own and return the rows."""
        with contextlib.closing(self.connect(database)) as connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return list(cursor.fetchall())

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

    def binary(self) -> Path:
        """Return the tool's path. MissingServerError when there is none."""
        tool = os.environ.get("MYSQL_SERVER_TOOL", "")
        if not tool or not Path(tool).is_file():
            raise MissingServerError("MYSQL_SERVER_TOOL does not name a program that starts MySQL")
        return Path(tool).resolve()

    def initialise(self) -> None:
        """The tool makes the data folder. The first server of a test run fetches the programs; later ones link them."""
        fetched = os.environ.get("STREAMING_TEST_MYSQL_PROGRAMS")  # in the environment, for other processes of the run
        if fetched:
            (self.folder / "root").symlink_to(fetched)

    def run(self) -> None:
        """Start it and return when it answers."""
        self.log.unlink(missing_ok=True)  # the tool waits for a line in it, which an earlier start may have left
        with (self.folder / "tool.log").open("ab") as log:
            subprocess.run(
                [self.binary(), "start", self.folder, str(self.port)],
                check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        os.environ.setdefault("STREAMING_TEST_MYSQL_PROGRAMS", str(self.folder / "root"))
        wait_until(self.ready, what="mysqld starts")

    def stop(self) -> None:
        """Stop it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it (SIGKILL), as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        pid_file = self.folder / "mysqld.pid"
        try:
            pid = int(pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        wait_until(lambda: not alive(pid), what="mysqld ends", seconds=STOP_SECONDS)
        pid_file.unlink(missing_ok=True)


def _as_root() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []
