"""System checks: wrong settings and unsafe servers, each with an id and a hint.

Settings are judged whenever Django checks; servers are asked by `check --database`, `migrate` and `check --deploy`. One
that does not answer is a warning, so that nothing fails to start because something else is away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import check_password
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004  Django's names
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.utils import Error as DatabaseError
from limits import parse
from limits.errors import ConfigurationError

from videos import counters, throttling
from videos.conf import DAY_SECONDS, Conf, conf

ENGINES: Final = {"django.db.backends.mysql", "django.db.backends.sqlite3"}
ISOLATION_LEVELS: Final = {"read uncommitted", "read committed", "repeatable read", "serializable"}
SCOPES: Final = {"token", "like", "view", "write"}
MYSQL_FLOOR: Final = (8, 0, 11)
MARIADB_FLOOR: Final = (10, 6)
LONGEST_TIMEOUT_SECONDS: Final = 5


class Span(NamedTuple):
    """What a number may be."""

    least: float
    most: float
    whole: bool = True


NUMBERS: Final[Mapping[str, Span]] = {
    "SHARDS": Span(1, 4096),
    "VIEW_WINDOW_SECONDS": Span(1, 366 * DAY_SECONDS),
    "VIEW_MIN_WATCHED_SECONDS": Span(0, DAY_SECONDS, whole=False),
    "VIEW_ADDRESS_LIMIT": Span(0, 1_000_000_000),
    "VIEW_MAX_AGE_SECONDS": Span(1, 366 * DAY_SECONDS),
    "TRUSTED_PROXY_HOPS": Span(0, 32),
    "TOKEN_MINUTES": Span(0.1, 60 * 24 * 366, whole=False),
    "REFRESH_TOKEN_DAYS": Span(0.001, 3660, whole=False),
    "LIKED_SECONDS": Span(60, 366 * DAY_SECONDS),
    "LIVE_SECONDS": Span(3600, 366 * DAY_SECONDS),
    "LIVE_SETTLED_SECONDS": Span(1, 366 * DAY_SECONDS),
    "FLUSH_INTERVAL_SECONDS": Span(1, DAY_SECONDS),
    "FLUSH_CHUNK_FIELDS": Span(1, 100_000),
    "FLUSH_THREADS": Span(1, 64),
    "FLUSH_LOCK_WAIT_SECONDS": Span(1, 3600),
    "FLUSH_DURABLE_SECONDS": Span(0.1, 600, whole=False),
    "BATCHES_DAYS": Span(1, 3660),
    "HOURS_DAYS": Span(1, 3660),
    "REDIS_PAUSE_SECONDS": Span(0, 60, whole=False),
    "RETRY_AFTER_SECONDS": Span(1, 3600),
}
NAMES: Final = {name for name in vars(Conf) if name.isupper()}


@register("videos")
def check_numbers(**_: Any) -> list[CheckMessage]:
    """E001: a number that is none, or out of its span."""
    found: list[CheckMessage] = []
    for name, span in NUMBERS.items():
        value = getattr(conf, name)
        kinds = (int,) if span.whole else (int, float)
        if type(value) not in kinds or not span.least <= value <= span.most:
            kind = "a whole number" if span.whole else "a number"
            found.append(
                Error(
                    f"VIDEOS_{name} is {value!r}.",
                    hint=f"Make it {kind} from {span.least:,} to {span.most:,}.",
                    id="videos.E001",
                )
            )
    return found


@register("videos")
def check_names(**_: Any) -> list[CheckMessage]:
    """W001: a setting that nothing reads."""
    unknown = sorted(name for name in dir(settings) if name.startswith("VIDEOS_") and name[7:] not in NAMES)
    return [
        Warning(
            f"There is no setting {name}.",
            hint=f"Those there are: {', '.join(f'VIDEOS_{known}' for known in sorted(NAMES))}.",
            id="videos.W001",
        )
        for name in unknown
    ]


@register("videos")
def check_isolation_level(**_: Any) -> list[CheckMessage]:
    """E002: an isolation level that there is not."""
    level = conf.FLUSH_ISOLATION_LEVEL
    if level in ISOLATION_LEVELS:
        return []
    hint = f"Make it one of: {', '.join(sorted(ISOLATION_LEVELS))}."
    return [Error(f"VIDEOS_FLUSH_ISOLATION_LEVEL is {level!r}.", hint=hint, id="videos.E002")]


@register("videos")
def check_throttles(**_: Any) -> list[CheckMessage]:
    """E003: rates that cannot be read; E004: a storage for them that there is not."""
    found: list[CheckMessage] = []
    rates: Any = conf.THROTTLE_RATES
    if not isinstance(rates, Mapping) or not set(rates) <= SCOPES:
        hint = f"Make it a dictionary with rates for {', '.join(sorted(SCOPES))}."
        return [Error(f"VIDEOS_THROTTLE_RATES is {rates!r}.", hint=hint, id="videos.E003")]
    for scope, rate in rates.items():
        try:
            if rate is not None:
                parse(rate)
        except (ValueError, TypeError, AttributeError):
            hint = 'Write it as the package limits does, like "600/minute"; None is no limit.'
            found.append(
                Error(f"The rate of {scope!r} in VIDEOS_THROTTLE_RATES is {rate!r}.", hint=hint, id="videos.E003")
            )
    try:
        throttling.limits_on(conf.THROTTLE_STORAGE)
    except (ConfigurationError, ValueError, TypeError, AttributeError) as error:
        hint = 'Make it "process://", or the URL of a storage of the package limits, like "redis://host:6379/1".'
        found.append(Error(f"VIDEOS_THROTTLE_STORAGE cannot be used: {error}", hint=hint, id="videos.E004"))
    return found


@register("videos", Tags.caches)
def check_alias(**_: Any) -> list[CheckMessage]:
    """E005: no alias for the counters; E006: one that is not django-redis'."""
    alias = conf.COUNTERS_ALIAS
    if alias not in settings.CACHES:
        hint = f"Add it, or name one of {', '.join(settings.CACHES)} in VIDEOS_COUNTERS_ALIAS."
        return [Error(f"There is no {alias!r} in CACHES.", hint=hint, id="videos.E005")]
    backend = settings.CACHES[alias].get("BACKEND")
    if backend == "django_redis.cache.RedisCache":
        return []
    hint = 'Set its "BACKEND" to "django_redis.cache.RedisCache": scripts go through its connections.'
    return [Error(f"CACHES[{alias!r}] is {backend!r}.", hint=hint, id="videos.E006")]


