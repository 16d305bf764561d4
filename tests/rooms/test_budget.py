"""Anonymous callers fill Redis up to a share of its memory. Above it their views do not count; all else goes on."""

import contextlib
import http.client
import itertools
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User

from servers import ROOT, RedisServer, Server, WebServer, free_port, wait_until
from tests.conftest import with_counters
from tests.support.doors import BROWSER, VIDEOS, ask, bearer, like_path, round_trips, token_of, video_path, view_path
from tests.support.factories import allow, make_user, make_users, make_videos
from videos import counters, services
from videos.api.shapes import ViewResultSerializer
from videos.counters import memory
from videos.flush import run_flush
from videos.models import Video, VideoLike
from videos.services import ViewEvent, ViewSums

pytestmark = [pytest.mark.django_db(transaction=True)]

MIB = 2**20
VIEWERS = itertools.count()
WAYS = pytest.mark.parametrize("way", [{}, {"QUERY_STRING": "way=django"}], ids=["express", "django"])


def used(server: RedisServer) -> int:
    return int(server.client().info("memory")["used_memory"])


def set_share(server: RedisServer, share: float, more: int = 0) -> None:
    """Let Redis have so much memory that it uses this share of it, once it uses `more` bytes than now."""
    server.client().config_set("maxmemory", int((used(server) + more) / share))


def anonymous(video_id: int, **headers: Any) -> Any:
    """The answer to a view of another anonymous viewer."""
    return ask("POST", view_path(video_id), b'{"viewer":"v%d"}' % next(VIEWERS), **headers)


def fill(server: RedisServer, video_id: int) -> None:
    """Let Redis use 80 % of its memory, and this process learn it with a view."""
    memory.forget()
    ask("POST", view_path(video_id), b'{"watched":0}')  # Redis knows the video now
    server.client().setrange("ballast", 8 * MIB, "x")  # beside which the buffers of connections are small
    set_share(server, 0.8)
    memory.forget()
    assert anonymous(video_id).body["reason"] == "new"


class Attacker:
    """One connection to a real server, on which each view comes from another address of one network."""

    def __init__(self, server: WebServer, query: str) -> None:
        self.peer = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        self.query = query

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bool, Any]:
        """Status, whether the answer is of the rows, and its body."""
        address = f"2001:db8:1:{random.getrandbits(16):x}::1"
        sent = {"Content-Type": "application/json", "User-Agent": BROWSER, "X-Forwarded-For": address} | headers
        self.peer.request(method, path + self.query, json.dumps(body), sent)
        answer = self.peer.getresponse()
        return answer.status, "X-Counts" in answer.headers, json.loads(answer.read())

    def view(self, video_id: int) -> str:
        status, stored, body = self.ask("POST", view_path(video_id), {"viewer": f"{random.getrandbits(200):050x}"})
        assert (status, stored, body["counted"]) == (200, False, body["reason"] == "new")
        return str(body["reason"])


def attack(server: WebServer, query: str, videos: list[int], until: Callable[[Counter[str]], bool]) -> Counter[str]:
    """Send anonymous views on four connections until the answers to one of them are so; all answers by reason."""

    def run(_: int) -> Counter[str]:
        attacker, reasons = Attacker(server, query), Counter[str]()
        with contextlib.closing(attacker.peer):
            while not until(reasons):
                reasons[attacker.view(random.choice(videos))] += 1
        return reasons

    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(run, range(4)), Counter[str]())


