"""The servers every test run needs, started before Django's settings are read, and fixtures that give more of them.

`--on` says where: SQLite and Valkey (the default), or Debian's MariaDB and Redis, or MySQL and Redis. With
STREAMING_TEST=1, DATABASE_URL and REDIS_URL are used as they are: that Redis is emptied before each test.

Over 250 lines: fixtures that tests of several folders use must stand in the conftest.py above them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from servers import (
    MariaDBServer,
    MissingServerError,
    MySQLServer,
    Process,
    RedisServer,
    Server,
    ValkeyServer,
    WebServer,
    free_port,
    start_manage,
    wait_until,
)
from tests.support import packages
from tests.support.factories import make_user, make_video
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from pytest_django import DjangoDbBlocker

    from videos.models import Video

PAIRS: dict[str, tuple[type[MariaDBServer] | None, type[RedisServer]]] = {
    "sqlite": (None, ValkeyServer),
    "mariadb": (MariaDBServer, RedisServer),
    "mysql": (MySQLServer, RedisServer),
}
TIMEOUT_SECONDS, PATIENT_TIMEOUT_SECONDS = 0.25, 5
IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}
# How long an example takes says how busy the machine is. Fixtures may last for all examples: these tests know it.
hypothesis_settings.register_profile(
    "tests", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
hypothesis_settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the caller choose the pair of database and Redis."""
    parser.addoption("--on", choices=sorted(PAIRS), default=os.environ.get("STREAMING_TEST_ON", "sqlite"), help="where")


def pytest_configure(config: pytest.Config) -> None:
    """Start the servers, or take the given ones; only then may Django read its settings."""
    if config.getoption("version", 0) or config.getoption("help", default=False):
        return
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        _provide_servers(config)
    else:  # a worker of pytest-xdist shares the servers, and has a Redis database of its own, as Django's are
        number = int(re.sub(r"\D", "", worker)) + 1
        os.environ["REDIS_URL"] = re.sub(r"/\d*$", f"/{number}", os.environ["REDIS_URL"])
    from django.conf import settings

    # Read now: pytest-django sets Django up when it finds the settings read. In a worker it has read them before.
    settings.CACHES["counters"]["LOCATION"] = os.environ["REDIS_URL"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests of other pairs; on all pairs but the first, also tests that are the same on every pair."""
    pair = config.getoption("--on")
    left_out = [item for item in items if not _belongs_to(item, pair)]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def _belongs_to(item: pytest.Item, pair: str) -> bool:
    only = item.get_closest_marker("only")
    if only is not None:
        return pair in only.args
    once = item.get_closest_marker("once") is not None and item.get_closest_marker("database") is None
    return pair == "sqlite" or not once


def pytest_report_header(config: pytest.Config) -> str:
    """The servers that the tests run against."""
    without_password = re.sub(r"//[^@/]*@", "//", os.environ.get("DATABASE_URL", ""))
    return f"servers: {without_password} {os.environ.get('REDIS_URL', '')}"


def _provide_servers(config: pytest.Config) -> None:
    given = os.environ.get("DATABASE_URL"), os.environ.get("REDIS_URL")
    if any(given):
        if not all(given) or os.environ.get("STREAMING_TEST") != "1":
            pytest.exit(
                "The tests empty the Redis that they use. To let them use DATABASE_URL and REDIS_URL, set both and "
                "STREAMING_TEST=1; to let them start servers of their own, unset both.",
                returncode=pytest.ExitCode.USAGE_ERROR,
            )
    else:
        folder = Path(tempfile.mkdtemp(prefix="streaming-test-"))
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        try:
            _start_pair(config, folder)
        except MissingServerError as missing:
            pytest.exit(f"Cannot test on {config.getoption('--on')}: {missing}", returncode=pytest.ExitCode.USAGE_ERROR)
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "streaming.settings",
        "STREAMING_EMBEDDED": "1",
        "STREAMING_ENV_FILE": os.devnull,  # not the file of a running script/server
        "SECRET_KEY": "only-for-tests-" + "x" * 50,
        # On a busy machine an answer may take longer than requests wait by default; tests of outages set that again.
        "REDIS_TIMEOUT_SECONDS": str(PATIENT_TIMEOUT_SECONDS),
    }


def _start_pair(config: pytest.Config, folder: Path) -> None:
    database, redis_kind = PAIRS[config.getoption("--on")]
    redis_server = redis_kind(folder / "redis")
    # Tests that crash a server start their own, so this one need not sync at each write.
    redis_server.options = ("--appendfsync", "everysec")
    config.add_cleanup(redis_server.close)
    redis_server.start()
    os.environ["REDIS_URL"] = redis_server.url
    if database is None:
        os.environ["DATABASE_URL"] = f"sqlite:///{folder / 'streaming.sqlite3'}"
        return
    database_server = database(folder / "database")
    config.add_cleanup(database_server.close)
    database_server.start()
    os.environ["DATABASE_URL"] = database_server.url


def unavailable(reason: str) -> None:
    """Skip the test on a laptop that lacks something; fail it in CI, which must have it."""
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    tmp_path_factory: pytest.TempPathFactory, django_db_modify_db_settings_parallel_suffix: None
) -> None:
    """Keep SQLite in a file, as the service does: threads and other processes take part in tests.

    Commits are not synced: the system's cache survives SIGKILL.
    """
    from django.conf import settings

    for database in settings.DATABASES.values():
        if database["ENGINE"].endswith("sqlite3"):
            database.setdefault("TEST", {})["NAME"] = str(tmp_path_factory.mktemp("sqlite") / "test.sqlite3")
            database["OPTIONS"]["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """Keep content types and permissions when a test is over: Django's own flush writes them anew each time."""
    from django.core.management.color import no_style
    from django.db import connection
    from django.test import TransactionTestCase

    kept = {"django_content_type", "auth_permission", "django_migrations"}
    tables = sorted(set(connection.introspection.django_table_names()) - kept)
    statements = connection.ops.sql_flush(no_style(), tables)

    def empty_tables(_: TransactionTestCase) -> None:
        connection.errors_occurred = True  # so it is checked: a connection that one test broke must not fail the others
        connection.close_if_unusable_or_obsolete()
        connection.ops.execute_sql_flush(statements)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", empty_tables)
        yield


@pytest.fixture(scope="session")
def redis_client() -> Iterator[redis.Redis]:
    """A client of the tests' own for the Redis that the service uses."""
    client = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True, protocol=2)
    yield client
    client.close()