@register("videos", Tags.caches)
def check_location(**_: Any) -> list[CheckMessage]:
    """E010: a LOCATION of the counters' that is no Redis address."""
    alias = conf.COUNTERS_ALIAS
    if check_alias():
        return []
    # By its place, since an address may hold a password.
    faulty = [str(place) for place, url in enumerate(_urls(alias), 1) if _database(url) is None]
    if not faulty:
        return []
    return [
        Error(
            f"LOCATION is no Redis address in CACHES[{alias!r}]: number {', '.join(faulty)} of its addresses.",
            hint="Write it as redis://:password@host:6379/0, rediss://… or unix:///path?db=0; REDIS_URL sets it.",
            id="videos.E010",
        )
    ]


@register("videos", Tags.caches)
def check_database_apart(**_: Any) -> list[CheckMessage]:
    """E007: a cache in the counters' database, which that cache's clear() would empty."""
    alias = conf.COUNTERS_ALIAS
    own = _databases(alias)
    return [
        Error(
            f"CACHES[{other!r}] is in the same Redis database as the counters.",
            hint=f"Give it another server, or another database number: cache.clear() empties all of {alias!r}.",
            id="videos.E007",
        )
        for other in settings.CACHES
        if other != alias and own & _databases(other)
    ]


def _databases(alias: str) -> set[tuple[str, int, str]]:
    """Host, port and number of each Redis database of an alias."""
    cache = settings.CACHES.get(alias, {})
    if "redis" not in str(cache.get("BACKEND", "")).lower():
        return set()
    return {database for url in _urls(alias) if (database := _database(url)) is not None}


