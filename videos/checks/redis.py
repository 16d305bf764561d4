"""Checks of the counters' Redis: its entry in CACHES, and the server's configuration."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004  Django's names
from django.db import Error as DatabaseError
from django.utils.module_loading import import_string

from videos import counters, meeting
from videos.conf import conf

BACKEND: Final = "django_redis.cache.RedisCache"
LONGEST_TIMEOUT_SECONDS: Final = 5


@register("videos", Tags.caches)
def check_alias(**_: Any) -> Iterator[CheckMessage]:
    """E005: CACHES lacks the alias of the counters; E006: its backend is not django-redis."""
    alias = conf.COUNTERS_ALIAS
    if alias not in settings.CACHES:
        hint = f"Add it, or name one of {', '.join(settings.CACHES)} in VIDEOS_COUNTERS_ALIAS."
        yield Error(f"There is no {alias!r} in CACHES.", hint=hint, id="videos.E005")
    elif not _is_django_redis(backend := str(settings.CACHES[alias].get("BACKEND"))):
        hint = f'Set its "BACKEND" to "{BACKEND}": scripts go through its connections.'
        yield Error(f"CACHES[{alias!r}] is {backend!r}.", hint=hint, id="videos.E006")


def _is_django_redis(backend: str) -> bool:
    try:
        return issubclass(import_string(backend), import_string(BACKEND))
    except ImportError:
        return False


@register("videos", Tags.caches)
def check_location(**_: Any) -> Iterator[CheckMessage]:
    """E010: the LOCATION of the counters is no Redis address."""
    alias = conf.COUNTERS_ALIAS
    if any(check_alias()):
        return
    # The message names an address by its place, because it may hold a password.
    faulty = [str(place) for place, url in enumerate(_urls(alias), 1) if _database(url) is None]
    if faulty:
        message = f"LOCATION is no Redis address in CACHES[{alias!r}]: number {', '.join(faulty)} of its addresses."
        hint = "Write it as redis://:password@host:6379/0, rediss://… or unix:///path?db=0; REDIS_URL sets it."
        yield Error(message, hint=hint, id="videos.E010")


@register("videos", Tags.caches)
def check_options(**_: Any) -> Iterator[CheckMessage]:
    """E015: the client refuses its OPTIONS; W004: options that the counters do not use."""
    alias = conf.COUNTERS_ALIAS
    if any(check_alias()) or any(check_location()):
        return
    fault = counters.option_fault()
    if fault is not None:
        hint = "Remove this option, or mend it: the client passes it to the connection."
        yield Error(f"The client of CACHES[{alias!r}] cannot be made: {fault}", hint=hint, id="videos.E015")
    unused = [name for name in ("KEY_PREFIX", "VERSION", "KEY_FUNCTION") if settings.CACHES[alias].get(name)]
    if unused:
        hint = "Remove it. To keep two services apart, give each a Redis database of its own."
        message = f"The counters do not use {', '.join(unused)} of CACHES[{alias!r}]."
        yield Warning(message, hint=hint, id="videos.W004")


@register("videos", Tags.caches)
def check_database_apart(**_: Any) -> Iterator[CheckMessage]:
    """E007: a cache shares the Redis database of the counters; its clear() would empty that."""
    alias = conf.COUNTERS_ALIAS
    hint = f"Give it another server, or another database number: cache.clear() empties all of {alias!r}."
    for other in settings.CACHES:
        if other != alias and _databases(alias) & _databases(other):
            yield Error(
                f"CACHES[{other!r}] is in the same Redis database as the counters.", hint=hint, id="videos.E007"
            )


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
    """Host, port and number; None if this is no Redis address."""
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError:
        return None
    if parts.scheme != "unix" and (parts.fragment or "@" in parts.query):
        return None  # a password that is not percent-encoded has ended the host
    query = parse_qs(parts.query)
    number = query.get("db", [parts.path.strip("/") or "0"])[0]
    if parts.scheme == "unix":
        return parts.path, 0, query.get("db", ["0"])[0]
    if parts.scheme not in {"redis", "rediss"} or not number.isdecimal():
        return None
    host = {"127.0.0.1": "localhost", "::1": "localhost"}.get(parts.hostname or "", parts.hostname or "localhost")
    return host, port, number


@register("videos", Tags.caches)
def check_retries(**_: Any) -> Iterator[CheckMessage]:
    """E008: the client repeats commands that timed out, which would count them twice."""
    alias = conf.COUNTERS_ALIAS
    cache = settings.CACHES.get(alias, {})
    options = cache.get("OPTIONS", {})
    given = {**options.get("REDIS_CLIENT_KWARGS", {}), **options.get("CONNECTION_POOL_KWARGS", {})}
    retry = given.get("retry")
    repeats = retry is not None and (not hasattr(retry, "get_retries") or retry.get_retries() != 0)
    in_url = "retry_on" in str(cache.get("LOCATION", ""))
    if repeats or in_url or given.get("retry_on_timeout") or given.get("retry_on_error"):
        hint = (
            'Set "CONNECTION_POOL_KWARGS": {"retry": None, "retry_on_error": []} in its OPTIONS, and no '
            "retry_on_timeout. The service itself repeats what is safe to repeat."
        )
        yield Error(f"The client of CACHES[{alias!r}] repeats commands.", hint=hint, id="videos.E008")


@register("videos", Tags.caches)
def check_timeouts(**_: Any) -> Iterator[CheckMessage]:
    """W002: the client waits too long for Redis, or for ever."""
    alias = conf.COUNTERS_ALIAS
    options = settings.CACHES.get(alias, {}).get("OPTIONS", {})
    pool = options.get("CONNECTION_POOL_KWARGS", {})
    for name in ("SOCKET_CONNECT_TIMEOUT", "SOCKET_TIMEOUT"):
        seconds = options.get(name) or pool.get(name.lower())
        if not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_TIMEOUT_SECONDS:
            hint = "Set it to a quarter of a second: a request that Redis does not answer goes on without it."
            yield Warning(f"{name} of CACHES[{alias!r}] is {seconds!r}.", hint=hint, id="videos.W002")


def ask_server() -> Iterator[CheckMessage]:
    """Read the configuration of the counters' Redis, if its address is valid; report unsafe values."""
    if any(check_alias()) or any(check_location()) or counters.option_fault():
        return
    try:
        if refused := counters.refused():
            message = f"The user of the counters' Redis may not use {', '.join(refused)}."
            hint = "Grant it with ACL SETUSER (docs/operations.md has the rules): otherwise requests or flushes fail."
            yield Error(message, hint=hint, id="videos.E019")
            return
        yield from judge_server(counters.server_facts())
        with contextlib.suppress(DatabaseError):  # it has checks of its own; before `migrate` it lacks the table
            pair = meeting.read_pair()
            if fault := pair.fault():
                hint = (
                    "See to DATABASE_URL, REDIS_URL and VIDEOS_SHARDS; or join the two with manage.py adopt_counters."
                )
                yield Error(fault, hint=hint, id="videos.E017")
            elif moved := pair.moved():
                yield Warning(moved, hint=meeting.MOVED_HINT, id="videos.W018")
    except (counters.CountersUnavailable, KeyError) as error:
        hint = "Start it, or see to its address in CACHES; then run this check again."
        yield Warning(f"The counters' Redis could not be asked: {error}", hint=hint, id="videos.W010")


