"""System checks: each id, and that Django runs them.

Over 250 lines: each id has a test, and all look for it in the same run of Django's checks.
"""

import io
import secrets
from collections.abc import Mapping
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.checks import CheckMessage, run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections
from django.db.utils import OperationalError

from servers import RedisServer, run_manage
from tests.conftest import with_counters
from tests.support.faults import failing
from videos import checks
from videos.conf import AppSettings

UNSYNCED = {"videos.W023", "videos.W024"}  # the databases of the tests do not sync each commit
pytestmark = pytest.mark.django_db


def ids(**arguments: Any) -> set[str]:
    """What Django's own run of all checks finds of ours."""
    found = run_checks(**arguments)
    assert all(message.hint for message in found if str(message.id).startswith("videos."))
    return {str(message.id) for message in found if str(message.id).startswith("videos.")} - UNSYNCED


def test_the_settings_as_they_are_are_fine() -> None:
    assert ids() == set()


SPANS: Mapping[str, tuple[Any, ...]] = {
    "SHARDS": (0, -1, 4097, "16", 16.0, True, None),
    "VIEW_WINDOW_SECONDS": (0, "half an hour"),
    "VIEW_MIN_WATCHED_SECONDS": (-1, "30", float("nan"), float("inf")),
    "VIEW_ADDRESS_LIMIT": (-1, None),
    "ADDRESS_VIEWS": (-1, "1000"),
    "TRUSTED_PROXY_HOPS": (-1, 33, False),
    "FLUSH_INTERVAL_SECONDS": (0, 60.0),
    "REPLAY_SECONDS": (-1, 700_000),
}
UNREADABLE_RATES = (None, "600/minute", {"likes": "1/minute"}, {"like": "often"}, {"like": 5}, {"like": ["1/minute"]})


@pytest.mark.parametrize(
    ("check", "name", "value"),
    [
        *(("E001", name, value) for name, values in SPANS.items() for value in values),
        ("E002", "FLUSH_ISOLATION_LEVEL", "READ UNCOMITTED"),
        *(("E003", "THROTTLE_RATES", value) for value in UNREADABLE_RATES),
        *(("E004", "THROTTLE_STORAGE", value) for value in ("nowhere://", "", None, 5)),
        *(("E030", "JWT_SIGNING_KEY", value) for value in ("short", 5)),
        *(("E030", "JWT_SIGNING_KEY_FALLBACKS", value) for value in ("a" * 31, ["a" * 40, ""], 5)),
        *(("E031", "LIKERS", value) for value in ("Everyone", "", None)),
        ("W001", "VIEW_WINDOW", 5),  # nothing reads it
    ],
)
def test_a_setting_that_makes_no_sense(settings: Any, check: str, name: str, value: Any) -> None:
    setattr(settings, f"VIDEOS_{name}", value)
    assert ids() == {f"videos.{check}"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"ssl_mode": "REQUIRED", "ssl": {"ca": "/a"}}, True),
        ({"ssl": {"ca": "/a"}}, True),
        ({"ssl_mode": "VERIFY_IDENTITY", "ssl": {"ca": "/a"}}, False),
        ({}, False),
    ],
)
def test_w033_tls_that_does_not_protect_the_password(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], expected: bool
) -> None:
    other = {"ENGINE": "django.db.backends.mysql", "OPTIONS": options}
    monkeypatch.setitem(connections.settings, "other", other)
    found = [str(message.id) for message in checks.database.check_tls()]
    assert found == (["videos.W033"] if expected else [])


def test_w030_throttles_that_count_in_each_process_alone(settings: Any) -> None:
    settings.VIDEOS_THROTTLE_STORAGE = "process://"
    assert ids() == set()
    assert "videos.W030" in ids(include_deployment_checks=True)


