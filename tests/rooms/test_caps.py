"""Counts cannot be pumped up beyond what the settings say: by one address, one network, or many accounts of either."""

import http.client
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User

from servers import RedisServer, Server, ValkeyServer, WebServer, free_port, wait_until
from tests.conftest import with_counters
from tests.support.doors import BROWSER, ask, bearer, view_path
from tests.support.factories import make_videos
from tests.support.faults import redis_refusing
from videos.flush import run_flush
from videos.models import Video
from videos.services import ViewEvent, caps

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

VIEWERS = itertools.count()
WAYS = pytest.mark.parametrize("way", [{}, {"HTTP_ACCEPT": "application/json;q=0.9"}], ids=["express", "django"])


@pytest.fixture(autouse=True)
def limits(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.VIDEOS_ADDRESS_VIEWS, settings.VIDEOS_NETWORK_VIEWS, settings.VIDEOS_VIEW_ADDRESS_LIMIT = 10, 20, 5
    monkeypatch.setattr(caps, "_caps", tuple(caps.Cap() for _ in range(3)))


def counted(video_ids: list[int], times: int, address: Callable[[int], str], **headers: Any) -> int:
    """How many views count of so many rounds over the videos, each by a viewer of its own."""
    views = [
        ask(
            "POST", view_path(video_id), b'{"viewer":"v%d"}' % next(VIEWERS), REMOTE_ADDR=address(turn),
            **headers,
        )
        for turn in range(times) for video_id in video_ids
    ]  # fmt: skip
    assert {(view.status, view.body["reason"]) for view in views} <= {(200, "new"), (200, "address")}
    assert {view.express for view in views} == {"HTTP_ACCEPT" not in headers}
    return sum(bool(view.body["counted"]) for view in views)


@WAYS
@pytest.mark.parametrize("away", [False, True], ids=["redis", "redis away"])
def test_an_address_counts_so_often_over_all_videos(way: dict[str, Any], away: bool) -> None:
    videos = make_videos(10)

    def attack() -> tuple[int, int]:
        return counted(videos, 10, lambda turn: "192.0.2.1", **way), counted(videos, 1, lambda turn: "192.0.2.2", **way)

    if away:
        with redis_refusing():
            assert attack() == (10, 10)
    else:
        assert attack() == (10, 10)


@WAYS
@pytest.mark.parametrize("away", [False, True], ids=["redis", "redis away"])
def test_an_address_counts_so_often_for_a_video(way: dict[str, Any], away: bool) -> None:
    videos = make_videos(1)
    if away:
        with redis_refusing():
            assert counted(videos, 10, lambda turn: "192.0.2.1", **way) == 5
    else:
        assert counted(videos, 10, lambda turn: "192.0.2.1", **way) == 5


@WAYS
@pytest.mark.parametrize("away", [False, True], ids=["redis", "redis away"])
def test_a_network_counts_so_often_from_any_of_its_addresses(way: dict[str, Any], away: bool) -> None:
    videos = make_videos(4)

    def attack() -> tuple[int, int]:
        own = counted(videos, 20, lambda turn: f"2001:db8:1:{turn:x}::1", **way)
        return own, counted(videos, 2, lambda turn: f"2001:db8:2:{turn:x}::1", **way)

    if away:
        with redis_refusing():
            assert attack() == (20, 8)
    else:
        assert attack() == (20, 8)


def test_an_ipv6_household_is_one_address() -> None:
    assert counted(make_videos(10), 3, lambda turn: f"2001:db8:1:2::{turn:x}") == 10


@WAYS
@pytest.mark.parametrize("away", [False, True], ids=["redis", "redis away"])
def test_accounts_of_an_address_count_together(way: dict[str, Any], away: bool) -> None:
    (video_id,) = make_videos(1)
    users = [User.objects.create(username=f"account{i}") for i in range(15)]

    def attack() -> int:
        views = [ask("POST", view_path(video_id), b"{}", **bearer(user), **way) for user in users]
        return sum(bool(view.body["counted"]) for view in views)

    if away:
        with redis_refusing():
            assert attack() == 10
    else:
        assert attack() == 10


@pytest.mark.usefixtures("redis_silent")
def test_a_time_out_of_redis_opens_no_second_without_caps(settings: Any) -> None:
    videos = make_videos(1)
    assert ask("POST", view_path(videos[0]), b'{"viewer":"first"}').status == 503  # Redis may have counted it
    assert counted(videos, 50, lambda turn: "192.0.2.1") == 5


def test_a_view_that_was_not_written_is_given_back() -> None:
    event = ViewEvent(1, "v", address="a", network="n")
    for _ in range(50):
        assert caps.take(event)
        caps.give_back(event)
    assert [caps.take(event) for _ in range(6)] == [True] * 5 + [False]


def test_caps_of_a_process_end_with_their_window_and_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100_000):
        caps.take(ViewEvent(1, "v", address=f"a{number}"))
    sizes = {len(cap._counts) for cap in caps._caps}
    assert sizes == {caps.SLOTS}
    event = ViewEvent(1, "v", address="a1")
    while caps.take(event):
        pass
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 1801)
    assert caps.take(event)


