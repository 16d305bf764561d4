"""Checks of the database: its engine, the server's configuration, the accounts of the embedded start."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import check_password
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004  Django's names
from django.core.exceptions import FieldError, ImproperlyConfigured
from django.db import connections, router
from django.db.models import IntegerField
from django.db.utils import Error as DatabaseError
from django.db.utils import load_backend

from videos.conf import conf
from videos.models import Video

TLS_FAILED: Final = 2026  # the driver's error
VENDORS: Final = {"mysql", "sqlite"}
MYSQL_FLOOR: Final = (8, 0, 11)
MARIADB_FLOOR: Final = (10, 6)


@register("videos", Tags.database)
def check_engine(**_: Any) -> Iterator[CheckMessage]:
    """E009: the ledger has no SQL for this database engine; E016: the database has no autocommit."""
    alias = router.db_for_write(Video)
    if _vendor(alias) not in VENDORS:
        message = f"The database engine is {connections.settings[alias]['ENGINE']!r}."
        hint = "Use MySQL 8, MariaDB 10.6 or SQLite, with django.db.backends.mysql or .sqlite3."
        yield Error(message, hint=hint, id="videos.E009")
    elif not connections.settings[alias]["AUTOCOMMIT"]:
        hint = "Remove it: without autocommit nothing is committed, and Redis would drop what it holds."
        yield Error(f"AUTOCOMMIT of DATABASES[{alias!r}] is False.", hint=hint, id="videos.E016")


def _vendor(alias: str) -> str | None:
    try:
        vendor: str = load_backend(connections.settings[alias]["ENGINE"]).DatabaseWrapper.vendor
    except ImproperlyConfigured:
        return None
    return vendor


@register("videos", Tags.models)
def check_user_model(**_: Any) -> Iterator[CheckMessage]:
    """E014: the key of the user model is no whole number."""
    model = get_user_model()
    key: Any = model._meta.pk
    while key.remote_field:  # of a model that inherits from another one, or has the key of another row
        key = key.target_field
    if not isinstance(key, IntegerField):
        message = f"The primary key of the user model {model._meta.label} is a {type(key).__name__}."
        hint = (
            "Give it a BigAutoField as its key, and keep the other one in a unique column: likes are kept by whole "
            "numbers."
        )
        yield Error(message, hint=hint, id="videos.E014")


@register("videos", deploy=True)
def check_demo_accounts(**_: Any) -> Iterator[CheckMessage]:
    """E025: the superuser that script/server makes still has its well-known password."""
    model = get_user_model()
    if getattr(settings, "EMBEDDED", False):
        return
    try:
        found = model._default_manager.filter(is_superuser=True, is_active=True, **{model.USERNAME_FIELD: "admin"})
        user = found.first()
    except (DatabaseError, FieldError):  # it is away, which W020 reports, or not migrated yet; or has no such columns
        return
    if user is not None and check_password("admin", user.password):
        hint = "script/server made it, and demo1 … demo100 beside it: give it a password, and delete those."
        yield Error("The password of the superuser admin is admin.", hint=hint, id="videos.E025")


@register("videos", Tags.database, deploy=True)
def check_tls(**_: Any) -> Iterator[CheckMessage]:
    """W033: TLS is asked for in a way that does not protect the password."""
    hint = 'Use "VERIFY_IDENTITY", with the certificate authority in "ssl": {"ca": …} (docs/security.md).'
    for alias in connections.settings:
        options = connections.settings[alias].get("OPTIONS", {})
        if _vendor(alias) == "mysql" and (
            options.get("ssl_mode") == "REQUIRED" or (options.get("ssl") and "ssl_mode" not in options)
        ):
            message = f"ssl_mode of DATABASES[{alias!r}] checks no certificate: a stranger may be sent the password."
            yield Warning(message, hint=hint, id="videos.W033")


def ask_servers(aliases: Iterable[str]) -> Iterator[CheckMessage]:
    """Read the configuration of the databases; report unsafe values."""
    for alias in aliases:
        if _vendor(alias) not in VENDORS:
            continue
        try:
            yield from ask_server(alias)
        except DatabaseError as error:
            if error.args[:1] == (TLS_FAILED,):
                hint = "See to ssl_mode and ssl-ca of DATABASE_URL, and to the server's certificate (docs/security.md)."
                yield Error(f"TLS to the database {alias!r} fails: {error}", hint=hint, id="videos.E032")
                continue
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
        yield from _ask_tables(cursor)
    yield from judge_mysql(connection.mysql_version, mariadb=connection.mysql_is_mariadb, variables=variables)


def _ask_tables(cursor: Any) -> Iterator[CheckMessage]:
    cursor.execute("SELECT @@character_set_client, @@global.default_storage_engine, @@character_set_database")
    connected, engine, charset = cursor.fetchone()
    models = (*apps.get_app_config("videos").get_models(), get_user_model())
    names = [sorted({model._meta.db_table for model in models})]
    cursor.execute(
        "SELECT table_name, engine FROM information_schema.tables "
        "WHERE table_schema = DATABASE() AND table_name IN %s AND table_type = 'BASE TABLE'",
        names,
    )
    engines = dict(cursor.fetchall())
    cursor.execute(
        "SELECT CONCAT(table_name, '.', column_name), character_set_name FROM information_schema.columns "
        "WHERE table_schema = DATABASE() AND table_name IN %s AND character_set_name IS NOT NULL",
        names,
    )
    charsets = dict(cursor.fetchall()) or {"new tables": charset}
    yield from judge_tables(engine, engines, {"the connection": connected} | charsets)


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


def judge_tables(engine: str, engines: Mapping[str, str], charsets: Mapping[str, str]) -> Iterator[CheckMessage]:
    """Report unsafe storage engines, of new tables and by table, and unsafe character sets, by column."""
    if engine.lower() != "innodb":
        message = f"The server makes tables of the storage engine {engine}, unless it is told otherwise."
        hint = "Set default_storage_engine=InnoDB on the server, or in the init_command of DATABASES."
        yield Warning(message, hint=hint, id="videos.W026")
    unsafe = sorted(f"{name} ({engine})" for name, engine in engines.items() if engine.lower() != "innodb")
    if unsafe:
        message = f"Tables that are not of the storage engine InnoDB: {', '.join(unsafe)}."
        hint = "Use ALTER TABLE … ENGINE=InnoDB: others know no transactions, so counts would be lost or doubled."
        yield Error(message, hint=hint, id="videos.E026")
    narrow = sorted(f"{name} ({charset})" for name, charset in charsets.items() if charset.lower() != "utf8mb4")
    if narrow:
        message = f"Text that is not of the character set utf8mb4: {', '.join(narrow)}."
        hint = (
            "Use ALTER DATABASE … CHARACTER SET utf8mb4, ALTER TABLE … CONVERT TO CHARACTER SET utf8mb4, and "
            '"charset": "utf8mb4" in the OPTIONS of DATABASES. A text with other characters is refused.'
        )
        yield Error(message, hint=hint, id="videos.E027")


def judge_sqlite(*, synchronous: int) -> Iterator[CheckMessage]:
    """Report an unsafe `PRAGMA synchronous` of SQLite."""
    if synchronous < 2:
        message = "SQLite may forget its last commits when the power fails: synchronous is below FULL."
        hint = 'Add "PRAGMA synchronous=FULL" to the init_command of the database.'
        yield Warning(message, hint=hint, id="videos.W024")