def test_e001_judges_every_number() -> None:
    others = {
        "EXPRESS",
        "VIEW_WATCHED_REQUIRED",
        "DISLIKES",
        "COUNTERS_ALIAS",
        "THROTTLE_RATES",
        "THROTTLE_STORAGE",
        "FLUSH_ISOLATION_LEVEL",
        "PRIVATE_NETWORKS",
        "JWT_SIGNING_KEY",
        "JWT_SIGNING_KEY_FALLBACKS",
        "LIKERS",
    }
    assert {name for name in vars(AppSettings) if name.isupper()} == set(checks.settings.NUMBERS) | others


@pytest.mark.parametrize("networks", ["10.0.0.0/8", ("10.0.0.1/8",), ("inside",), None])
def test_networks_that_cannot_be_read_are_told_of(settings: Any, networks: Any) -> None:
    settings.VIDEOS_PRIVATE_NETWORKS = networks
    assert ids() == {"videos.E028"}


@pytest.mark.parametrize("rates", [{}, {"like": None}, {"like": "5/second", "view": "1 per 2 minutes"}])
def test_rates_that_can_be_read_are_fine(settings: Any, rates: Any) -> None:
    settings.VIDEOS_THROTTLE_RATES = rates
    assert ids() == set()


NO_REDIS_ADDRESS = (
    *("", "redis", "redis-host:6379", "foo://h/0", "redis://:secret@h:abc/0", "redis://h:70000/0", "redis://[h/0"),
    *("redis://:12#secret@h/0", "redis://:12?secret@h/0", "redis://:12/secret@h"),
    *("redis://h/first", "redis://h/0?db=first", "redis://a/0,b/0", ["redis://a/0", "http://b/0"]),
)


@pytest.mark.parametrize("databases", [None, ["default"]])
@pytest.mark.parametrize(
    ("check", "values"),
    [
        *(
            ("E006", {"BACKEND": f"django.core.cache.backends.{name}"})
            for name in ("redis.RedisCache", "locmem.LocMemCache")
        ),
        *(("E010", {"LOCATION": location}) for location in NO_REDIS_ADDRESS),
    ],
    ids=str,
)
def test_counters_that_cannot_be_reached(settings: Any, check: str, values: Any, databases: list[str] | None) -> None:
    with_counters(settings, **values)
    assert f"videos.{check}" in ids(databases=databases)
    assert "secret" not in str(run_checks(databases=databases))


@pytest.mark.parametrize("databases", [None, ["default"]])
def test_e005_no_alias_for_the_counters(settings: Any, databases: list[str] | None) -> None:
    settings.VIDEOS_COUNTERS_ALIAS = "countres"
    assert "videos.E005" in ids(databases=databases)


@pytest.mark.parametrize(
    ("own", "cache"),
    [
        ("redis://redis:6379/0", "redis://redis:6379/0"),
        ("redis://redis", "redis://:secret@REDIS:6379?db=0"),
        ("redis://localhost/3", "rediss://127.0.0.1:6379/3"),
        ("redis://a,redis://b", ["redis://c", "redis://b:6379/0"]),
        ("unix:///run/redis?db=1", "unix:///run/redis?db=1"),
    ],
)
def test_e007_a_cache_in_the_counters_database(settings: Any, own: Any, cache: Any) -> None:
    backend = "django.core.cache.backends.redis.RedisCache"
    with_counters(settings, LOCATION=own)
    settings.CACHES = settings.CACHES | {"sessions": {"BACKEND": backend, "LOCATION": cache}}
    assert ids() == {"videos.E007"}


@pytest.mark.parametrize("cache", ["redis://redis:6379/1", "redis://redis:6380/0", "redis://other/0", "unix:///redis"])
def test_a_cache_in_another_database_is_fine(settings: Any, cache: str) -> None:
    with_counters(settings, LOCATION="redis://redis:6379/0")
    own = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": cache}
    settings.CACHES = settings.CACHES | {"sessions": own}
    assert ids() == set()


class Retrying:
    def __init__(self, retries: int) -> None:
        self.retries = retries

    def get_retries(self) -> int:
        return self.retries


TIMEOUTS = {"SOCKET_TIMEOUT": 0.25, "SOCKET_CONNECT_TIMEOUT": 0.25}