@pytest.mark.slow
@pytest.mark.parametrize("query", ["", "?way=django"], ids=["express", "django"])
def test_an_attack_over_http_ends_at_the_budget(
    own_redis: RedisServer, web_server: Callable[..., WebServer], query: str, request: pytest.FixtureRequest
) -> None:
    server = web_server(workers=2, threads=4, REDIS_URL=own_redis.url, TRUSTED_PROXY_HOPS="1", LOG_LEVEL="WARNING")
    client, videos, users = own_redis.client(), make_videos(10), [make_user(f"u{number}") for number in range(20)]
    attack(server, query, videos, lambda reasons: reasons.total() == 20)
    set_share(own_redis, 0.7, MIB)
    limit = int(client.config_get("maxmemory")["maxmemory"])

    reasons = attack(server, query, videos, lambda reasons: reasons["full"] >= 200)
    assert set(reasons) == {"new", "full"}
    assert reasons["new"] > 1000
    assert 0.7 * limit < used(own_redis) < 0.8 * limit

    keys = client.dbsize()
    more = attack(server, query, videos, lambda reasons: reasons.total() == 300)
    assert more["new"] < 100  # as used_memory moves up and down with the buffers of connections
    assert client.dbsize() - keys <= 3 * more["new"]

    caller = Attacker(server, query)
    request.addfinalizer(caller.peer.close)
    for user in users:
        token = {"Authorization": token_of(user)}
        assert caller.ask("POST", view_path(videos[0]), {}, **token)[2]["reason"] == "new"
        assert caller.ask("PUT", like_path(videos[0]), **token)[:2] == (200, False)
    assert not run_flush().failed
    before = 80 + reasons["new"] + more["new"] + len(users)
    assert sum(Video.objects.values_list("view_count", flat=True)) == before
    assert Video.objects.get(pk=videos[0]).like_count == VideoLike.objects.count() == len(users)

    forget(client, "{videos:*}:seen:*", "{videos:*}:address:*", "videos:address:*")  # as if the window had ended
    begin = time.monotonic()
    again = attack(server, query, videos, lambda reasons: reasons["new"] == 50)
    assert time.monotonic() - begin < 5
    assert not run_flush().failed
    assert sum(Video.objects.values_list("view_count", flat=True)) == before + again["new"]
    assert server.log.read_text().count("VIDEOS_ANONYMOUS_MEMORY_SHARE") == 2  # once in each process


def forget(client: redis.Redis, *patterns: str) -> None:
    for pattern in patterns:
        client.unlink(*client.scan_iter(pattern, count=1000))


@WAYS
def test_who_is_not_signed_in_is_told_so_and_leaves_nothing(own_redis: RedisServer, way: dict[str, Any]) -> None:
    (video, cold), user = make_videos(2), make_user()
    ask("POST", view_path(video), b'{"viewer":"known"}')
    fill(own_redis, video)
    keys = own_redis.client().dbsize()

    def reason(video_id: int, body: bytes, **headers: Any) -> Any:
        got = ask("POST", view_path(video_id), body, **headers, **way)
        assert (got.status, got.body["counted"], got.express) == (200, False, not way)
        return got.body["reason"], got.body["view_count"]

    assert reason(video, b'{"viewer":"known"}') == ("seen", 2)
    assert reason(video, b'{"viewer":"other"}') == ("full", 2)
    assert reason(video, b"{}") == ("full", 2)
    assert reason(video, b'{"viewer":"a","watched":1}') == ("short", 2)
    assert reason(video, b'{"viewer":"a"}', HTTP_USER_AGENT="Googlebot/2.1") == ("bot", 2)
    assert reason(cold, b'{"viewer":"a"}') == ("full", 0)
    assert reason(cold, b'{"viewer":"a","watched":1}') == ("short", 0)
    assert ask("POST", view_path(987_654_321), b"{}", **way).status == 404
    assert own_redis.client().dbsize() == keys

    for video_id in (video, cold):
        assert ask("POST", view_path(video_id), b"{}", **bearer(user), **way).body["reason"] == "new"
        assert ask("PUT", like_path(video_id), **bearer(user), **way).body["like_count"] == 1
    assert reason(cold, b'{"viewer":"a"}') == ("full", 1)