@pytest.fixture(autouse=True)
def _forget_other_tests(redis_client: redis.Redis) -> None:
    """Empty Redis, and reset this process: the throttles, the pauses after a failure, the prefix of URLs."""
    from django.urls import clear_script_prefix

    from tests.support.faults import end_pauses
    from videos.api.throttling import limiter_on
    from videos.counters import connection

    end_pauses()
    connection._met_run = ""
    clear_script_prefix()
    redis_client.flushdb()
    limiter_on.cache_clear()


@pytest.fixture(scope="session")
def database_kind(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> str:
    """`sqlite`, `mariadb` or `mysql`, as the server says itself."""
    from django.db import connection

    if connection.vendor != "mysql":
        return connection.vendor
    with django_db_blocker.unblock():
        return "mariadb" if getattr(connection, "mysql_is_mariadb", False) else "mysql"


@pytest.fixture
def user() -> User:
    """Somebody who likes and watches."""
    return make_user()


@pytest.fixture
def owner() -> User:
    """Whose `video` is."""
    return make_user("owner")


@pytest.fixture
def video(owner: User) -> Video:
    """A video of 100 seconds."""
    return make_video(owner, duration=100)


@pytest.fixture
def service_env(transactional_db: None) -> dict[str, str]:
    """The environment with which another process works on the databases of this test, with the default time-outs."""
    env = os.environ | {"DATABASE_URL": _test_database_url(), "REDIS_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS)}
    env.pop("DJANGO_ALLOW_ASYNC_UNSAFE", None)  # of the browser's tests
    return env


def _test_database_url() -> str:
    from django.db import connection

    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return re.sub(r"/[^/?]*(\?|$)", rf"/{name}\1", os.environ["DATABASE_URL"], count=1)


@pytest.fixture
def run_server() -> Iterator[Callable[[Server], None]]:
    """Start a server that this test made; it is gone after the test. A missing one skips, or fails in CI."""
    with contextlib.ExitStack() as stack:

        def run(server: Server) -> None:
            stack.callback(server.close)
            try:
                server.start()
            except MissingServerError as missing:
                unavailable(str(missing))

        yield run


@pytest.fixture
def private_redis(redis_client: redis.Redis, run_server: Callable[[Server], None], tmp_path: Path) -> RedisServer:
    """A Redis of this test's own, to be killed; of the kind that the whole run uses. Nothing is pointed at it yet."""
    kind = ValkeyServer if "valkey_version" in redis_client.info("server") else RedisServer
    server = kind(tmp_path / "redis")
    run_server(server)
    return server


@pytest.fixture
def private_database(database_kind: str, run_server: Callable[[Server], None], tmp_path: Path) -> MariaDBServer:
    """A database server of this test's own, to be killed; not migrated, nothing is pointed at it yet."""
    kind = PAIRS[database_kind][0]
    if kind is None:
        pytest.skip("SQLite is no server: a process that dies with it is covered by the tests that kill a flush")
    server = kind(tmp_path / "database")
    run_server(server)
    return server


_pools = itertools.count()


def with_counters(settings: Any, **values: Any) -> None:
    """Change how the counters' Redis is reached, with the default time-outs."""
    own = settings.CACHES["counters"]
    if "OPTIONS" in values and "LOCATION" not in values:  # django-redis keeps one pool for a URL, whatever the options
        url = own["LOCATION"]
        values["LOCATION"] = f"{url}{'&' if '?' in url else '?'}client_name=test{next(_pools)}"
    timeouts = {"SOCKET_TIMEOUT": TIMEOUT_SECONDS, "SOCKET_CONNECT_TIMEOUT": TIMEOUT_SECONDS}
    settings.CACHES = settings.CACHES | {"counters": own | {"OPTIONS": own["OPTIONS"] | timeouts} | values}


@pytest.fixture
def own_redis(private_redis: RedisServer, settings: Any) -> RedisServer:
    """A Redis of this test's own, which the service uses as far as it runs in this process."""
    with_counters(settings, LOCATION=private_redis.url)
    return private_redis


@pytest.fixture
def redis_proxy(own_redis: RedisServer, settings: Any) -> Iterator[Proxy]:
    """A proxy before a Redis of this test's own, through which the service reaches it."""
    with Proxy(own_redis.port) as proxy:
        with_counters(settings, LOCATION=own_redis.url.replace(str(own_redis.port), str(proxy.port)))
        yield proxy


@pytest.fixture
def redis_away(settings: Any) -> None:
    """The counters' Redis refuses connections."""
    with_counters(settings, LOCATION=f"redis://127.0.0.1:{free_port()}/0")


@pytest.fixture
def redis_silent(settings: Any) -> Iterator[None]:
    """The counters' Redis accepts scripts and never answers them, so they may have been executed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def swallow() -> None:
            peer, _ = listener.accept()
            with peer:
                while data := peer.recv(65536):
                    if b"TIME" in data:
                        seconds, rest = divmod(time.time_ns() // 1000, 1_000_000)
                        peer.sendall(b"*2\r\n$10\r\n%d\r\n$6\r\n%06d\r\n" % (seconds, rest))
                    elif b"EVALSHA" not in data:
                        peer.sendall(b"+OK\r\n" * max(1, data.count(b"*")))

        threading.Thread(target=swallow, daemon=True).start()
        with_counters(settings, LOCATION=f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
        yield


@pytest.fixture
def own_database(transactional_db: None, private_database: MariaDBServer) -> Iterator[MariaDBServer]:
    """A database server of this test's own, migrated, which the service uses as far as it runs in this process."""
    from django.core.management import call_command
    from django.db import connection, connections

    from videos.ledger import breaker

    shared = dict(connection.settings_dict)
    connections.close_all()
    connection.settings_dict |= {
        "HOST": "127.0.0.1", "PORT": private_database.port, "USER": private_database.root, "PASSWORD": "",
        "NAME": "streaming",
    }  # fmt: skip
    call_command("migrate", verbosity=0)
    yield private_database
    connections.close_all()
    connection.settings_dict |= shared
    wait_until(lambda: not (breaker._away or breaker._asked.is_set()), what="the probe finds the shared database")


@pytest.fixture
def database_proxy(own_database: MariaDBServer) -> Iterator[Proxy]:
    """A proxy before a database server of this test's own, which the service reaches as a user without privileges."""
    from django.db import connection, connections

    for statement in ("CREATE USER app@'%'", "GRANT ALL ON streaming.* TO app@'%'"):
        own_database.query(statement)
    with Proxy(own_database.port) as proxy:
        connections.close_all()
        connection.settings_dict |= {"PORT": proxy.port, "USER": "app"}
        # Those of a flush are long; a request does not wait for them.
        options = dict(connection.settings_dict["OPTIONS"])
        connection.settings_dict["OPTIONS"] |= {"connect_timeout": 2, "read_timeout": 3, "write_timeout": 3}
        yield proxy
        connections.close_all()
        connection.settings_dict["OPTIONS"] = options


@pytest.fixture
def web_server(
    service_env: dict[str, str], run_server: Callable[[Server], None], tmp_path: Path
) -> Callable[..., WebServer]:
    """`web_server(workers=1, threads=1, **environment)` starts the service under granian on this test's databases."""

    def start(*, workers: int = 1, threads: int = 1, **environment: str) -> WebServer:
        server = WebServer(tmp_path / "web", env=service_env | environment, workers=workers, threads=threads)
        run_server(server)
        return server

    return start


@pytest.fixture
def manage(service_env: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """`manage("flush_counters", "--every", "1", **environment)` starts a real process on the databases of this test."""
    running: list[Process] = []

    def start(*arguments: str, **environment: str) -> Process:
        log = tmp_path / f"manage-{len(running)}.log"
        running.append(start_manage(*arguments, env=service_env | environment, log=log))
        return running[-1]

    yield start
    for process in running:
        process.kill()


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The function's zip for this Python, built once: the runs of one script/test share a folder for it."""
    shared = os.environ.get("STREAMING_TEST_PACKAGE")
    return packages.build_once(Path(shared) if shared else tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="session")
def task(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked zip, Lambda's task folder."""
    return packages.unpack(package, tmp_path_factory.mktemp("task"))
