"""Both ways answer a reader the same: status, headers and bytes, from the express lane as from Django."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.support.doors import COUNTS, VIDEOS, Got, ask, bearer, headers, like_path, nobody, video_path
from tests.support.factories import make_videos
from videos import ledger
from videos.api.pagination import VideoPagination
from videos.changes import HOUR_SECONDS, Changes, TallyChange
from videos.models import Video

pytestmark = [pytest.mark.django_db(transaction=True)]

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
    "like of no video": ("GET", at("/api/videos/987654321/like/"), NO_QUERY, bearer, True),
    "like of no video, of nobody": ("GET", at("/api/videos/987654321/like/"), NO_QUERY, nobody, True),
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
    "counts of too many": ("GET", at(COUNTS), at("ids=" + ",".join(map(str, range(1, 102)))), bearer, True),
    "counts of a hundred": ("GET", at(COUNTS), at("ids=" + ",".join(map(str, range(1, 101)))), bearer, True),
    "counts with two lists": ("GET", at(COUNTS), lambda video: f"ids={video}&ids={video + 1}", bearer, False),
    "counts as XML": ("GET", at(COUNTS), lambda video: f"ids={video}&format=xml", bearer, False),
    "counts by HEAD": ("HEAD", at(COUNTS), ids, bearer, False),
    "counts by OPTIONS": ("OPTIONS", at(COUNTS), ids, bearer, False),
    "counts by POST": ("POST", at(COUNTS), ids, bearer, False),
    "video": ("GET", video_path, NO_QUERY, bearer, True),
    "video of nobody": ("GET", video_path, NO_QUERY, nobody, True),
    "no video": ("GET", at("/api/videos/987654321/"), NO_QUERY, bearer, True),
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
    "list by what it has no order of": ("GET", at(VIDEOS), at("ordering=title"), bearer, True),
    "list by an order that is none": ("GET", at(VIDEOS), at("ordering="), bearer, False),
    "list of no size": ("GET", at(VIDEOS), at("page_size=0"), bearer, True),
    "list of a size too large": ("GET", at(VIDEOS), at("page_size=101"), bearer, True),
    "list with two sizes": ("GET", at(VIDEOS), at("page_size=1&page_size=2"), bearer, False),
    "list with an end": ("GET", at(VIDEOS), at("page_size=1&"), bearer, False),
    "list with a beginning": ("GET", at(VIDEOS), at("&page_size=1"), bearer, False),
    "list from nowhere": ("GET", at(VIDEOS), at("cursor=W10%3D"), bearer, True),
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
    "token that is none": ("GET", at(VIDEOS), NEWEST, headers(HTTP_AUTHORIZATION="Bearer x.y.z"), True),
    "token of another scheme": ("GET", at(VIDEOS), NEWEST, headers(HTTP_AUTHORIZATION="Basic dTp1"), True),
    "token that has ended": ("GET", at(COUNTS), ids, lambda user: bearer(user, exp=1_000_000_000), True),
    "token of another scheme for counts": ("GET", at(COUNTS), ids, headers(HTTP_AUTHORIZATION="Basic dTp1"), True),
}  # fmt: skip


def both(settings: Any, method: str, path: str, **headers: Any) -> tuple[Got, Got]:
    """What the express lane and Django answer, which is the same."""
    answers = []
    for express in (True, False):
        settings.VIDEOS_EXPRESS = express
        answers.append(ask(method, path, **headers))
    quick, slow = answers
    assert quick._replace(express=False) == slow
    assert slow.status < 500
    return quick, slow


@pytest.mark.parametrize("name", READS)
def test_both_ways_answer_readers_the_same(name: str, user: User, settings: Any) -> None:
    method, path, query, of_user, by_itself = READS[name]
    video, *_ = make_videos(4)
    Video.objects.filter(pk=video).update(title='"\u2028\\ \u00e9\U0001f600', description="<a>\u2029\t\x7f")
    ask("PUT", like_path(video), **bearer(user))
    quick, _ = both(settings, method, path(video), **(of_user(user) | {"QUERY_STRING": query(video)}))
    assert quick.express is by_itself


@pytest.mark.parametrize("ordering", VideoPagination.orderings)
def test_both_ways_turn_the_same_pages(ordering: str, settings: Any) -> None:
    now = int(time.time()) // HOUR_SECONDS
    ledger.write_direct({video: Changes(tallies=[TallyChange("views", now, 1)]) for video in make_videos(5)})
    query, turned = f"ordering={ordering}&page_size=2", []
    for link in ("next", "next", "previous", "previous"):
        quick, _ = both(settings, "GET", VIDEOS, QUERY_STRING=query)
        assert quick.express
        turned.append(quick.body)
        query = quick.body[link].partition("?")[2]
    first, second, _, back = ([video["id"] for video in page["results"]] for page in turned)
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
@hypothesis_settings(max_examples=150)
def test_both_ways_read_any_query_the_same(user: User, settings: Any, path: str, query: str, known: bool) -> None:
    both(settings, "GET", path, QUERY_STRING=query, **(bearer(user) if known else {}))
