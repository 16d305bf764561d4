"""Outages of Redis and of the database, on real servers: docs/outages.md says what is answered, cell by cell."""

import contextlib
import logging
import resource
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.db import connection as database_connection
from django.db import connections, transaction

from servers import MariaDBServer, RedisServer, Server, wait_until
from tests.support.doors import ask, bearer
from tests.support.factories import make_user, make_video, make_videos
from tests.support.faults import redis_refusing
from tests.support.outages import LONGEST_SECONDS, RECOVERY_SECONDS, Row, Service, proxied, stopped, table, word
from tests.support.proxy import Proxy
from videos import services
from videos.counters import connection
from videos.flush import run_flush
from videos.ledger import flush_session, retry
from videos.ledger.sql import lock_videos
from videos.models import Video, VideoLike

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

LOGGER = logging.getLogger(__name__)  # shows the figures with --log-level=INFO
LOCK_SECONDS = 0.1  # a search or a page of the admin waits a second for a lock, and then it is answered
REDIS = table("When Redis is away")
DATABASE = table("When the database is away")


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
        "cannot write its file": lambda: unwritable(server),
        "has no append-only file": lambda: configured(server, appendonly="no"),
    }[name]()


@pytest.mark.parametrize("outage", REDIS)
def test_redis_is_away(
    own_redis: RedisServer, redis_proxy: Proxy, outage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service()
    with monkeypatch.context() as patch, redis_outage(outage, own_redis, redis_proxy):
        patch.setattr(connection, "FLUSH_TIMEOUT_SECONDS", 0.5)
        connection._leases.flush = None
        said = service.answers(REDIS[outage])
    connection._leases.flush = None
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


def in_threads(count: int, act: Callable[[int], Any]) -> list[Any]:
    """Call `act` with each number below `count`, at the same time; what each returned."""

    def run(number: int) -> Any:
        try:
            return act(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.mark.usefixtures("redis_away")
def test_a_locked_row_holds_up_its_video_alone(database_kind: str) -> None:
    """Redis is away, so likes go to the rows, and somebody holds the lock of one of them for long."""
    if database_kind == "sqlite":
        pytest.skip("SQLite locks the whole database")
    videos, users = make_videos(8), [make_user(f"u{number}") for number in range(8)]

    def like(number: int) -> list[tuple[int, float]]:
        answers = []
        for _ in range(5):
            begin = time.monotonic()
            got = ask("PUT", f"/api/videos/{videos[number]}/like/", **bearer(users[number]))
            answers.append((got.status, time.monotonic() - begin))
        return answers

    other = database_connection.copy()
    with other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT id FROM videos_video WHERE id = %s FOR UPDATE", [videos[0]])
        locked, *free = in_threads(8, like)
        cursor.execute("ROLLBACK")
    other.close()

    assert [status for status, _ in locked] == [503] * 5
    assert [status for answers in free for status, _ in answers] == [200] * 35
    assert max(seconds for _, seconds in locked) < LONGEST_SECONDS
    assert max(seconds for answers in free for _, seconds in answers) < LONGEST_SECONDS / 2
    assert like(0)[0][0] == 200


@pytest.mark.only("mariadb", "mysql")
@pytest.mark.usefixtures("redis_away")
def test_a_like_whose_commit_is_cut_off_counts_once(database_proxy: Proxy) -> None:
    user, video = make_user(), make_video()
    path = f"/api/videos/{video.id}/like/"
    with proxied(database_proxy, cut_after=b"COMMIT"):
        cut = ask("PUT", path, **bearer(user))
    assert (cut.status, cut.headers["Retry-After"]) == (503, "2")
    wait_until(
        lambda: ask("PUT", path, **bearer(user)).status == 200, what="the like is taken", seconds=RECOVERY_SECONDS
    )
    video.refresh_from_db()
    assert (video.like_count, VideoLike.objects.count()) == (1, 1)


@pytest.mark.only("mariadb", "mysql")
def test_a_flush_whose_commits_are_cut_off_is_exact(database_proxy: Proxy) -> None:
    service = Service()
    with proxied(database_proxy, cut_after=b"COMMIT"):
        assert run_flush().failed
    assert not run_flush().failed
    assert not run_flush().failed
    for video in Video.objects.exclude(like_count=0):
        assert video.like_count == VideoLike.objects.filter(video=video).count() == 1
    assert Video.objects.get(pk=service.warm).view_count == 2


@pytest.mark.only("mariadb", "mysql")
def test_a_flush_that_is_cut_off_inside_its_transaction_loses_its_locks(
    own_database: MariaDBServer, database_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "IDLE_SECONDS", 1)
    video = make_video()
    with flush_session(), transaction.atomic():
        lock_videos([video.id])
        with proxied(database_proxy, swallow=True):
            with contextlib.closing(own_database.connect("streaming")) as other, other.cursor() as cursor:
                cursor.execute("SET SESSION innodb_lock_wait_timeout = 10")
                begin = time.monotonic()
                cursor.execute("SELECT id FROM videos_video WHERE id = %s FOR UPDATE", [video.id])
                waited = time.monotonic() - begin
        transaction.set_rollback(True)
    assert 0.3 < waited < 4


@pytest.mark.only("mariadb", "mysql")
def test_requests_while_both_are_away_are_answered_in_time(
    own_database: MariaDBServer, database_proxy: Proxy, redis_proxy: Proxy
) -> None:
    service = Service()
    with stopped(own_database), proxied(redis_proxy, swallow=True):
        said = {
            name: {word(service.timed(name, call)) for call in calls}
            for name, calls in service.columns().items()
            if name not in {"live", "metrics"}
        }
    assert set(map(frozenset, said.values())) == {frozenset({"503"})}
    assert service.longest[1] < LONGEST_SECONDS, service.longest
    assert service.recover() < RECOVERY_SECONDS


def test_a_process_that_does_not_reach_redis_is_exact_after_the_next_flush(video: Video, user: User) -> None:
    """Until then the processes show their users different counts: one from Redis, the other from the rows."""

    def like(*, liked: bool, away: bool) -> None:
        with redis_refusing(refuses=away):
            services.set_like(video_id=video.id, user_id=user.id, liked=liked)
        time.sleep(0.01)

    def shown(*, away: bool) -> tuple[bool | None, int]:
        with redis_refusing(refuses=away):
            like = services.get_like(video_id=video.id, user_id=user.id)
        return like.liked, like.likes

    like(liked=True, away=False)
    assert (shown(away=False), shown(away=True)) == ((True, 1), (False, 0))
    like(liked=False, away=True)
    assert (shown(away=False), shown(away=True)) == ((True, 1), (False, 0))
    run_flush()
    assert (shown(away=False), shown(away=True)) == ((False, 0), (False, 0))
    like(liked=True, away=True)
    like(liked=False, away=False)
    like(liked=True, away=False)
    run_flush()
    run_flush()
    assert (shown(away=False), shown(away=True)) == ((True, 1), (True, 1))
