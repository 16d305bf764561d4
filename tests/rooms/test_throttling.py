"""How often is too often, in one process and in a storage that all share."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from limits import parse

from servers import RedisServer, free_port
from tests.support.doors import BROWSER, like_path, token_of, view_path
from videos.api import throttling
from videos.api.throttling import Limits, ProcessStorage, limits_on
from videos.models import Video

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def rates(settings: Any) -> None:
    """Small rates."""
    settings.VIDEOS_THROTTLE_RATES = dict.fromkeys(("token", "like", "view", "write", "search"), "2/minute")


def like(video: Video, user: User, method: str = "PUT") -> Any:
    return Client().generic(method, like_path(video.pk), headers={"authorization": token_of(user)})


def view(video: Video, address: str) -> Any:
    return Client(REMOTE_ADDR=address, headers={"user-agent": BROWSER}).generic("POST", view_path(video.pk))


def test_too_many_likes_are_told_when_to_come_back(video: Video) -> None:
    answers = [like(video, video.owner) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
    assert "detail" in answers[-1].json()


def test_users_are_counted_apart(video: Video, user: User) -> None:
    statuses = [like(video, liker).status_code for liker in (video.owner, user) * 3]
    assert statuses == [200, 200, 200, 200, 429, 429]


def test_reading_is_free(video: Video) -> None:
    assert {like(video, video.owner, "GET").status_code for _ in range(5)} == {200}
    assert {Client().get("/api/videos/").status_code for _ in range(5)} == {200}


def test_searches_are_counted(video: Video) -> None:
    answers = [Client().get("/api/videos/?search=one") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert Client().get("/api/videos/?search=+").status_code == 200  # a list


def test_scopes_are_counted_apart(video: Video) -> None:
    statuses = [like(video, video.owner).status_code for _ in range(3)]
    assert [*statuses, view(video, "192.0.2.1").status_code] == [200, 200, 429, 200]


def test_anonymous_callers_are_counted_by_address(video: Video) -> None:
    addresses = ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"]
    assert [view(video, address).status_code for address in addresses] == [200, 200, 429, 200]


def test_an_ipv6_network_is_one_address(video: Video) -> None:
    assert [view(video, f"2001:db8::{last}").status_code for last in "123"] == [200, 200, 429]


def test_signing_in_is_counted_by_address() -> None:
    body = {"username": "owner", "password": "wrong"}
    statuses = [Client().post("/api/token/", body, content_type="application/json").status_code for _ in range(3)]
    assert statuses == [401, 401, 429]


def test_making_videos_is_counted(video: Video) -> None:
    headers = {"authorization": token_of(video.owner)}
    body = {"title": "t", "url": "https://example.com"}
    send = [Client().post("/api/videos/", body, content_type="application/json", headers=headers) for _ in range(3)]
    assert [response.status_code for response in send] == [201, 201, 429]


@pytest.mark.parametrize("none", [{}, {"like": None}])
def test_no_rate_is_no_limit(video: Video, settings: Any, none: dict[str, None]) -> None:
    settings.VIDEOS_THROTTLE_RATES = none
    assert {like(video, video.owner).status_code for _ in range(20)} == {200}


def test_a_window_ends(video: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [view(video, "192.0.2.1").status_code for _ in range(3)] == [200, 200, 429]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert view(video, "192.0.2.1").status_code == 200


def test_many_threads_get_exactly_the_rate() -> None:
    limits, rate = Limits(ProcessStorage()), parse("500/hour")

    def hit(_: int) -> int:
        return sum(limits.wait_seconds(rate, "like", "@1") is None for _ in range(100))

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(hit, range(20))) == 500


def test_ended_windows_are_swept_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttling, "SWEEP_KEYS", 100)
    storage = ProcessStorage()
    for key in range(1000):
        storage.incr(str(key), expiry=-1)
    assert len(storage._windows) <= 101
    for key in range(1000):
        storage.incr(str(key), expiry=60)
    assert storage.reset() >= 1000


def test_a_process_storage_forgets_one_key() -> None:
    storage = ProcessStorage()
    storage.incr("a", 60)
    storage.clear("a")
    assert (storage.get("a"), storage.check()) == (0, True)


def test_a_shared_storage_counts_for_all_processes(video: Video, private_redis: RedisServer, settings: Any) -> None:
    settings.VIDEOS_THROTTLE_STORAGE = private_redis.url
    statuses = []
    for _ in range(3):
        limits_on.cache_clear()  # as another process would begin
        statuses.append(like(video, video.owner).status_code)
    assert statuses == [200, 200, 429]


def test_a_shared_storage_that_is_away_lets_everybody_in_at_once(video: Video, settings: Any) -> None:
    settings.VIDEOS_THROTTLE_STORAGE = f"redis://127.0.0.1:{free_port()}/0"
    begin = time.monotonic()
    assert {like(video, video.owner).status_code for _ in range(10)} == {200}
    assert time.monotonic() - begin < 2