def _urls(alias: str) -> list[str]:
    location = settings.CACHES[alias].get("LOCATION", "")
    return [str(url).strip() for url in (location if isinstance(location, list | tuple) else str(location).split(","))]


def _database(url: str) -> tuple[str, int, str] | None:
    """Host, port and number; None for what is no Redis address."""
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError:
        return None
    query = parse_qs(parts.query)
    number = query.get("db", [parts.path.strip("/") or "0"])[0]
    if parts.scheme == "unix":
        return parts.path, 0, query.get("db", ["0"])[0]
    if parts.scheme not in {"redis", "rediss"} or not number.isdecimal():
        return None
    host = {"127.0.0.1": "localhost", "::1": "localhost"}.get(parts.hostname or "", parts.hostname or "localhost")
    return host, port, number


@register("videos", Tags.caches)
def check_retries(**_: Any) -> list[CheckMessage]:
    """E008: a client that repeats what timed out, and so counts it twice."""
    alias = conf.COUNTERS_ALIAS
    cache = settings.CACHES.get(alias, {})
    options = cache.get("OPTIONS", {})
    given = {**options.get("REDIS_CLIENT_KWARGS", {}), **options.get("CONNECTION_POOL_KWARGS", {})}
    retry = given.get("retry")
    repeats = retry is not None and (not hasattr(retry, "get_retries") or retry.get_retries() != 0)
    in_url = "retry_on" in str(cache.get("LOCATION", ""))
    if not (repeats or in_url or given.get("retry_on_timeout") or given.get("retry_on_error")):
        return []
    hint = (
        'Set "CONNECTION_POOL_KWARGS": {"retry": None, "retry_on_error": []} in its OPTIONS, and no retry_on_timeout. '
        "The service itself repeats what is safe to repeat."
    )
    return [Error(f"The client of CACHES[{alias!r}] repeats commands.", hint=hint, id="videos.E008")]


@register("videos", Tags.caches)
def check_timeouts(**_: Any) -> list[CheckMessage]:
    """W002: a client that waits for Redis for long, or for ever."""
    alias = conf.COUNTERS_ALIAS
    options = settings.CACHES.get(alias, {}).get("OPTIONS", {})
    pool = options.get("CONNECTION_POOL_KWARGS", {})
    found: list[CheckMessage] = []
    for name in ("SOCKET_CONNECT_TIMEOUT", "SOCKET_TIMEOUT"):
        seconds = options.get(name) or pool.get(name.lower())
        if not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_TIMEOUT_SECONDS:
            hint = "Set it to a quarter of a second: a request that Redis does not answer goes on without it."
            found.append(Warning(f"{name} of CACHES[{alias!r}] is {seconds!r}.", hint=hint, id="videos.W002"))
    return found


@register("videos", Tags.database)
def check_engine(**_: Any) -> list[CheckMessage]:
    """E009: a database that the ledger's SQL does not know."""
    engine = connections.settings[DEFAULT_DB_ALIAS]["ENGINE"]
    if engine in ENGINES:
        return []
    hint = "Use MySQL 8, MariaDB 10.6 or SQLite, with django.db.backends.mysql or .sqlite3."
    return [Error(f"The database engine is {engine!r}.", hint=hint, id="videos.E009")]


