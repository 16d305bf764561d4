"""Anonymous callers who attack a real server fill Redis up to their share, and keep nobody else from being counted."""

import contextlib
import http.client
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from servers import RedisServer, WebServer
from tests.support.doors import BROWSER, like_path, token_of, view_path
from tests.support.factories import make_user, make_videos
from tests.support.memory import MIB, set_share, used
from videos.flush import run_flush
from videos.models import Video, VideoLike

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


class Attacker:
    """One connection to a real server, on which each view comes from another address of one network."""

    def __init__(self, server: WebServer, way: dict[str, str]) -> None:
        self.peer = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        self.way = way

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bool, Any]:
        """Status, whether the answer is of the rows, and its body."""
        address = f"2001:db8:1:{random.getrandbits(16):x}::1"
        sent = {
            "Content-Type": "application/json",
            "User-Agent": BROWSER,
            "X-Forwarded-For": address,
            **self.way,
        } | headers
        self.peer.request(method, path, json.dumps(body), sent)
        answer = self.peer.getresponse()
        return answer.status, "X-Counts" in answer.headers, json.loads(answer.read())

    def view(self, video_id: int) -> str:
        status, stored, body = self.ask("POST", view_path(video_id), {"viewer": f"{random.getrandbits(200):050x}"})
        assert (status, stored, body["counted"]) == (200, False, body["reason"] == "new")
        return str(body["reason"])


def attack(
    server: WebServer, way: dict[str, str], videos: list[int], until: Callable[[Counter[str]], bool]
) -> Counter[str]:
    """Send anonymous views on four connections until the answers to one of them are so; all answers by reason."""

    def run(_: int) -> Counter[str]:
        attacker, reasons = Attacker(server, way), Counter[str]()
        with contextlib.closing(attacker.peer):
            while not until(reasons):
                reasons[attacker.view(random.choice(videos))] += 1
        return reasons

    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(run, range(4)), Counter[str]())


@pytest.mark.parametrize("way", [{}, {"Accept": "application/json;q=0.9"}], ids=["express", "django"])
def test_an_attack_over_http_ends_at_the_budget(
    own_redis: RedisServer, web_server: Callable[..., WebServer], way: dict[str, str], request: pytest.FixtureRequest
) -> None:
    environment = {"REDIS_URL": own_redis.url, "TRUSTED_PROXY_HOPS": "1", "REDIS_TIMEOUT_SECONDS": "5"}
    server = web_server(workers=2, threads=4, **environment)
    client, videos, users = own_redis.client(), make_videos(10), [make_user(f"u{number}") for number in range(20)]
    attack(server, way, videos, lambda reasons: reasons.total() == 20)
    set_share(own_redis, 0.7, more=MIB)
    limit = client.info("memory")["maxmemory"]

    reasons = attack(server, way, videos, lambda reasons: reasons["full"] >= 200)
    assert set(reasons) == {"new", "full"}
    assert reasons["new"] > 1000
    assert 0.65 * limit < used(own_redis) < 0.8 * limit

    set_share(own_redis, 0.8)  # near the budget used_memory goes up and down with the buffers of connections
    keys = client.dbsize()
    more = attack(server, way, videos, lambda reasons: reasons.total() == 300)
    assert more["new"] <= 16  # of processes that have not asked for five seconds
    assert client.dbsize() - keys <= 3 * more["new"]

    caller = Attacker(server, way)
    request.addfinalizer(caller.peer.close)
    for user in users:
        token = {"Authorization": token_of(user)}
        assert caller.ask("POST", view_path(videos[0]), {}, **token)[2]["reason"] == "new"
        assert caller.ask("PUT", like_path(videos[0]), **token)[:2] == (200, False)
    assert not run_flush().failed
    before = 80 + reasons["new"] + more["new"] + len(users)
    assert sum(Video.objects.values_list("view_count", flat=True)) == before
    assert Video.objects.get(pk=videos[0]).like_count == VideoLike.objects.count() == len(users)

    client.config_set("maxmemory", limit)
    forget(client, "{videos:*}:seen:*", "{videos:*}:address:*", "videos:address:*")  # as if the window had ended
    begin = time.monotonic()
    again = attack(server, way, videos, lambda reasons: reasons["new"] == 50)
    assert time.monotonic() - begin < 10
    assert not run_flush().failed
    assert sum(Video.objects.values_list("view_count", flat=True)) == before + again["new"]
    assert 1 <= server.log.read_text().count("VIDEOS_ANONYMOUS_MEMORY_SHARE") <= 8  # once a minute in each process


def forget(client: redis.Redis, *patterns: str) -> None:
    for pattern in patterns:
        client.unlink(*client.scan_iter(pattern, count=1000))
