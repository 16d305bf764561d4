"""Anonymous callers fill Redis up to a share of its memory. Above it their views do not count; all else goes on."""

import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import redis

from servers import ROOT, RedisServer, Server, free_port, wait_until
from tests.conftest import with_counters
from tests.support.doors import VIDEOS, ask, bearer, like_path, round_trips, video_path, view_path
from tests.support.factories import allow, make_user, make_users, make_videos
from tests.support.memory import set_share
from videos import counters, services
from videos.api.shapes import ViewResultSerializer
from videos.counters import memory
from videos.flush import run_flush
from videos.services import ViewEvent, ViewSums

pytestmark = [pytest.mark.django_db(transaction=True)]

VIEWERS = itertools.count()
WAYS = pytest.mark.parametrize("way", [{}, {"HTTP_ACCEPT": "application/json;q=0.9"}], ids=["express", "django"])


def anonymous(video_id: int, **headers: Any) -> Any:
    """The answer to a view of another anonymous viewer."""
    return ask("POST", view_path(video_id), b'{"viewer":"v%d"}' % next(VIEWERS), **headers)


def fill(server: RedisServer, video_id: int) -> None:
    """Let Redis use 80 % of its memory, and this process learn it with a view."""
    memory.forget()
    ask("POST", view_path(video_id), b'{"watched":0}')  # Redis knows the video now
    set_share(server, 0.8)
    memory.forget()
    assert anonymous(video_id).body["reason"] == "new"


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
            patch.setattr(time, "monotonic", lambda seconds=seconds: now + seconds)
            anonymous(video)
    assert trips == [1, 1, 1, 2, 1, 1, 2]


def test_what_a_process_learned_long_ago_holds_no_view_up(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (video,) = make_videos(1)
    fill(own_redis, video)
    now = time.monotonic()
    for seconds, reason in ((0, "full"), (3, "full"), (600, "new"), (600.1, "full")):
        monkeypatch.setattr(time, "monotonic", lambda seconds=seconds: now + seconds)
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
    assert [anonymous(video).body["reason"] for _ in range(2)] == ["new", "new"]


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
    client: Any = server.client()
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
    texts = json.loads((ROOT / "videos" / "page_texts.json").read_text())
    assert [key.removeprefix("view.") for key in texts if key.startswith("view.")] == list(counters.REASONS)
    field: Any = ViewResultSerializer().fields["reason"]
    assert tuple(field.choices) == counters.REASONS
