"""How often is too often, in one process and in a storage that all share."""

import http.client
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.test import Client
from limits import parse

from servers import RedisServer, WebServer, free_port
from tests.support.doors import BROWSER, like_path, round_trips, token_of, view_path
from videos.api import throttling
from videos.api.throttling import Hit, Windows, limiter_on
from videos.models import Video

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def rates(settings: Any) -> None:
    """Small rates."""
    settings.VIDEOS_THROTTLE_RATES = dict.fromkeys(("token", "like", "view", "write", "search", "stats"), "2/minute")


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


def test_a_window_ends(video: Video, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.VIDEOS_THROTTLE_STORAGE = "process://"
    assert [view(video, "192.0.2.1").status_code for _ in range(3)] == [200, 200, 429]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert view(video, "192.0.2.1").status_code == 200


def hits(rate: str, who: str = "@1", scope: str = "like") -> list[Hit]:
    return [Hit(parse(rate), scope, who)]


@pytest.mark.parametrize("shared", [False, True])
def test_many_threads_get_exactly_the_rate(shared: bool) -> None:
    windows, one = Windows(shared=shared), hits("500/hour")

    def hit(_: int) -> int:
        return sum(windows.wait_seconds(one) is None for _ in range(100))

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(hit, range(20))) == 500


def test_ended_windows_are_swept_out_and_what_strangers_open_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttling, "SWEEP_WINDOWS", 100)
    monkeypatch.setattr(throttling, "MOST_WINDOWS", 400)
    windows, now = Windows(shared=False), time.time()
    windows._sweep_at = 100
    for key in range(100):
        windows.wait_seconds(hits("1/second", str(key)))
    monkeypatch.setattr(time, "time", lambda: now + 2)
    windows.wait_seconds(hits("1/second", "new"))
    assert len(windows) == 1
    for key in range(5000):
        windows.wait_seconds(hits("1/hour", str(key)))
    assert len(windows) <= 400
    assert windows.wait_seconds(hits("1/hour", "4999")) is not None


@pytest.mark.parametrize("processes", [2, 8])
def test_all_processes_together_let_the_rate_through(processes: int) -> None:
    workers, one = [Windows(shared=True) for _ in range(processes)], hits("640/minute")
    passed = sum(worker.wait_seconds(one) is None for _ in range(1000) for worker in workers)
    assert 640 <= passed <= 640 + processes * 640 // 32


def test_a_small_rate_is_exact_over_all_processes() -> None:
    workers, one = [Windows(shared=True) for _ in range(4)], hits("10/minute")
    assert sum(worker.wait_seconds(one) is None for _ in range(10) for worker in workers) == 10


def test_a_caller_far_below_the_rate_costs_no_round_trip(
    video: Video, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VIDEOS_THROTTLE_RATES = {"like": "640/minute"}
    like(video, video.owner)
    with round_trips(monkeypatch) as trips:
        for _ in range(32):
            like(video, video.owner)
    assert len(trips) == 32 + 1  # each 20th hit is reported


@pytest.mark.usefixtures("redis_away")
def test_a_process_counts_alone_while_redis_is_away(video: Video) -> None:
    assert [like(video, video.owner).status_code for _ in range(3)] == [200, 200, 429]


def test_redis_knows_no_address_in_clear(video: Video, redis_client: redis.Redis) -> None:
    view(video, "192.0.2.77")
    [key] = redis_client.scan_iter("videos:hits:*")
    assert "192.0.2" not in key
    assert 0 < redis_client.ttl(key) <= 60


def test_real_workers_share_a_rate(web_server: Callable[..., WebServer]) -> None:
    server = web_server(workers=2)

    def refresh() -> int:
        peer = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        peer.request("POST", "/api/token/refresh/", '{"refresh": "x"}', {"Content-Type": "application/json"})
        status = peer.getresponse().status
        peer.close()
        return status

    statuses = [refresh() for _ in range(70)]
    assert 60 <= statuses.count(401) <= 62  # of 60 a minute; each of two workers reports each second hit
    assert statuses.count(429) == 70 - statuses.count(401)


def test_a_storage_of_limits_counts_for_all_processes(video: Video, private_redis: RedisServer, settings: Any) -> None:
    settings.VIDEOS_THROTTLE_STORAGE = private_redis.url
    statuses = []
    for _ in range(3):
        limiter_on.cache_clear()  # as another process would begin
        statuses.append(like(video, video.owner).status_code)
    assert statuses == [200, 200, 429]


def test_each_process_counts_alone_while_a_storage_of_limits_is_away(video: Video, settings: Any) -> None:
    settings.VIDEOS_THROTTLE_STORAGE = f"redis://127.0.0.1:{free_port()}/0"
    begin = time.monotonic()
    assert [like(video, video.owner).status_code for _ in range(10)] == [200] * 2 + [429] * 8
    assert time.monotonic() - begin < 2
