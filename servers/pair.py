"""The private MariaDB and Redis of one benchmark run, and the programs that run beside them."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from servers.database import MariaDBServer
from servers.process import PYTHON, Process
from servers.redis import RedisServer

K6 = PYTHON.parent / "k6"
# As production needs it: each commit is on disk before it is acknowledged.
DATABASE_OPTIONS = {
    "innodb_flush_log_at_trx_commit": "1", "log_bin": "binlog", "binlog_format": "ROW", "innodb_buffer_pool_size": "2G",
    "innodb_log_file_size": "512M", "max_connections": "300", "character_set_server": "utf8mb4",
    "collation_server": "utf8mb4_general_ci", "max_allowed_packet": "64M",
}  # fmt: skip


def start(
    name: str, command: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None
) -> Process:
    """Start a program beside the servers; the caller stops it.

    It shares the benchmark's session, as the two servers do. Between sessions Linux divides the CPU equally and
    ignores the priority of their threads, so a flush under SCHED_IDLE would compete with the web server.
    """
    log = folder / f"{name}.log"
    return Process(command, name=name, log=log, env=environment, own_session=False, end_signal=signal.SIGTERM)


@dataclass
class Servers:
    """The database server and the Redis that every contender of a run shares."""

    folder: Path
    database: MariaDBServer
    redis_server: RedisServer
    _connection: Any = field(default=None, repr=False)

    @property
    def redis_port(self) -> int:
        """Where the Redis listens."""
        return self.redis_server.port

    def database_url(self, name: str) -> str:
        """Return the URL of one database."""
        return self.database.url_of(name)

    def redis_url(self, number: int = 0) -> str:
        """Return the URL of one numbered database of the Redis."""
        return self.redis_server.url_of(number)

    def redis_client(self, number: int = 0) -> Any:
        """Return a client of the harness's own, which answers in bytes."""
        import redis

        return redis.Redis(port=self.redis_port, db=number)

    def sql(self, statement: str, *arguments: Any, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run one statement on the harness's own connection and return its rows. `database` stays selected."""
        if self._connection is None:
            self._connection = self.database.connect()
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
        """Return global counters of the database server (`SHOW GLOBAL STATUS`)."""
        wanted = {name.lower() for name in names}
        return {k.lower(): int(v) for k, v in self.sql("SHOW GLOBAL STATUS") if k.lower() in wanted}


def _raise_interrupt(number: int, _frame: Any) -> None:
    raise KeyboardInterrupt(f"signal {number}")


@contextmanager
def private_servers() -> Iterator[Servers]:
    """MariaDB and Redis in a temporary folder, with the settings that production needs; gone at the end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a shell's & lets a program ignore SIGINT
        signal.signal(number, _raise_interrupt)
    with TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        database, redis_server = MariaDBServer(folder / "mariadb", DATABASE_OPTIONS), RedisServer(folder / "redis")
        database.own_session = redis_server.own_session = False
        with database, redis_server:
            yield Servers(folder, database, redis_server)
