"""Outages of Redis and of the database, on real servers: docs/outages.md says what is answered, cell by cell."""

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from servers import MariaDBServer, RedisServer, Server, wait_until
from tests.support.outages import LONGEST_SECONDS, RECOVERY_SECONDS, Row, Service, table
from tests.support.proxy import Proxy
from videos.counters import connection
from videos.flush import run_flush
from videos.models import Video, VideoLike

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

LOGGER = logging.getLogger(__name__)  # shows the figures with --log-level=INFO
LOCK_SECONDS = 0.1  # a search or a page of the admin waits a second for a lock, and then it is answered
REDIS = table("When Redis is away")
DATABASE = table("When the database is away")


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """Inside, the server's process does not run."""
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


@contextmanager
def proxied(proxy: Proxy, **how: Any) -> Iterator[None]:
    """Inside, the proxy does this to what passes; afterwards new connections pass."""
    for name, value in how.items():
        setattr(proxy, name, value)
    yield
    proxy.heal()
    proxy.cut()


@contextmanager
def refused(proxy: Proxy) -> Iterator[None]:
    """Inside, the proxy refuses connections."""
    proxy.refuse()
    yield
    proxy.heal()


@contextmanager
def configured(server: RedisServer, **options: str) -> Iterator[None]:
    """Inside, Redis has other options."""
    client = server.client()
    before = {name: str(client.config_get(name)[name]) for name in options}
    for name, value in options.items():
        client.config_set(name, value)
    yield
    for name, value in before.items():
        client.config_set(name, value)


@contextmanager
def replica(server: RedisServer) -> Iterator[None]:
    """Inside, Redis is a replica of a server that is not there."""
    server.client().replicaof("127.0.0.1", "1")
    yield
    server.client().replicaof("NO", "ONE")


@contextmanager
def loading(server: RedisServer) -> Iterator[None]:
    """Inside, Redis reads its files; it is done when this ends."""
    client = server.client()
    client.mset({str(number): "x" * 100 for number in range(5000)})
    client.save()
    server.kill()
    options = server.options
    slow = ("--appendonly", "no", "--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024")
    server.options = (*options, *slow)
    server.launch()
    wait_until(lambda: is_loading(server), what="Redis loads")
    yield
    assert is_loading(server)
    server.kill()
    server.options = options
    server.start()


def is_loading(server: RedisServer) -> bool:
    """Whether it answers that it is loading. A client of redis-py would wait for its end."""
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as peer:
            peer.sendall(b"GET x\r\n")
            return peer.recv(100).startswith(b"-LOADING")
    except OSError:
        return False


@contextmanager
def killed(server: Server) -> Iterator[None]:
    """Inside, the server is gone."""
    server.kill()
    yield
    server.start()


def redis_outage(name: str, server: RedisServer, proxy: Proxy) -> contextlib.AbstractContextManager[None]:
    return {
        "refuses connections": lambda: refused(proxy),
        "is stopped": lambda: stopped(server),
        "swallows everything": lambda: proxied(proxy, swallow=True),
        "answers after 2 s": lambda: proxied(proxy, delay_seconds=2.0),
        "loses replies": lambda: proxied(proxy, cut_replies=True),
        "is full": lambda: configured(server, maxmemory="1"),
        "is read-only": lambda: replica(server),
        "is loading": lambda: loading(server),
        "is killed": lambda: killed(server),
        "has no append-only file": lambda: configured(server, appendonly="no"),
    }[name]()


@pytest.mark.parametrize("outage", REDIS)
def test_redis_is_away(
    own_redis: RedisServer, redis_proxy: Proxy, outage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FLUSH_TIMEOUT_SECONDS", 0.5)
    service = Service()
    with redis_outage(outage, own_redis, redis_proxy):
        said = service.answers(REDIS[outage])
    seconds = service.recover()
    LOGGER.info("Redis %s: longest %s, recovered after %.2f s", outage, service.longest, seconds)
    assert said == REDIS[outage]
    assert service.longest[1] < LONGEST_SECONDS, service.longest
    assert seconds < RECOVERY_SECONDS
    assert not run_flush().failed
    assert not run_flush().failed
    for video in Video.objects.all():
        assert video.like_count == VideoLike.objects.filter(video=video).count()


@contextmanager
def read_only(server: MariaDBServer) -> Iterator[None]:
    """Inside, the database takes no writes of users without privileges."""
    server.query("SET GLOBAL read_only = 1")
    yield
    server.query("SET GLOBAL read_only = 0")


@contextmanager
def locked(server: MariaDBServer, statement: str) -> Iterator[None]:
    """Inside, somebody else holds the locks of a statement."""
    with contextlib.closing(server.connect("streaming")) as outsider, outsider.cursor() as cursor:
        outsider.autocommit(False)
        cursor.execute(statement)
        yield


def database_outage(name: str, server: MariaDBServer, proxy: Proxy) -> contextlib.AbstractContextManager[None]:
    return {
        "refuses connections": lambda: refused(proxy),
        "is stopped": lambda: stopped(server),
        "swallows everything": lambda: proxied(proxy, swallow=True),
        "drops connections": lambda: proxied(proxy, cut_replies=True),
        "is killed": lambda: killed(server),
        "is read-only": lambda: read_only(server),
        "has locked tables": lambda: locked(server, "LOCK TABLES videos_video WRITE, auth_user WRITE"),
        "has locked rows": lambda: locked(server, "SELECT id FROM videos_video FOR UPDATE"),
    }[name]()


@pytest.mark.only("mariadb", "mysql")
def test_the_database_is_away(own_database: MariaDBServer, database_proxy: Proxy, settings: Any) -> None:
    settings.VIDEOS_FLUSH_LOCK_WAIT_SECONDS = 1
    service = Service()
    said: dict[str, Row] = {}
    for outage, expected in DATABASE.items():
        service.longest = ("", 0.0)
        with database_outage(outage, own_database, database_proxy):
            said[outage] = service.answers(expected)
        seconds = service.recover()
        LOGGER.info("Database %s: longest %s, recovered after %.2f s", outage, service.longest, seconds)
        assert service.longest[1] < LONGEST_SECONDS + LOCK_SECONDS * ("locked" in outage), (outage, service.longest)
        assert seconds < RECOVERY_SECONDS, outage
        assert not run_flush().failed
    assert said == DATABASE