def test_a_batch_is_judged_event_by_event(own_redis: RedisServer) -> None:
    (video, cold), (user, other) = make_videos(2), make_users(2)
    sender = allow(make_user("sender"), "send_views")
    known = ViewEvent(video, "known")
    assert services.record_views(events=[known]) == ViewSums(1, {})
    fill(own_redis, video)
    now = counters.now_ms()
    events = [
        *(known, ViewEvent(video, "a"), ViewEvent(cold, "a", at_ms=now), ViewEvent(cold, "b", watched=1)),
        *(ViewEvent(video, "@1", user), ViewEvent(cold, "@2", other), ViewEvent(987_654_321, "a")),
    ]
    assert services.record_views(events=events) == ViewSums(2, {"absent": 1, "full": 2, "seen": 1, "short": 1})
    body = json.dumps({"events": [{"video": video, "viewer": viewer} for viewer in ("known", "c", "d")]}).encode()
    assert ask("POST", "/api/views/", body, **bearer(sender)).body == {"counted": 0, "ignored": {"full": 2, "seen": 1}}
    set_share(own_redis, 0.5)
    memory.forget()
    assert services.record_views(events=events[:4]) == ViewSums(2, {"seen": 1, "short": 1})


@WAYS
def test_what_redis_refuses_for_want_of_memory_is_not_written_to_the_rows(
    own_redis: RedisServer, way: dict[str, Any]
) -> None:
    (video, cold), user = make_videos(2), make_user()
    fill(own_redis, video)
    own_redis.client().config_set("maxmemory", 1)
    events = [ViewEvent(video, "a"), ViewEvent(video, "b", watched=1), ViewEvent(video, "@1", user.id)]
    assert services.record_views(events=events) == ViewSums(1, {"full": 1, "short": 1}, stored=True)
    for video_id, views in ((video, 1), (cold, 0)):
        memory.forget()  # the process has not asked yet
        for _ in range(2):
            got = anonymous(video_id, **way)
            assert (got.status, got.body["reason"], got.body["view_count"]) == (200, "full", views)
    got = ask("POST", view_path(video), b"{}", **bearer(user), **way)
    assert (got.body["counted"], got.headers["X-Counts"]) == (True, "stored")