@WAYS
@pytest.mark.parametrize("away", [False, True], ids=["redis", "redis away"])
def test_neither_window_nor_caps_begin_anew_at_midnight(
    way: dict[str, Any], away: bool, monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis
) -> None:
    videos, midnight = make_videos(10), 86_400 * (int(time.time()) // 86_400 + 1)

    def views() -> list[str]:
        return [str(ask("POST", view_path(video_id), b"{}", **way).body["reason"]) for video_id in videos[:2]]

    def night() -> tuple[Any, ...]:
        monkeypatch.setattr(time, "time", lambda: midnight - 5)
        first, others = views(), counted(videos[2:], 1, lambda turn: "192.0.2.7", **way)
        monkeypatch.setattr(time, "time", lambda: midnight + 5)
        return first, others, views(), counted(videos[2:], 3, lambda turn: "192.0.2.7", **way)

    if away:
        with redis_refusing():
            assert night() == (["new", "new"], 8, ["address", "address"], 0)
        return
    assert night() == (["new", "new"], 8, ["seen", "seen"], 0)
    for key in redis_client.scan_iter("videos:address:*"):
        redis_client.delete(key)  # as if its window had ended
    assert counted(videos[2:], 1, lambda turn: "192.0.2.7", **way) == 8


def test_a_cap_of_0_is_none(settings: Any) -> None:
    settings.VIDEOS_ADDRESS_VIEWS = settings.VIDEOS_NETWORK_VIEWS = settings.VIDEOS_VIEW_ADDRESS_LIMIT = 0
    videos = make_videos(10)
    assert counted(videos, 5, lambda turn: "2001:db8::1") == 50
    with redis_refusing():
        assert counted(videos, 5, lambda turn: "2001:db8::1") == 50


def test_keys_of_caps_expire(redis_client: redis.Redis) -> None:
    counted(make_videos(2), 1, lambda turn: "2001:db8::1")
    keys = [*redis_client.scan_iter("videos:address:*"), *redis_client.scan_iter("videos:network:*")]
    assert [0 < redis_client.ttl(key) <= 1800 for key in keys] == [True, True]
    assert not any("2001" in key for key in keys)


@WAYS
def test_in_cluster_mode_the_caps_hold_for_each_shard(
    way: dict[str, Any], settings: Any, redis_client: redis.Redis, run_server: Callable[[Server], None], tmp_path: Path
) -> None:
    kind = ValkeyServer if "valkey_version" in redis_client.info("server") else RedisServer
    options = "--cluster-enabled", "yes", "--databases", "1", "--cluster-port", str(free_port())
    server = kind(tmp_path / "redis", *options)
    run_server(server)
    with server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", what="the cluster")
        with_counters(settings, LOCATION=server.url)
        here, there = make_videos(2)
        assert counted([here], 20, lambda turn: f"2001:db8:1:{turn % 5}::1", **way) == 20
        assert counted([here], 20, lambda turn: f"2001:db8:1:{turn % 5}::1", **way) == 0
        assert counted([there], 20, lambda turn: f"2001:db8:1:{turn % 5}::1", **way) == 20
    assert not run_flush().failures
    assert list(Video.objects.values_list("view_count", flat=True)) == [20, 20]


def test_real_workers_share_the_caps(web_server: Callable[..., WebServer]) -> None:
    server, videos = web_server(workers=2, threads=4, ADDRESS_VIEWS="50"), make_videos(10)

    def attack(number: int) -> list[str]:
        peer = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        found = []
        for turn in range(30):
            body = json.dumps({"viewer": f"v{number}-{turn}"})
            headers = {"Content-Type": "application/json", "User-Agent": BROWSER}
            peer.request("POST", view_path(videos[turn % 10]), body, headers)
            found.append(str(json.loads(peer.getresponse().read())["reason"]))
        peer.close()
        return found

    with ThreadPoolExecutor(10) as pool:
        reasons = Counter(reason for found in pool.map(attack, range(10)) for reason in found)
    assert reasons == {"new": 50, "address": 250}
    run_flush()
    assert sum(Video.objects.values_list("view_count", flat=True)) == 50
