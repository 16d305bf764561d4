"""Lists of videos, and the numbers of many at once."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.support.doors import Call, pages, round_trips, token_of
from tests.support.factories import make_video, make_videos
from videos import services
from videos.api.pagination import Cursor, Position
from videos.models import Video
from videos.services import SearchTimeout
from videos.words import words_of

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

HUGE = 2**63


def test_counts_come_in_the_order_asked_for_without_what_is_not_there(call: Call, owner: User, user: User) -> None:
    first, second = make_video(owner), make_video(owner)
    call("PUT", f"/api/videos/{second.id}/like/", user=user)
    response = call(
        "GET", f"/api/videos/counts/?ids={second.id},987654321,{HUGE},{'9' * 90},{first.id},{second.id}", user=user
    )
    assert response.json() == [
        {
            "id": second.id,
            "like_count": 1,
            "view_count": 0,
            "watch_seconds": 0,
            "dislike_count": 0,
            "liked": True,
            "rating": "like",
        },
        {
            "id": first.id,
            "like_count": 0,
            "view_count": 0,
            "watch_seconds": 0,
            "dislike_count": 0,
            "liked": False,
            "rating": None,
        },
    ]


@pytest.mark.parametrize("query", ["", "?ids=", "?ids=a", "?ids=1,", "?ids=-1", "?ids=1.5", "?ids=%00", "?ids=²"])
def test_ids_that_are_no_numbers_are_refused(call: Call, query: str) -> None:
    assert list(call("GET", f"/api/videos/counts/{query}").json()["errors"]) == ["ids"]


def test_a_hundred_ids_are_taken_and_not_one_more(call: Call) -> None:
    ids = [str(number) for number in range(1, 102)]
    statuses = [call("GET", f"/api/videos/counts/?ids={','.join(ids[:most])}").status_code for most in (100, 101)]
    assert statuses == [200, 400]


@pytest.mark.parametrize("path", ["/api/videos/?page_size=50", "/api/videos/counts/?ids={ids}"])
def test_reading_many_costs_what_reading_few_does(
    call: Call, owner: User, user: User, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    token = token_of(user)

    def cost() -> tuple[int, int]:
        ids = ",".join(map(str, Video.objects.values_list("pk", flat=True)))
        with CaptureQueriesContext(connection) as queries, round_trips(monkeypatch) as trips:
            assert call("GET", path.format(ids=ids), authorization=token).status_code == 200
        return len(queries), len(trips)

    for video_id in make_videos(2, owner):
        call("PUT", f"/api/videos/{video_id}/like/", user=user)
    make_videos(1, owner)
    few = cost()
    make_videos(48, owner)
    many = cost()
    assert few == many
    assert many[0] <= 2
    assert many[1] == 1


@pytest.mark.parametrize("ordering", ["-created_at", "-like_count", "-view_count", "created_at", "like_count"])
def test_pages_neither_skip_nor_repeat(call: Call, owner: User, ordering: str) -> None:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    for i in range(23):
        make_video(owner, like_count=i % 3, view_count=i // 5, created_at=moment + timedelta(days=i // 4))
    found, before = pages(call, f"/api/videos/?ordering={ordering}&page_size=4")
    ids = [video["id"] for page in found for video in page]
    sign = "-" if ordering.startswith("-") else ""
    assert ids == list(Video.objects.order_by(ordering, f"{sign}id").values_list("pk", flat=True))
    for page, url in zip(found[:-1], before[1:], strict=True):
        assert url is not None
        assert [v["id"] for v in call("GET", url).json()["results"]] == [v["id"] for v in page]


def test_pages_go_beyond_a_thousand_equal_counts(call: Call, owner: User) -> None:
    make_videos(1230, owner)
    found, _ = pages(call, "/api/videos/?ordering=-like_count&page_size=100")
    assert len({video["id"] for page in found for video in page}) == 1230


@pytest.mark.parametrize(
    "query",
    [
        *("ordering=title", "ordering=", "page_size=0", "page_size=101", "page_size=a", "page_size=-1"),
        *("cursor=a", "cursor=WzEsMl0=", "cursor=W10=", "cursor=bnVsbA==", "cursor=%ff", "cursor=" + "W1tb" * 5000),
        *("search=%00", "search=" + "x" * 201, "search=" + "a+" * 5000),
    ],
    ids=lambda query: str(query[:24]),
)
def test_a_malformed_list_query_is_refused(call: Call, query: str) -> None:
    assert call("GET", f"/api/videos/?{query}").status_code == 400


def test_a_cursor_with_a_time_beyond_all_calendars_is_refused(call: Call) -> None:

    for number in (HUGE - 1, 1 - HUGE, HUGE, True, 1.5, "a", None):
        cursor = Cursor(Position(number, 1)).encode()
        assert call("GET", f"/api/videos/?cursor={cursor}").status_code == 400


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("red hills", {"Red kites", "Hills"}),
        ("KIT", {"Red kites"}),
        ("cafe", {"Café 100%"}),
        ("100%", {"Café 100%"}),
        ("고양이", {"길고양이의 하루"}),
        ("하", {"길고양이의 하루"}),
        ("👍", {"👍"}),
        ("the and of", set()),
        ("nothing", set()),
        ("%", set()),
    ],
)
def test_search_finds_all_words_in_title_or_description(call: Call, owner: User, text: str, titles: set[str]) -> None:
    make_video(owner, title="Red kites", description="over hills")
    make_video(owner, title="Hills", description="red")
    for title in ("red wine", "Café 100%", "길고양이의 하루", "👍"):
        make_video(owner, title=title)
    found = call("GET", f"/api/videos/?search={quote(text)}").json()["results"]
    assert {video["title"] for video in found} == titles


@pytest.mark.parametrize(
    "text",
    [
        "+a -b", "~c", "(", '"', "'", "a' OR 1=1 --", "*", "@1", "<>", "NEAR(a b)", "a AND", "NOT", "title:a", "{",
        "\\", "\u202e", "\ud7fb", "\U0010ffff", "\ufffe", "\u200b", "\u0301", "%s %(a)s", "a " * 99,
        *(letter * 200 for letter in "x가👩ﷺİ"),
    ],
    ids=lambda text: ascii(text[:16]),
)  # fmt: skip
def test_no_text_breaks_a_search(call: Call, owner: User, text: str) -> None:
    make_video(owner, title=text, description="found")
    response = call("GET", f"/api/videos/?search={quote(text)}")
    assert response.status_code == 200
    assert len(response.json()["results"]) == bool(words_of(text))


def test_pages_of_a_search_neither_skip_nor_repeat(call: Call, owner: User) -> None:
    for i in range(23):
        make_video(owner, title="kites" if i % 2 else "red", like_count=i % 3)
    found, _ = pages(call, "/api/videos/?search=kit&ordering=-like_count&page_size=4")
    ids = [video["id"] for page in found for video in page]
    expected = Video.objects.filter(title="kites").order_by("-like_count", "-id")
    assert ids == list(expected.values_list("pk", flat=True))


def test_a_search_that_takes_too_long_is_answered_503(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(**_: object) -> None:
        raise SearchTimeout

    monkeypatch.setattr(services, "search_videos", late)
    response = call("GET", "/api/videos/?search=a")
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert "search" in response.json()["detail"]


def test_lists_show_live_counts_and_whether_the_caller_likes(call: Call, video: Video, user: User) -> None:
    call("PUT", f"/api/videos/{video.id}/like/", user=user)
    call("POST", f"/api/videos/{video.id}/view/", user=user)
    shown = [call("GET", "/api/videos/", user=who).json()["results"][0] for who in (user, None)]
    assert [(row["like_count"], row["view_count"], row["liked"]) for row in shown] == [(1, 1, True), (1, 1, None)]