def test_a_process_asks_once_a_second_at_most_and_without_a_round_trip(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (video,) = make_videos(1)
    fill(own_redis, video)
    now = time.monotonic()
    with monkeypatch.context() as patch, round_trips(patch) as trips:
        for seconds in (0, 0.5, 0.9, 1.1, 1.2, 2.0, 2.2):
            patch.setattr(memory.time, "monotonic", lambda seconds=seconds: now + seconds)
            anonymous(video)
    assert trips == [1, 1, 1, 2, 1, 1, 2]


def test_what_a_process_learned_long_ago_holds_no_view_up(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (video,) = make_videos(1)
    fill(own_redis, video)
    now = time.monotonic()
    for seconds, reason in ((0, "full"), (3, "full"), (600, "new"), (600.1, "full")):
        monkeypatch.setattr(memory.time, "monotonic", lambda seconds=seconds: now + seconds)
        assert anonymous(video).body["reason"] == reason


def test_without_a_limit_there_is_no_budget(own_redis: RedisServer, settings: Any) -> None:
    (video,) = make_videos(1)
    fill(own_redis, video)
    settings.VIDEOS_ANONYMOUS_MEMORY_SHARE = 1
    assert anonymous(video).body["reason"] == "new"
    settings.VIDEOS_ANONYMOUS_MEMORY_SHARE = 0.5
    assert anonymous(video).body["reason"] == "full"
    own_redis.client().config_set("maxmemory", 0)
    memory.forget()
    assert anonymous(video).body["reason"] == "new"
    assert anonymous(video).body["reason"] == "new"


def test_an_info_that_is_refused_fails_no_view(own_redis: RedisServer) -> None:
    (video,) = make_videos(1)
    fill(own_redis, video)
    own_redis.client().acl_setuser("default", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info"])
    memory.forget()
    assert anonymous(video).body == {"id": video, "counted": True, "reason": "new", "view_count": 2}


@pytest.mark.once
def test_in_cluster_mode_the_node_is_asked(
    settings: Any, own_redis: RedisServer, run_server: Callable[[Server], None], tmp_path: Any
) -> None:
    options = "--cluster-enabled", "yes", "--databases", "1", "--cluster-port", str(free_port())
    server = type(own_redis)(tmp_path / "cluster", *options)
    run_server(server)
    client = server.client()
    client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    wait_until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", what="the cluster")
    with_counters(settings, LOCATION=server.url)
    videos = make_videos(2)
    assert [anonymous(video).body["reason"] for video in videos] == ["new", "new"]
    set_share(server, 0.8)
    memory.forget()
    assert [anonymous(video).body["reason"] for video in videos] == ["new", "full"]


def test_health_and_metrics_tell_of_it(own_redis: RedisServer) -> None:
    (video,) = make_videos(1)
    fill(own_redis, video)
    run_flush()

    def ready(query: str = "") -> Any:
        return ask("GET", "/health/ready", REMOTE_ADDR="127.0.0.1", QUERY_STRING=query)

    def metrics() -> set[str]:
        return set(ask("GET", "/metrics", REMOTE_ADDR="127.0.0.1").content.decode().splitlines())

    state = ready().body
    assert (state["status"], state["redis"]["ok"], state["redis"]["full"]) == ("degraded", False, True)
    assert 0.75 < state["redis"]["memory_share"] < 0.9
    assert (ready().status, ready("strict").status) == (200, 503)
    assert {'videos_up{part="redis"} 1.0', "videos_redis_full 1.0"} <= metrics()
    set_share(own_redis, 0.5)
    assert ready().body["redis"]["full"] is False
    assert {'videos_up{part="redis"} 1.0', "videos_redis_full 0.0"} <= metrics()


def test_what_anonymous_callers_leave_besides_views_ends_soon(redis_client: redis.Redis, settings: Any) -> None:
    """Throttles, caps and live keys all expire; what does not is of videos, not of callers."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    videos = make_videos(3)
    sites = itertools.count()

    def visit(callers: Iterable[int]) -> set[str]:
        for caller in callers:
            of = {"REMOTE_ADDR": f"2001:db8:{next(sites):x}::1"}
            guess = b'{"username":"account%d","password":"x"}' % caller
            for video in videos:
                assert anonymous(video, **of).body["counted"]
                ask("GET", video_path(video), **of)
                ask("GET", like_path(video), **of)
            for turn in range(8):
                ask("GET", VIDEOS, QUERY_STRING=f"search=word{turn}", **of)
            for _ in range(2):
                assert ask("POST", "/api/token/", guess, **of).status == 401
            assert ask("POST", "/api/token/refresh/", b'{"refresh":"x"}', **of).status == 401
        return {key for key in redis_client.scan_iter() if redis_client.ttl(key) < 0}

    few = visit(range(3))
    assert visit(range(100, 130)) == few
    kinds = Counter(re.sub(r"\{videos:\d+\}:|:[^:]*$", "", key) for key in redis_client.scan_iter("videos:*"))
    assert kinds["videos:hits:account"] == 33
    assert kinds["videos:hits:search"] >= 33
    longest = {key: redis_client.ttl(key) for key in redis_client.scan_iter("videos:hits:*")}
    assert max(longest.values()) <= 600


@pytest.mark.once
def test_page_and_schema_know_every_reason() -> None:
    page = (ROOT / "videos" / "static" / "videos" / "page.js").read_text()
    told = re.findall(r"^  (\w+): ", page.split("const REASONS = {")[1].split("}")[0], re.MULTILINE)
    assert ["new", *told] == list(counters.REASONS)
    assert tuple(ViewResultSerializer().fields["reason"].choices) == counters.REASONS


def test_a_viewer_of_a_user_who_is_gone_counts_as_before(own_redis: RedisServer, user: User) -> None:
    """A token names its user without a query: the budget does not ask the database who is signed in."""
    (video,) = make_videos(1)
    fill(own_redis, video)
    token = bearer(user)
    user.delete()
    assert ask("POST", view_path(video), b"{}", **token).body["reason"] == "new"
