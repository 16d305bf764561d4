"""Outages of real servers, made on purpose: each a context in which a server is away."""

import contextlib
import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import redis

from servers import MariaDBServer, RedisServer, Server, wait_until
from tests.support.proxy import Proxy


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """Inside, the server's process does not run."""
    pid = int((server.folder / "mysqld.pid").read_text()) if server.process is None else server.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


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
def unwritable(server: RedisServer) -> Iterator[None]:
    """Inside, the files of Redis may not grow, as on a full disk."""
    assert server.process is not None
    client, pid = server.client(), server.process.pid
    client.config_set("appendfsync", "everysec")  # with `always` Redis ends itself
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, before[1]))
    with contextlib.suppress(redis.ResponseError):
        client.set("x", 1)
    wait_until(lambda: client.info("persistence")["aof_last_write_status"] == "err", what="Redis cannot write its file")
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    wait_until(lambda: client.info("persistence")["aof_last_write_status"] == "ok", what="Redis writes its file")


@contextmanager
def killed(server: Server) -> Iterator[None]:
    """Inside, the server is gone."""
    server.kill()
    yield
    server.start()


def redis_outage(name: str, server: RedisServer, proxy: Proxy) -> AbstractContextManager[None]:
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
        "cannot write its file": lambda: unwritable(server),
        "has no append-only file": lambda: configured(server, appendonly="no"),
    }[name]()


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


@contextmanager
def lacking(server: MariaDBServer, table: str) -> Iterator[None]:
    """Inside, a table is gone, as while a dump is loaded."""
    server.query(f"RENAME TABLE {table} TO gone", database="streaming")
    yield
    server.query(f"RENAME TABLE gone TO {table}", database="streaming")


def database_outage(name: str, server: MariaDBServer, proxy: Proxy) -> AbstractContextManager[None]:
    return {
        "refuses connections": lambda: refused(proxy),
        "is stopped": lambda: stopped(server),
        "swallows everything": lambda: proxied(proxy, swallow=True),
        "drops connections": lambda: proxied(proxy, cut_replies=True),
        "is killed": lambda: killed(server),
        "is read-only": lambda: read_only(server),
        "has locked tables": lambda: locked(server, "LOCK TABLES videos_video WRITE, auth_user WRITE"),
        "lacks a table": lambda: lacking(server, "videos_video"),
        "has locked rows": lambda: locked(server, "SELECT id FROM videos_video FOR UPDATE"),
    }[name]()