@register("videos", Tags.database)
def check_servers(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """The servers themselves, where databases were named."""
    return list(judge_servers(databases)) if databases else []


@register("videos", deploy=True)
def check_servers_for_deployment(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """The servers themselves, before a deployment."""
    return [] if databases else list(judge_servers([DEFAULT_DB_ALIAS]))


@register("videos", deploy=True)
def check_demo_accounts(**_: Any) -> list[CheckMessage]:
    """E025: the superuser of script/server, whose password everybody knows."""
    if settings.EMBEDDED:
        return []
    try:
        user = get_user_model().objects.filter(username="admin", is_superuser=True, is_active=True).first()
    except DatabaseError:  # away, which W020 tells, or not migrated yet
        return []
    if user is None or not check_password("admin", user.password):
        return []
    hint = "script/server made it, and demo1 … demo100 beside it: give it a password, and delete those."
    return [Error("The password of the superuser admin is admin.", hint=hint, id="videos.E025")]


def judge_servers(databases: Iterable[str]) -> Iterator[CheckMessage]:
    """What is unsafe about the counters' Redis and the databases. Asks them, where the settings say how."""
    if not check_alias() and not check_location():
        try:
            yield from judge_redis(counters.server_facts())
        except (counters.CountersUnavailable, KeyError) as error:
            yield Warning(
                f"The counters' Redis could not be asked: {error}",
                hint="Start it, or see to its address in CACHES; then run this check again.",
                id="videos.W010",
            )
    for alias in databases:
        if connections.settings[alias]["ENGINE"] not in ENGINES:
            continue
        try:
            yield from _judge_database(alias)
        except DatabaseError as error:
            yield Warning(
                f"The database {alias!r} could not be asked: {error}",
                hint="Start it, or see to DATABASE_URL; then run this check again.",
                id="videos.W020",
            )


def judge_redis(facts: Mapping[str, Any]) -> Iterator[CheckMessage]:
    """What is unsafe about a Redis with these `counters.server_facts()`."""
    if facts["maxmemory_policy"] not in {None, "noeviction"}:
        message = f"The counters' Redis evicts when it is full: its maxmemory-policy is {facts['maxmemory_policy']!r}."
        hint = "Set maxmemory-policy to noeviction: what it drops was acknowledged and is in no database yet."
        evicts = Error if facts["maxmemory"] else Warning  # without a limit it is never full
        yield evicts(message, hint=hint, id="videos.E011" if facts["maxmemory"] else "videos.W011")
    if facts["role"] != "master":
        hint = "Point the counters at the primary: a replica takes no writes."
        yield Error(f"The counters' Redis is a {facts['role']}.", hint=hint, id="videos.E012")
    if not facts["aof_enabled"]:
        hint = "Set appendonly yes and appendfsync always; a service that is durable by other means may ignore this."
        yield Warning(
            "The counters' Redis writes no append-only file: what it has not flushed is lost with it.",
            hint=hint,
            id="videos.W012",
        )
    elif facts["appendfsync"] not in {None, "always"}:
        hint = "Set appendfsync always: a claim that Redis forgets after the database took it is counted twice."
        yield Warning(f"appendfsync of the counters' Redis is {facts['appendfsync']!r}.", hint=hint, id="videos.W013")


def _judge_database(alias: str) -> Iterator[CheckMessage]:
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
    """What is unsafe about a MySQL or MariaDB of this version with these global variables."""
    floor = MARIADB_FLOOR if mariadb else MYSQL_FLOOR
    if version < floor:
        name = "MariaDB" if mariadb else "MySQL"
        yield Error(
            f"{name} {'.'.join(map(str, version))} is too old.",
            hint=f"Use {name} {'.'.join(map(str, floor))} or newer: the ledger's statements need JSON_TABLE.",
            id="videos.E021",
        )
    logged = variables.get("log_bin", "OFF").upper() in {"ON", "1"}
    statements = variables.get("binlog_format", "").upper() == "STATEMENT"
    if logged and statements and conf.FLUSH_ISOLATION_LEVEL in {"read uncommitted", "read committed"}:
        yield Error(
            f"binlog_format is STATEMENT, which refuses writes at {conf.FLUSH_ISOLATION_LEVEL!r} (error 1665).",
            hint='Set binlog_format to ROW or MIXED, or VIDEOS_FLUSH_ISOLATION_LEVEL to "repeatable read".',
            id="videos.E022",
        )
    if variables.get("innodb_flush_log_at_trx_commit", "1") != "1":
        yield Warning(
            "The database may forget its last second of commits: innodb_flush_log_at_trx_commit is not 1.",
            hint="Set it to 1: Redis drops what the database says to have taken.",
            id="videos.W023",
        )


def judge_sqlite(*, synchronous: int) -> Iterator[CheckMessage]:
    """What is unsafe about an SQLite connection with this `PRAGMA synchronous`."""
    if synchronous < 2:
        yield Warning(
            "SQLite may forget its last commits when the power fails: synchronous is below FULL.",
            hint='Add "PRAGMA synchronous=FULL" to the init_command of the database.',
            id="videos.W024",
        )