@pytest.mark.parametrize(
    "values",
    [
        {"OPTIONS": TIMEOUTS | {"CONNECTION_POOL_KWARGS": {"retry": Retrying(3)}}},
        {"OPTIONS": TIMEOUTS | {"CONNECTION_POOL_KWARGS": {"retry_on_timeout": True}}},
        {"OPTIONS": TIMEOUTS | {"CONNECTION_POOL_KWARGS": {"retry_on_error": [TimeoutError]}}},
        {"OPTIONS": TIMEOUTS | {"REDIS_CLIENT_KWARGS": {"retry": Retrying(1)}}},
        {"LOCATION": "redis://redis/0?retry_on_timeout=1"},
    ],
)
def test_e008_a_client_that_repeats(settings: Any, values: Mapping[str, Any]) -> None:
    with_counters(settings, **values)
    assert ids() == {"videos.E008"}


def test_e009_a_database_that_the_ledger_does_not_know(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections.settings["default"], "ENGINE", "django.db.backends.postgresql")
    assert ids() == {"videos.E009"}


@pytest.mark.parametrize(
    "options", [{}, {"SOCKET_TIMEOUT": 0.25}, {"SOCKET_TIMEOUT": 60, "SOCKET_CONNECT_TIMEOUT": 0.25}], ids=str
)
def test_w002_a_client_that_waits_for_long(settings: Any, options: Mapping[str, Any]) -> None:
    with_counters(settings, OPTIONS=options)
    assert ids() == {"videos.W002"}


# Live servers

SAFE_REDIS = {
    "maxmemory": 10**9, "maxmemory_policy": "noeviction", "aof_enabled": True, "appendfsync": "always",
    "role": "master",
}  # fmt: skip


def found(messages: Any) -> list[str]:
    judged: list[CheckMessage] = list(messages)
    assert all(message.hint for message in judged)
    return [str(message.id) for message in judged]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, []),
        ({"maxmemory_policy": None, "appendfsync": None}, []),
        ({"maxmemory_policy": "allkeys-lru"}, ["videos.E011"]),
        ({"maxmemory": 0}, ["videos.W032"]),
        ({"maxmemory_policy": "volatile-ttl", "maxmemory": 0}, ["videos.W011", "videos.W032"]),
        ({"role": "slave"}, ["videos.E012"]),
        ({"aof_enabled": False}, ["videos.W012"]),
        ({"appendfsync": "everysec"}, ["videos.W013"]),
    ],
)
def test_a_redis_that_loses_counts_is_told(facts: Mapping[str, Any], expected: list[str]) -> None:
    assert found(checks.redis.judge_server({**SAFE_REDIS, **facts})) == expected


SAFE_MYSQL = {"log_bin": "ON", "binlog_format": "ROW", "innodb_flush_log_at_trx_commit": "1"}


@pytest.mark.parametrize(
    ("version", "mariadb", "variables", "expected"),
    [
        ((8, 4, 1), False, {}, []),
        ((10, 11, 6), True, {}, []),
        ((8, 0, 4), False, {}, ["videos.E021"]),
        ((10, 5, 20), True, {}, ["videos.E021"]),
        ((8, 4, 1), False, {"binlog_format": "STATEMENT"}, ["videos.E022"]),
        ((10, 11, 6), True, {"binlog_format": "STATEMENT", "log_bin": "OFF"}, []),
        ((10, 11, 6), True, {"binlog_format": "MIXED"}, []),
        ((10, 11, 6), True, {"innodb_flush_log_at_trx_commit": "2"}, ["videos.W023"]),
    ],
)
def test_a_database_that_is_unsafe_is_told(
    version: tuple[int, ...], mariadb: bool, variables: Mapping[str, str], expected: list[str]
) -> None:
    judged = checks.database.judge_mysql(version, mariadb=mariadb, variables={**SAFE_MYSQL, **variables})
    assert found(judged) == expected


