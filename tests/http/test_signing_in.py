"""Guesses at passwords: limited by address and by account at both doors, logged, and no hindrance to anybody else."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import User
from django.db import connection

from servers import WebServer
from tests.support.doors import ask
from videos.api import signing_in
from videos.api.throttling import limiter_on

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

PASSWORD = "a secret of length"
CSRF = "a" * 32


@pytest.fixture(autouse=True)
def account(settings: Any) -> User:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the others take their time
    return User.objects.create_superuser("boss", password=PASSWORD)


def at_the_api(name: str, password: str, address: str = "192.0.2.1") -> Any:
    return ask(
        "POST", "/api/token/", json.dumps({"username": name, "password": password}).encode(), REMOTE_ADDR=address
    )


def at_the_admin(name: str, password: str, address: str = "192.0.2.1") -> Any:
    body = f"username={name}&password={password}".encode()
    return ask(
        "POST", "/admin/login/", body, REMOTE_ADDR=address, HTTP_COOKIE=f"csrftoken={CSRF}", HTTP_X_CSRFTOKEN=CSRF,
        CONTENT_TYPE="application/x-www-form-urlencoded",
    )  # fmt: skip


Door = Callable[..., Any]
DOORS = pytest.mark.parametrize(("door", "refused", "let_in"), [(at_the_api, 401, 200), (at_the_admin, 200, 302)])


@DOORS
def test_an_account_is_guessed_at_so_often_from_anywhere(door: Door, refused: int, let_in: int, settings: Any) -> None:
    settings.VIDEOS_THROTTLE_RATES = {"account": "5/minute", "token": "1000/minute"}
    names = ["boss", "BOSS", "b\u00f6ss", "boss", " boss"] if door is at_the_api else ["boss"] * 5
    guesses = [door(name, "wrong", f"192.0.2.{place}").status for place, name in enumerate(names)]
    assert guesses == [refused] * 5
    late = door("boss", PASSWORD, "192.0.2.9")
    assert late.status == 429
    assert 1 <= int(late.headers["Retry-After"]) <= 60
    assert door("somebody", "wrong", "192.0.2.9").status == refused


@DOORS
def test_an_address_guesses_so_often_at_all_accounts(door: Door, refused: int, let_in: int, settings: Any) -> None:
    settings.VIDEOS_THROTTLE_RATES = {"account": "1000/minute", "token": "3/minute"}
    assert [door(f"user{i}", "wrong").status for i in range(4)] == [refused] * 3 + [429]
    assert door("boss", PASSWORD, "192.0.2.2").status == let_in


def test_guesses_that_are_refused_leave_nothing_behind(settings: Any, redis_client: redis.Redis) -> None:
    settings.VIDEOS_THROTTLE_RATES = {"token": "3/minute", "account": "5/minute"}
    assert [at_the_api(f"user{i}", "wrong").status for i in range(3)] == [401] * 3
    limiter: Any = limiter_on(settings.VIDEOS_THROTTLE_STORAGE)
    windows, keys = len(limiter), redis_client.dbsize()
    assert {at_the_api(f"name{i}", "wrong").status for i in range(100)} == {429}
    assert (len(limiter), redis_client.dbsize()) == (windows, keys)


def test_both_doors_count_together(settings: Any) -> None:
    settings.VIDEOS_THROTTLE_RATES = {"account": "2/minute"}
    assert [at_the_api("boss", "x").status, at_the_admin("boss", "x").status] == [401, 200]
    assert [at_the_api("boss", PASSWORD).status, at_the_admin("boss", PASSWORD).status] == [429, 429]


@DOORS
def test_failed_and_refused_sign_ins_are_logged_without_the_password(
    door: Door, refused: int, let_in: int, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.VIDEOS_THROTTLE_RATES = {"account": "1/minute"}
    door("boss", "guess-one")
    door("boss", "guess-two")
    lines = [record.getMessage() for record in caplog.records if record.name == "django.security.videos"]
    assert lines == [
        "Sign-in to 'boss' from 192.0.2.1 failed",
        "Sign-in to 'boss' from 192.0.2.1 was refused: too many",
    ]
    assert "guess" not in caplog.text


class Held(threading.Event):
    """A hash that takes until the test lets it go on."""

    running = 0


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    event = Held()
    monkeypatch.setattr(signing_in, "WAIT_SECONDS", 0.2)

    def verify(self: Any, password: str, encoded: str) -> bool:
        event.running += 1
        event.wait(20)
        return False

    monkeypatch.setattr("django.contrib.auth.hashers.MD5PasswordHasher.verify", verify)
    yield event
    event.set()


@DOORS
def test_so_many_passwords_are_checked_at_once(door: Door, refused: int, let_in: int, held: Held) -> None:
    def guess(_: int) -> int:
        try:
            got = door("boss", "wrong")
            assert got.status != 503 or got.headers["Retry-After"] == "2"
            return int(got.status)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        guesses = [pool.submit(guess, i) for i in range(8)]
        time.sleep(1)
        assert (held.running, sum(one.done() for one in guesses)) == (2, 6)
        assert ask("GET", "/api/videos/").status == 200
        held.set()
    assert sorted(one.result() for one in guesses) == [refused] * 2 + [503] * 6


def test_reads_are_quick_while_a_password_is_guessed_in_parallel(web_server: Callable[..., WebServer]) -> None:
    User.objects.update(password=PBKDF2PasswordHasher().encode(PASSWORD, "salt"))
    server = web_server(threads=8)  # as script/server starts it
    body = json.dumps({"username": "boss", "password": "wrong"})
    over = threading.Event()

    def send(method: str, path: str, body: str | None = None) -> int:
        peer = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        peer.request(method, path, body, {"Content-Type": "application/json"})
        status = peer.getresponse().status
        peer.close()
        return status

    def guess(place: int) -> list[int]:
        found = []
        while not over.is_set():
            found.append(send("POST", "/api/token/", body.replace("boss", f"boss{place}")))
            time.sleep(0.02)
        return found

    with ThreadPoolExecutor(8) as pool:
        guesses = pool.map(guess, range(8))
        time.sleep(0.5)
        slowest = 0.0
        for _ in range(20):
            begin = time.monotonic()
            assert send("GET", "/api/videos/") == 200
            slowest = max(slowest, time.monotonic() - begin)
            time.sleep(0.05)
        over.set()
        found = [status for one in guesses for status in one]
    assert slowest < 1
    assert set(found) <= {401, 429, 503}
