"""Outages of Redis and of the database, on real servers: docs/outages.md says what is answered, cell by cell."""

import contextlib
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection as database_connection
from django.db import connections, transaction

from servers import MariaDBServer, RedisServer, wait_until
from tests.support.breakdowns import database_outage, proxied, redis_outage, stopped
from tests.support.doors import Got, ask, bearer
from tests.support.factories import make_user, make_video, make_videos
from tests.support.faults import end_pauses, redis_refusing
from tests.support.outages import LONGEST_SECONDS, RECOVERY_SECONDS, Row, Service, table, word
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


@pytest.mark.only("sqlite", "mariadb")  # with Valkey, with Redis
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
    for outage, row in DATABASE.items():
        assert (outage, said[outage]) == (outage, row)


@pytest.mark.only("mariadb", "mysql")
@pytest.mark.parametrize("outage", ["is stopped", "swallows everything"])
def test_a_new_redis_does_not_let_requests_wait_for_a_database_that_hangs(
    own_redis: RedisServer, own_database: MariaDBServer, database_proxy: Proxy, outage: str
) -> None:
    service = Service()
    own_redis.kill()
    own_redis.start()
    with database_outage(outage, own_database, database_proxy):
        end_pauses()
        begin = time.monotonic()
        answers = in_threads(4, lambda _: service.like(service.warm))
        seconds = time.monotonic() - begin
        end_pauses()
        again = service.timed("alone", lambda: service.like(service.warm))
    assert {got.status for got in [*answers, again]} == {503}
    assert max(seconds, service.longest[1]) < LONGEST_SECONDS
    assert service.recover() < RECOVERY_SECONDS


@pytest.mark.only("mariadb", "mysql")
def test_a_new_redis_is_met_over_a_connection_that_works(own_redis: RedisServer, own_database: MariaDBServer) -> None:
    service = Service()
    assert word(service.like(service.cold.pop())) == "ok"  # over a connection that the restart breaks
    for server in (own_database, own_redis):
        server.kill()
        server.start()
    end_pauses()
    assert word(service.like(service.warm)) == "ok"


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


@pytest.mark.only("mariadb", "mysql")
@pytest.mark.parametrize("outage", ["is stopped", "drops connections", "is read-only"])
def test_the_other_addresses_are_answered_in_time_too(
    own_database: MariaDBServer, database_proxy: Proxy, outage: str, settings: Any
) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # others take as long as an outage
    service = Service()
    token, cookie = service.owner, {"HTTP_COOKIE": service.cookie}
    form = {"CONTENT_TYPE": "application/x-www-form-urlencoded"}
    video = {"title": "a", "url": "https://example.com/v", "description": "", "duration": 1}
    csrf = {"HTTP_COOKIE": f"{service.cookie}; csrftoken={'a' * 32}", "HTTP_X_CSRFTOKEN": "a" * 32}
    requests: list[Callable[[], Got]] = [
        lambda: ask("POST", "/api/token/", b'{"username":"admin","password":"x"}'),
        lambda: ask("POST", "/api/videos/", json.dumps(video).encode(), **token),
        lambda: ask("DELETE", f"/api/videos/{service.cold.pop()}/", **token),
        lambda: ask("GET", "/api/me/likes/", **cookie),
        lambda: ask("GET", "/admin/", **cookie),
        lambda: ask("GET", f"/admin/videos/video/{service.warm}/change/", **cookie),
        lambda: ask("POST", "/admin/login/", b"username=admin&password=x&next=/admin/", **csrf | form),
        lambda: ask("POST", f"/admin/videos/video/{service.warm}/delete/", b"post=yes", **csrf | form),
        lambda: ask("GET", "/"),
    ]
    with database_outage(outage, own_database, database_proxy):
        statuses = [service.timed("other", request).status for request in requests]
    assert set(statuses) <= {200, 302, 401, 503}
    assert statuses.count(503) >= (3 if outage == "is read-only" else 7)
    assert service.longest[1] < LONGEST_SECONDS, service.longest
    assert service.recover() < RECOVERY_SECONDS
