"""The express lane: what it answers, it answers as the whole way does; what it cannot, the whole way does, once."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import User
from django.core.signals import request_started
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import resolve
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from streaming.wsgi import application
from tests.support.load import make_videos
from videos import counters, services
from videos.api.tokens import RefreshToken
from videos.ledger import reads
from videos.models import Video
from videos.pagination import VideoPagination

pytestmark = [pytest.mark.django_db(transaction=True)]

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


class Got(NamedTuple):
    """An answer, and whether the express lane gave it."""

    status: int
    headers: Mapping[str, str]
    body: Any
    express: bool
    content: bytes


@contextmanager
def whole_ways() -> Iterator[list[int]]:
    """One element for each request that Django's handler was given."""
    seen: list[int] = []

    def note(**_: Any) -> None:
        seen.append(1)

    request_started.connect(note)
    try:
        yield seen
    finally:
        request_started.disconnect(note)


def ask(method: str, path: str, body: bytes = b"", /, **headers: str) -> Got:
    """Call the door as a web server does."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": "", "REMOTE_ADDR": "192.0.2.7",
        "SERVER_NAME": "localhost", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "localhost",
        "HTTP_USER_AGENT": BROWSER, "wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr,
        "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.multithread": True, "wsgi.multiprocess": True,
        "wsgi.run_once": False, "CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/json",
    }  # fmt: skip
    started: list[Any] = []
    with whole_ways() as whole:
        response: Any = application(environ | headers, lambda status, names, *_: started.extend((status, names)))
        content = b"".join(response)
        getattr(response, "close", int)()
    named = dict(started[1])
    if named.get("Content-Length"):
        assert int(named["Content-Length"]) == len(content)
    parsed = json.loads(content) if named.get("Content-Type") == "application/json" else content
    return Got(int(started[0].split()[0]), named, parsed, not whole, content)


def bearer(user: User, **changes: Any) -> dict[str, str]:
    token = RefreshToken.of(user).access_token
    token.claims.update(changes)
    return {"HTTP_AUTHORIZATION": f"Bearer {token}"}


@pytest.fixture
def user() -> User:
    return User.objects.create(username="u")


@pytest.fixture
def video() -> int:
    return make_videos(1)[0]


def like_path(video: int) -> str:
    return f"/api/videos/{video}/like/"


def view_path(video: int) -> str:
    return f"/api/videos/{video}/view/"


def video_path(video: int) -> str:
    return f"/api/videos/{video}/"


COUNTS, VIDEOS = "/api/videos/counts/", "/api/videos/"


def test_usual_likes_and_views_take_it(video: int, user: User) -> None:
    token = bearer(user)
    for method, liked in (("PUT", True), ("DELETE", False), ("POST", True), ("PUT", True)):
        got = ask(method, like_path(video), **token)
        assert (got.status, got.body, got.express) == (
            200, {"id": video, "liked": liked, "like_count": int(liked)}, True,
        )  # fmt: skip
    for headers, viewer in (({}, b'{"viewer":"me"}'), (token, b'{"watched":31}')):
        got = ask("POST", view_path(video), viewer, **headers)
        assert (got.status, got.body["reason"], got.express) == (200, "new", True)


def test_reads_take_it(video: int, user: User) -> None:
    token = bearer(user)
    ask("PUT", like_path(video), **token)
    asked = [
        ask("GET", like_path(video), **token),
        ask("GET", COUNTS, **token, QUERY_STRING=f"ids={video}"),
        ask("GET", video_path(video), **token),
        ask("GET", VIDEOS, **token),
    ]
    assert [(got.status, got.express) for got in asked] == [(200, True)] * 4
    like, counts, one, page = (got.body for got in asked)
    for shown in (like, counts[0], one, page["results"][0]):
        assert (shown["id"], shown["liked"], shown["like_count"]) == (video, True, 1)


def test_its_addresses_are_those_of_the_views() -> None:
    paths = [*(path(7) for path in (like_path, view_path, video_path)), COUNTS, VIDEOS]
    assert [resolve(path).url_name for path in paths] == ["like", "view", "video", "counts", "videos"]


def test_warm_like_and_view_ask_the_database_nothing(
    video: int, user: User, django_assert_num_queries: Callable[[int], CaptureQueriesContext]
) -> None:
    token = bearer(user)
    ask("PUT", like_path(video), **token)
    with django_assert_num_queries(0):
        assert ask("DELETE", like_path(video), **token).express
        assert ask("POST", view_path(video), b'{"viewer":"v"}').express


# What each way answers, one after the other on videos of their own: (method, path, body, headers).
Case = tuple[str, Callable[[int], str], bytes, Callable[[User], dict[str, str]]]


def nobody(user: User) -> dict[str, str]:
    return {}


def headers(**values: str) -> Callable[[User], dict[str, str]]:
    return lambda user: values


def signed_in(**values: str) -> Callable[[User], dict[str, str]]:
    return lambda user: bearer(user) | values


VIEWED = b'{"viewer":"someone","watched":40}'
CASES: dict[str, Case] = {
    "like": ("PUT", like_path, b"", bearer),
    "like with a body that nobody reads": ("PUT", like_path, b"{broken", bearer),
    "unlike": ("DELETE", like_path, b"", bearer),
    "like by nobody": ("PUT", like_path, b"", nobody),
    "like by a method that is none": ("PATCH", like_path, b"", bearer),
    "options": ("OPTIONS", like_path, b"", bearer),
    "token that is none": ("PUT", like_path, b"", headers(HTTP_AUTHORIZATION="Bearer x.y.z")),
    "token of three words": ("PUT", like_path, b"", headers(HTTP_AUTHORIZATION="Bearer a b")),
    "token of another scheme": ("PUT", like_path, b"", headers(HTTP_AUTHORIZATION="Basic dTp1")),
    "view with another scheme": ("POST", view_path, VIEWED, headers(HTTP_AUTHORIZATION="Basic dTp1")),
    "token that has ended": ("PUT", like_path, b"", lambda user: bearer(user, exp=1_000_000_000)),
    "token that begins later": ("PUT", like_path, b"", lambda user: bearer(user, nbf=9_000_000_000)),
    "token of the future": ("PUT", like_path, b"", lambda user: bearer(user, iat=9_000_000_000)),
    "token of nobody": ("PUT", like_path, b"", lambda user: bearer(user, user_id="x")),
    "token without an id": ("PUT", like_path, b"", lambda user: bearer(user, jti=None)),
    "refresh token": (
        "PUT", like_path, b"", lambda user: {"HTTP_AUTHORIZATION": f"Bearer {RefreshToken.of(user)}"},
    ),
    "token with a claim of others": ("PUT", like_path, b"", lambda user: bearer(user, sub="someone")),
    "token with a claim that is wrong": ("PUT", like_path, b"", lambda user: bearer(user, sub=7)),
    "view": ("POST", view_path, VIEWED, nobody),
    "view of a user": ("POST", view_path, VIEWED, bearer),
    "view too short": ("POST", view_path, b'{"viewer":"a","watched":1}', nobody),
    "view of a bot": ("POST", view_path, VIEWED, headers(HTTP_USER_AGENT="Googlebot/2.1")),
    "view by address": ("POST", view_path, b"{}", nobody),
    "view without a body": ("POST", view_path, b"", nobody),
    "view in broken JSON": ("POST", view_path, b"{", nobody),
    "view that is a list": ("POST", view_path, b"[]", nobody),
    "view in another encoding": ("POST", view_path, b'{"viewer":"\xff"}', nobody),
    "view of a viewer who is none": ("POST", view_path, b'{"viewer":"@1"}', nobody),
    "view for no time at all": ("POST", view_path, b'{"watched":NaN}', nobody),
    "view of a large body": ("POST", view_path, b'{"viewer":"a"}' + b" " * 5000, nobody),
    "view of a body too large": ("POST", view_path, b" " * 1_100_000, nobody),
    "view of a body that ends early": ("POST", view_path, b'{"viewer":"a"', headers(CONTENT_LENGTH="14")),
    "view of nonsense in length": ("POST", view_path, VIEWED, headers(CONTENT_LENGTH="\u0663")),
    "view as a form": ("POST", view_path, b"viewer=a", headers(CONTENT_TYPE="application/x-www-form-urlencoded")),
    "view with a charset": ("POST", view_path, VIEWED, headers(CONTENT_TYPE="application/json; charset=utf-8")),
    "view by GET": ("GET", view_path, b"", nobody),
    "HTML wanted": ("PUT", like_path, b"", signed_in(HTTP_ACCEPT="text/html")),
    "JSON wanted": ("PUT", like_path, b"", signed_in(HTTP_ACCEPT="application/json")),
    "a query": ("PUT", like_path, b"", signed_in(QUERY_STRING="format=xml")),
    "a host that is not ours": ("PUT", like_path, b"", signed_in(HTTP_HOST="evil.example")),
    "no video": ("PUT", lambda video: like_path(video + 1000), b"", bearer),
    "view of no video": ("POST", lambda video: view_path(video + 1000), VIEWED, nobody),
    "id of no row": ("PUT", lambda video: like_path(2**63), b"", bearer),
    "id in other digits": ("PUT", lambda video: "/api/videos/\u0661/like/".encode().decode("latin-1"), b"", bearer),
}  # fmt: skip
ALL_BY_ITSELF = {
    *("like", "like with a body that nobody reads", "unlike", "view", "view of a user", "view too short"),
    *("view of a bot", "view by address", "JSON wanted", "token with a claim of others"),
}


@pytest.mark.parametrize("name", CASES)
def test_both_ways_answer_the_same(name: str, user: User, settings: Any) -> None:
    method, path, body, of_user = CASES[name]
    answers = []
    for express, video in zip((True, False), make_videos(2), strict=True):
        settings.VIDEOS_EXPRESS = express
        got = ask(method, path(video), body, **of_user(user))
        shown = {"id": 0} if isinstance(got.body, dict) and "id" in got.body else {}
        # The ids may be of unequal length; that Content-Length is the body's, `ask` asserts.
        names = {**got.headers, "Content-Length": ""} if shown else got.headers
        answers.append((got.status, names, got.body | shown if shown else got.body))
        assert got.express is (express and name in ALL_BY_ITSELF)
    assert answers[0] == answers[1]
    assert answers[0][0] < 500


# What both ways answer to readers: (method, path, query, headers), and whether the express lane does by itself.
Read = tuple[str, Callable[[int], str], Callable[[int], str], Callable[[User], dict[str, str]], bool]


def at(path: str) -> Callable[[int], str]:
    return lambda video: path


NEWEST, OLDEST = at("page_size=2"), at("ordering=created_at&page_size=2")
NO_QUERY = at("")


def ids(video: int) -> str:
    return f"ids={video},{video + 1},987654321"


READS: dict[str, Read] = {
    "like": ("GET", like_path, NO_QUERY, bearer, True),
    "like of nobody": ("GET", like_path, NO_QUERY, nobody, True),
    "like of no video": ("GET", at("/api/videos/987654321/like/"), NO_QUERY, bearer, False),
    "like of no video, of nobody": ("GET", at("/api/videos/987654321/like/"), NO_QUERY, nobody, False),
    "like with a query": ("GET", like_path, at("a=b"), bearer, False),
    "like by HEAD": ("HEAD", like_path, NO_QUERY, bearer, False),
    "counts": ("GET", at(COUNTS), ids, bearer, True),
    "counts of nobody": ("GET", at(COUNTS), ids, nobody, True),
    "counts with commas in percent": ("GET", at(COUNTS), lambda video: ids(video).replace(",", "%2C"), bearer, True),
    "counts twice": ("GET", at(COUNTS), lambda video: f"ids={video},{video},0{video}", bearer, True),
    "counts of ids beyond all rows": ("GET", at(COUNTS), at(f"ids={2**63},{2**63 - 1},{'9' * 90},0"), bearer, True),
    "counts without ids": ("GET", at(COUNTS), NO_QUERY, bearer, False),
    "counts of no ids": ("GET", at(COUNTS), at("ids="), bearer, False),
    "counts of words": ("GET", at(COUNTS), at("ids=a"), bearer, False),
    "counts in other digits": ("GET", at(COUNTS), at("ids=%D9%A1"), bearer, False),
    "counts with spaces": ("GET", at(COUNTS), lambda video: f"ids={video},+{video + 1}", bearer, False),
    "counts of too many": ("GET", at(COUNTS), at("ids=" + ",".join(map(str, range(1, 102)))), bearer, False),
    "counts of a hundred": ("GET", at(COUNTS), at("ids=" + ",".join(map(str, range(1, 101)))), bearer, True),
    "counts with two lists": ("GET", at(COUNTS), lambda video: f"ids={video}&ids={video + 1}", bearer, False),
    "counts as XML": ("GET", at(COUNTS), lambda video: f"ids={video}&format=xml", bearer, False),
    "counts by HEAD": ("HEAD", at(COUNTS), ids, bearer, False),
    "counts by OPTIONS": ("OPTIONS", at(COUNTS), ids, bearer, False),
    "counts by POST": ("POST", at(COUNTS), ids, bearer, False),
    "video": ("GET", video_path, NO_QUERY, bearer, True),
    "video of nobody": ("GET", video_path, NO_QUERY, nobody, True),
    "no video": ("GET", at("/api/videos/987654321/"), NO_QUERY, bearer, False),
    "id of no row": ("GET", at(f"/api/videos/{2**63}/"), NO_QUERY, bearer, False),
    "id of naught": ("GET", at("/api/videos/0/"), NO_QUERY, bearer, False),
    "id with a naught": ("GET", lambda video: f"/api/videos/0{video}/", NO_QUERY, bearer, False),
    "video with a query": ("GET", video_path, at("format=json"), bearer, False),
    "video by HEAD": ("HEAD", video_path, NO_QUERY, bearer, False),
    "video by OPTIONS": ("OPTIONS", video_path, NO_QUERY, bearer, False),
    "video by a method that is none": ("PUT", video_path, NO_QUERY, bearer, False),
    "list": ("GET", at(VIDEOS), NO_QUERY, bearer, True),
    "list of nobody": ("GET", at(VIDEOS), NO_QUERY, nobody, True),
    "list by pages": ("GET", at(VIDEOS), NEWEST, bearer, True),
    "list by pages, oldest first": ("GET", at(VIDEOS), OLDEST, bearer, True),
    "list by likes": ("GET", at(VIDEOS), at("page_size=1&ordering=-like_count"), bearer, True),
    "list by what it has no order of": ("GET", at(VIDEOS), at("ordering=title"), bearer, False),
    "list by an order that is none": ("GET", at(VIDEOS), at("ordering="), bearer, False),
    "list of no size": ("GET", at(VIDEOS), at("page_size=0"), bearer, False),
    "list of a size too large": ("GET", at(VIDEOS), at("page_size=101"), bearer, False),
    "list with two sizes": ("GET", at(VIDEOS), at("page_size=1&page_size=2"), bearer, False),
    "list with an end": ("GET", at(VIDEOS), at("page_size=1&"), bearer, False),
    "list with a beginning": ("GET", at(VIDEOS), at("&page_size=1"), bearer, False),
    "list from nowhere": ("GET", at(VIDEOS), at("cursor=W10%3D"), bearer, False),
    "list with a search": ("GET", at(VIDEOS), at("search=one&page_size=1"), bearer, False),
    "list with a search for nothing": ("GET", at(VIDEOS), at("search=+&page_size=1"), bearer, False),
    "list with what nobody reads": ("GET", at(VIDEOS), at("page_size=1&a=b"), bearer, False),
    "list as XML": ("GET", at(VIDEOS), at("format=xml"), bearer, False),
    "list in lines": ("GET", at(VIDEOS), NEWEST, headers(HTTP_ACCEPT="application/json; indent=2"), False),
    "list as Axios asks": (
        "GET", at(VIDEOS), NEWEST, headers(HTTP_ACCEPT="application/json, text/plain, */*"), True,
    ),
    "list as HTML": ("GET", at(VIDEOS), NEWEST, headers(HTTP_ACCEPT="text/html"), False),
    "list below a prefix": ("GET", at(VIDEOS), NEWEST, headers(SCRIPT_NAME="/below"), False),
    "list on a port": ("GET", at(VIDEOS), NEWEST, headers(HTTP_HOST="localhost:8000"), True),
    "list on a host that is not ours": ("GET", at(VIDEOS), NEWEST, headers(HTTP_HOST="evil.example"), False),
    "list under TLS": ("GET", at(VIDEOS), NEWEST, headers(**{"wsgi.url_scheme": "https"}), True),
    "list by HEAD": ("HEAD", at(VIDEOS), NEWEST, bearer, False),
    "list by OPTIONS": ("OPTIONS", at(VIDEOS), NEWEST, bearer, False),
    "list with a cookie": ("GET", at(VIDEOS), NEWEST, headers(HTTP_COOKIE="a=b"), True),
    "list with a session that is none": ("GET", at(VIDEOS), NEWEST, headers(HTTP_COOKIE="sessionid=x"), False),
    "token that is none": ("GET", at(VIDEOS), NEWEST, headers(HTTP_AUTHORIZATION="Bearer x.y.z"), False),
    "token of another scheme": ("GET", at(VIDEOS), NEWEST, headers(HTTP_AUTHORIZATION="Basic dTp1"), False),
    "token that has ended": ("GET", at(COUNTS), ids, lambda user: bearer(user, exp=1_000_000_000), False),
    "token of another scheme for counts": ("GET", at(COUNTS), ids, headers(HTTP_AUTHORIZATION="Basic dTp1"), False),
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_both_ways_tell_readers_the_same(name: str, user: User, settings: Any) -> None:
    method, path, query, of_user, by_itself = READS[name]
    video, *_ = make_videos(4)
    Video.objects.filter(pk=video).update(title='"\u2028\\ \u00e9\U0001f600', description="<a>\u2029\t\x7f")
    ask("PUT", like_path(video), **bearer(user))
    answers = []
    for express in (True, False):
        settings.VIDEOS_EXPRESS = express
        got = ask(method, path(video), **(of_user(user) | {"QUERY_STRING": query(video)}))
        assert got.express is (express and by_itself)
        answers.append((got.status, got.headers, got.content))
    assert answers[0] == answers[1]
    assert answers[0][0] == 200 if by_itself else answers[0][0] < 500


@pytest.mark.parametrize("ordering", VideoPagination.orderings)
def test_both_ways_turn_the_same_pages(ordering: str, settings: Any) -> None:
    make_videos(5)
    turned = []
    for express in (True, False):
        settings.VIDEOS_EXPRESS = express
        query, pages = f"ordering={ordering}&page_size=2", []
        for link in ("next", "next", "previous", "previous"):
            got = ask("GET", VIDEOS, QUERY_STRING=query)
            assert got.express is express
            pages.append(got.body)
            query = got.body[link].partition("?")[2]
        turned.append(pages)
    assert turned[0] == turned[1]
    first, second, _, back = ([video["id"] for video in page["results"]] for page in turned[0])
    assert first != second == back


@given(
    path=st.sampled_from([COUNTS, VIDEOS, like_path(1), video_path(1)]),
    query=st.one_of(
        st.text(st.characters(max_codepoint=255), max_size=12),
        st.lists(
            st.tuples(
                st.sampled_from(["ids", "page_size", "ordering", "cursor", "search", "format"]),
                st.sampled_from(["1", "1,2", "-like_count", "created_at", "WzEsIDIsIDBd", "W10=", "%ff", "json", ""])
                | st.text("0123456789,%-+=W", max_size=6),
            ),
            max_size=3,
        ).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)),
    ),
    known=st.booleans(),
)
@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_both_ways_read_any_query_the_same(user: User, settings: Any, path: str, query: str, known: bool) -> None:
    answers = []
    for express in (True, False):
        settings.VIDEOS_EXPRESS = express
        got = ask("GET", path, QUERY_STRING=query, **(bearer(user) if known else {}))
        answers.append((got.status, got.headers, got.content))
    assert answers[0] == answers[1]
    assert answers[0][0] < 500


@given(
    method=st.sampled_from(["PUT", "POST", "DELETE", "GET", "PATCH"]),
    path=st.sampled_from([like_path, view_path]),
    body=st.one_of(
        st.binary(max_size=40),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["viewer", "watched"]), inner, max_size=2)
            ),
            max_leaves=4,
        ).map(lambda value: json.dumps(value).encode()),
    ),
    extra=st.dictionaries(
        st.sampled_from(["HTTP_AUTHORIZATION", "HTTP_ACCEPT", "CONTENT_TYPE", "CONTENT_LENGTH", "QUERY_STRING"]),
        st.text(st.characters(max_codepoint=255), max_size=12),
        max_size=2,
    ),
    known=st.booleans(),
)
@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_both_ways_answer_anything_the_same(  # noqa: PLR0917
    user: User, settings: Any, method: str, path: Any, body: bytes, extra: dict[str, str], known: bool
) -> None:
    token = bearer(user) if known else {}
    got = {}
    for express, video in zip((True, False), make_videos(2), strict=True):
        settings.VIDEOS_EXPRESS = express
        answer = ask(method, path(video), body, **(token | extra))
        kept = {key: value for key, value in answer.body.items() if key != "id"}
        got[express] = answer.status, kept, {**answer.headers, "Content-Length": ""}
    assert got[True] == got[False]
    assert got[True][0] < 500


def test_session_takes_the_whole_way(video: int, user: User) -> None:
    client = Client()
    client.force_login(user)
    got = ask("PUT", like_path(video), HTTP_COOKIE=f"sessionid={client.cookies['sessionid'].value}")
    assert (got.status, got.express) == (403, False)


def test_security_headers_hold_behind_tls(video: int, user: User, settings: Any) -> None:
    settings.SECURE_HSTS_SECONDS = 60
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    from streaming.wsgi import Door

    global application
    kept, application = application, Door()
    try:
        plain = ask("PUT", like_path(video), **bearer(user))
        got = ask("PUT", like_path(video), **bearer(user), HTTP_X_FORWARDED_PROTO="https")
    finally:
        application = kept
    assert (plain.status, plain.express) == (301, False)
    assert (got.status, got.express, got.body["like_count"]) == (200, True, 1)
    assert got.headers["Strict-Transport-Security"].startswith("max-age=60")
    assert got.headers["X-Content-Type-Options"] == "nosniff"


def test_hosts_that_change_all_the_time_fill_no_memory(video: int, user: User) -> None:
    for number in range(1100):
        assert ask("PUT", like_path(video), HTTP_HOST=f"h{number}.example").status == 400
    assert len(application._frames) <= 1000


def test_it_is_throttled_as_the_whole_way(video: int, user: User, settings: Any) -> None:
    settings.VIDEOS_THROTTLE_RATES = {"like": "2/minute", "view": "2/minute"}
    got = [ask("PUT", like_path(video), **bearer(user)) for _ in range(3)]
    assert [(one.status, one.express) for one in got] == [(200, True), (200, True), (429, False)]
    assert int(got[2].headers["Retry-After"]) > 0
    seen = [ask("POST", view_path(video), b'{"viewer":"v%d"}' % n).status for n in range(3)]
    assert seen == [200, 200, 429]


@pytest.mark.usefixtures("redis_away")
def test_without_redis_it_writes_the_rows_and_says_so(video: int, user: User) -> None:
    liked = ask("PUT", like_path(video), **bearer(user))
    seen = ask("POST", view_path(video), VIEWED)
    assert [(got.status, got.express, got.headers["X-Counts"]) for got in (liked, seen)] == [(200, True, "stored")] * 2
    row = Video.objects.get(pk=video)
    assert (row.like_count, row.view_count) == (1, 1)


@pytest.mark.usefixtures("redis_silent")
def test_view_that_may_have_counted_is_not_tried_again(video: int) -> None:
    """The whole way would find Redis left alone, take it for away, and count the view in the rows."""
    got = ask("POST", view_path(video), VIEWED)
    assert (got.status, got.express) == (503, False)
    assert int(got.headers["Retry-After"]) > 0
    assert Video.objects.get(pk=video).view_count == 0


@pytest.mark.parametrize("away", ["redis_away", "redis_silent"])
def test_without_redis_reads_are_of_the_rows_and_say_so(
    away: str, video: int, user: User, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(away)
    for path, query in ((like_path(video), ""), (video_path(video), ""), (COUNTS, f"ids={video}"), (VIDEOS, "")):
        got = ask("GET", path, QUERY_STRING=query, **bearer(user))
        assert (got.status, got.express, got.headers.get("X-Counts")) == (200, True, "stored")


def test_read_that_fails_is_a_503_and_asked_once(video: int, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fail(*arguments: Any) -> Any:
        asked.append(arguments)
        raise OperationalError("gone")

    monkeypatch.setattr(reads, "_fetch", fail)
    monkeypatch.setattr(connection, "is_usable", lambda: True)
    for path, query in ((like_path(video), ""), (video_path(video), ""), (COUNTS, f"ids={video}"), (VIDEOS, "")):
        asked.clear()
        got = ask("GET", path, QUERY_STRING=query, **bearer(user))
        assert (got.status, got.express, len(asked)) == (503, False, 1)
        assert int(got.headers["Retry-After"]) > 0


@pytest.mark.parametrize("error", [services.VideoNotFound, services.Unavailable, services.UserNotFound])
def test_service_that_refuses_is_asked_once(
    video: int, user: User, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    asked = count()

    def refuse(**_: Any) -> Any:
        next(asked)
        raise error

    monkeypatch.setattr(services, "set_like", refuse)
    got = ask("PUT", like_path(video), **bearer(user))
    assert next(asked) == 1
    statuses: dict[type[Exception], int]
    statuses = {services.VideoNotFound: 404, services.Unavailable: 503, services.UserNotFound: 401}
    assert got.status == statuses[error]


def test_fault_of_ours_is_a_500_of_django_and_happens_once(
    video: int, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = count()

    def fail(**_: Any) -> Any:
        next(asked)
        raise ZeroDivisionError

    monkeypatch.setattr(counters, "set_mark", fail)
    got = ask("PUT", like_path(video), **bearer(user))
    assert (got.status, got.body) == (500, {"detail": "Internal server error."})
    assert next(asked) == 1
