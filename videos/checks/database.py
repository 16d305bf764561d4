"""Checks of the database: its engine, the server's configuration, the accounts of the embedded start."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import check_password
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004  Django's names
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.utils import Error as DatabaseError

from videos.conf import conf

ENGINES: Final = {"django.db.backends.mysql", "django.db.backends.sqlite3"}
MYSQL_FLOOR: Final = (8, 0, 11)
MARIADB_FLOOR: Final = (10, 6)


@register("videos", Tags.database)
def check_engine(**_: Any) -> Iterator[CheckMessage]:
    """E009: the ledger has no SQL for this database engine."""
    engine = connections.settings[DEFAULT_DB_ALIAS]["ENGINE"]
    if engine not in ENGINES:
        hint = "Use MySQL 8, MariaDB 10.6 or SQLite, with django.db.backends.mysql or .sqlite3."
        yield Error(f"The database engine is {engine!r}.", hint=hint, id="videos.E009")


@register("videos", deploy=True)
def check_demo_accounts(**_: Any) -> Iterator[CheckMessage]:
    """E025: the superuser that script/server makes still has its well-known password."""
    if settings.EMBEDDED:
        return
    try:
        user = get_user_model().objects.filter(username="admin", is_superuser=True, is_active=True).first()
    except DatabaseError:  # it is away, which W020 reports, or not migrated yet
        return
    if user is not None and check_password("admin", user.password):
        hint = "script/server made it, and demo1 … demo100 beside it: give it a password, and delete those."
        yield Error("The password of the superuser admin is admin.", hint=hint, id="videos.E025")


def ask_servers(aliases: Iterable[str]) -> Iterator[CheckMessage]:
    """Read the configuration of the databases; report unsafe values."""
    for alias in aliases:
        if connections.settings[alias]["ENGINE"] not in ENGINES:
            continue
        try:
            yield from ask_server(alias)
        except DatabaseError as error:
            hint = "Start it, or see to DATABASE_URL; then run this check again."
            yield Warning(f"The database {alias!r} could not be asked: {error}", hint=hint, id="videos.W020")


def ask_server(alias: str) -> Iterator[CheckMessage]:
    """Read the configuration of one database; report unsafe values. Raises DatabaseError."""
    connection: Any = connections[alias]
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA synchronous")
            yield from judge_sqlite(synchronous=cursor.fetchone()[0])
            return
        cursor.execute("SHOW GLOBAL VARIABLES WHERE Variable_name IN %s", [tuple(MYSQL_VARIABLES)])
        variables = {str(name).lower(): str(value) for name, value in cursor.fetchall()}
    yield from judge_mysql(connection.mysql_version, mariadb=connection.mysql_is_mariadb, variables=variables)


MYSQL_VARIABLES: Final = ("log_bin", "binlog_format", "innodb_flush_log_at_trx_commit")


def judge_mysql(version: tuple[int, ...], *, mariadb: bool, variables: Mapping[str, str]) -> Iterator[CheckMessage]:
    """Report an unsafe version, or unsafe global variables, of MySQL or MariaDB."""
    floor = MARIADB_FLOOR if mariadb else MYSQL_FLOOR
    if version < floor:
        name = "MariaDB" if mariadb else "MySQL"
        hint = f"Use {name} {'.'.join(map(str, floor))} or newer: the ledger's statements need JSON_TABLE."
        yield Error(f"{name} {'.'.join(map(str, version))} is too old.", hint=hint, id="videos.E021")
    logged = variables.get("log_bin", "OFF").upper() in {"ON", "1"}
    statements = variables.get("binlog_format", "").upper() == "STATEMENT"
    if logged and statements and conf.FLUSH_ISOLATION_LEVEL in {"read uncommitted", "read committed"}:
        message = f"binlog_format is STATEMENT, which refuses writes at {conf.FLUSH_ISOLATION_LEVEL!r} (error 1665)."
        hint = 'Set binlog_format to ROW or MIXED, or VIDEOS_FLUSH_ISOLATION_LEVEL to "repeatable read".'
        yield Error(message, hint=hint, id="videos.E022")
    if variables.get("innodb_flush_log_at_trx_commit", "1") != "1":
        message = "The database may forget its last second of commits: innodb_flush_log_at_trx_commit is not 1."
        hint = "Set it to 1: Redis drops changes that the database has committed."
        yield Warning(message, hint=hint, id="videos.W023")


def judge_sqlite(*, synchronous: int) -> Iterator[CheckMessage]:
    """Report an unsafe `PRAGMA synchronous` of SQLite."""
    if synchronous < 2:
        message = "SQLite may forget its last commits when the power fails: synchronous is below FULL."
        hint = 'Add "PRAGMA synchronous=FULL" to the init_command of the database.'
        yield Warning(message, hint=hint, id="videos.W024")
