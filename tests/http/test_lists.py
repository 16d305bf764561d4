"""Lists of videos, and the numbers of many at once."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.support.doors import Call, pages, round_trips, token_of
from tests.support.factories import make_video, make_videos
from videos.api.pagination import Cursor, Position
from videos.models import Video

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

HUGE = 2**63


def test_counts_come_in_the_order_asked_for_without_what_is_not_there(call: Call, owner: User, user: User) -> None:
    first, second = make_video(owner), make_video(owner)
    call("PUT", f"/api/videos/{second.id}/like/", user=user)
    response = call(
        "GET", f"/api/videos/counts/?ids={second.id},987654321,{HUGE},{'9' * 90},{first.id},{second.id}", user=user
    )
    assert response.json() == [
        {"id": second.id, "like_count": 1, "view_count": 0, "liked": True},
        {"id": first.id, "like_count": 0, "view_count": 0, "liked": False},
    ]


@pytest.mark.parametrize("query", ["", "?ids=", "?ids=a", "?ids=1,", "?ids=-1", "?ids=1.5", "?ids=%00", "?ids=²"])
def test_ids_that_are_no_numbers_are_refused(call: Call, query: str) -> None:
    assert list(call("GET", f"/api/videos/counts/{query}").json()) == ["ids"]


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
        *("search=%00", "search=" + "x" * 201),
    ],
    ids=lambda query: str(query[:24]),
)
def test_a_malformed_list_query_is_refused(call: Call, query: str) -> None:
    assert call("GET", f"/api/videos/?{query}").status_code == 400


def test_a_cursor_with_a_time_beyond_all_calendars_is_refused(call: Call) -> None:

    for number in (HUGE - 1, 1 - HUGE, HUGE, True, 1.5, "a", None):
        cursor = Cursor(Position(number, 1)).encode()
        assert call("GET", f"/api/videos/?cursor={cursor}").status_code == 400


def test_search_finds_all_words_in_title_or_description(call: Call, owner: User) -> None:
    for title, description in (("Red kites", "over hills"), ("red wine", ""), ("Hills", "red"), ("100%", "")):
        make_video(owner, title=title, description=description)

    def titles(query: str) -> set[str]:
        return {video["title"] for video in call("GET", f"/api/videos/?search={query}").json()["results"]}

    assert titles("red+hills") == {"Red kites", "Hills"}
    assert titles("%25") == {"100%"}
    assert titles("nothing") == set()


def test_lists_show_live_counts_and_whether_the_caller_likes(call: Call, video: Video, user: User) -> None:
    call("PUT", f"/api/videos/{video.id}/like/", user=user)
    call("POST", f"/api/videos/{video.id}/view/", user=user)
    shown = [call("GET", "/api/videos/", user=who).json()["results"][0] for who in (user, None)]
    assert [(row["like_count"], row["view_count"], row["liked"]) for row in shown] == [(1, 1, True), (1, 1, None)]