def test_statements_in_the_binlog_are_fine_above_read_committed(settings: Any) -> None:
    settings.VIDEOS_FLUSH_ISOLATION_LEVEL = "repeatable read"
    variables = {**SAFE_MYSQL, "binlog_format": "STATEMENT"}
    assert found(checks.database.judge_mysql((8, 4, 1), mariadb=False, variables=variables)) == []


def test_w024_an_sqlite_that_forgets() -> None:
    assert [found(checks.database.judge_sqlite(synchronous=level)) for level in (1, 2)] == [["videos.W024"], []]


@pytest.mark.once
def test_servers_are_asked_only_when_asked_for(own_redis: RedisServer) -> None:
    own_redis.client().config_set("maxmemory-policy", "allkeys-lru")
    assert ids() == set()
    assert ids(databases=["default"]) == {"videos.E011"}
    assert ids(include_deployment_checks=True) == {"videos.E011"}


@pytest.mark.once
def test_w032_a_redis_without_a_limit_has_no_budget(own_redis: RedisServer, settings: Any) -> None:
    own_redis.client().config_set("maxmemory", 0)
    assert ids(databases=["default"]) == ids(include_deployment_checks=True) == {"videos.W032"}
    settings.VIDEOS_ANONYMOUS_MEMORY_SHARE = 1
    assert ids(databases=["default"]) == set()


@pytest.mark.once
def test_a_real_redis_is_judged_as_it_is(own_redis: RedisServer) -> None:
    assert ids(databases=["default"]) == set()
    client = own_redis.client()
    client.config_set("maxmemory", 10**9)
    client.config_set("maxmemory-policy", "volatile-lru")
    client.config_set("appendfsync", "no")
    assert ids(databases=["default"]) == {"videos.E011", "videos.W013"}
    client.config_set("appendonly", "no")
    assert ids(databases=["default"]) == {"videos.E011", "videos.W012"}


@pytest.mark.once
def test_w010_a_redis_that_is_away_is_a_warning(redis_away: None) -> None:
    assert ids(databases=["default"]) == {"videos.W010"}
    assert ids() == set()


def test_w020_a_database_that_is_away_is_a_warning(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.database, "ask_server", failing(OperationalError("gone")))
    assert ids(databases=["default"]) == {"videos.W020"}


@pytest.mark.parametrize(
    ("embedded", "password", "expected"),
    [(False, "admin", {"videos.E025"}), (False, "another", set()), (True, "admin", set())],
)
def test_e025_a_superuser_whose_password_everybody_knows(
    settings: Any, own_redis: RedisServer, embedded: bool, password: str, expected: set[str]
) -> None:
    settings.EMBEDDED = embedded
    User.objects.create_superuser("admin", password=password)
    assert ids() == set()
    assert ids(include_deployment_checks=True) == expected


def test_accounts_of_a_database_that_is_away_are_not_judged(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.EMBEDDED = False
    monkeypatch.setattr(User.objects, "filter", failing(OperationalError("gone")))
    assert list(checks.database.check_demo_accounts()) == []


def test_errors_end_the_command(settings: Any) -> None:
    settings.VIDEOS_SHARDS = 0
    with pytest.raises(SystemCheckError, match=r"videos\.E001"):
        call_command("check", stdout=io.StringIO())


@pytest.mark.database
def test_a_real_database_is_judged_as_it_is(database_kind: str) -> None:
    unsynced = {"mariadb": ["videos.W023"], "sqlite": ["videos.W024"]}
    assert found(checks.database.ask_server("default")) == unsynced.get(database_kind, [])


@pytest.mark.once
def test_production_settings_pass_every_check(service_env: dict[str, str], private_redis: RedisServer) -> None:
    production = {
        **service_env,
        "STREAMING_EMBEDDED": "0",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "ALLOWED_HOSTS": "videos.example",
        "REDIS_URL": private_redis.url,
    }
    command = ("check", "--deploy", "--database", "default", "--fail-level", "WARNING")
    checked = run_manage(*command, env=production)
    assert (checked.returncode, checked.stderr) == (0, "")