def judge_server(facts: Mapping[str, Any]) -> Iterator[CheckMessage]:
    """Report unsafe values among the facts that `counters.server_facts()` returns."""
    if facts["maxmemory_policy"] not in {None, "noeviction"}:
        message = f"The counters' Redis evicts when it is full: its maxmemory-policy is {facts['maxmemory_policy']!r}."
        hint = "Set maxmemory-policy to noeviction: it would evict acknowledged counts that no database has yet."
        evicts = Error if facts["maxmemory"] else Warning  # without a limit it is never full
        yield evicts(message, hint=hint, id="videos.E011" if facts["maxmemory"] else "videos.W011")
    if not facts["maxmemory"] and conf.ANONYMOUS_MEMORY_SHARE < 1:
        message = "The counters' Redis has no maxmemory: views of anonymous callers may fill all memory of its machine."
        hint = (
            "Set maxmemory: up to VIDEOS_ANONYMOUS_MEMORY_SHARE of it is theirs. Set that to 1 to live without a limit."
        )
        yield Warning(message, hint=hint, id="videos.W032")
    if facts["role"] != "master":
        hint = "Point the counters at the primary: a replica takes no writes."
        yield Error(f"The counters' Redis is a {facts['role']}.", hint=hint, id="videos.E012")
    if not facts["aof_enabled"]:
        message = "The counters' Redis writes no append-only file: when it stops, counts that are not flushed are lost."
        hint = "Set appendonly yes and appendfsync always; a service that is durable by other means may ignore this."
        yield Warning(message, hint=hint, id="videos.W012")
    elif facts["appendfsync"] not in {None, "always"}:
        hint = "Set appendfsync always: a claim that Redis forgets after the database took it is counted twice."
        yield Warning(f"appendfsync of the counters' Redis is {facts['appendfsync']!r}.", hint=hint, id="videos.W013")
