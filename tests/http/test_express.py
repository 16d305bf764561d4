"""The express lane: what it takes, and what it does when something is away or fails."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.signals import got_request_exception
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.urls import resolve

from tests.support.doors import COUNTS, VIDEOS, VIEWED, ask, bearer, like_path, video_path, view_path
from videos import counters
from videos.api.frames import PATHS
from videos.ledger import reads as rows
from videos.models import Video

pytestmark = [pytest.mark.django_db(transaction=True)]


def reads(video_id: int) -> tuple[tuple[str, str], ...]:
    """Path and query of the usual reads."""
    return (like_path(video_id), ""), (COUNTS, f"ids={video_id}"), (video_path(video_id), ""), (VIDEOS, "")


def test_usual_likes_and_views_take_it(video_id: int, user: User) -> None:
    token = bearer(user)
    for method, liked in (("PUT", True), ("DELETE", False), ("POST", True), ("PUT", True)):
        got = ask(method, like_path(video_id), **token)
        numbers = {"liked": liked, "like_count": int(liked), "rating": "like" if liked else None, "dislike_count": 0}
        assert (got.status, got.body, got.express) == (200, {"id": video_id, **numbers}, True)
    for headers, viewer in (({}, b'{"viewer":"me"}'), (token, b'{"watched":31}')):
        got = ask("POST", view_path(video_id), viewer, **headers)
        assert (got.status, got.body["reason"], got.express) == (200, "new", True)


def test_reads_take_it(video_id: int, user: User) -> None:
    token = bearer(user)
    ask("PUT", like_path(video_id), **token)
    asked = [ask("GET", path, QUERY_STRING=query, **token) for path, query in reads(video_id)]
    assert [(got.status, got.express) for got in asked] == [(200, True)] * 4
    like, counts, one, page = (got.body for got in asked)
    for shown in (like, counts[0], one, page["results"][0]):
        assert (shown["id"], shown["liked"], shown["like_count"]) == (video_id, True, 1)


def test_its_addresses_are_those_of_the_views() -> None:
    for address, path in PATHS.items():
        match = resolve(path)
        assert (match.url_name, match.func.view_class.address) == (address, address)  # type: ignore[attr-defined]


def test_warm_like_and_view_ask_the_database_nothing(
    video_id: int, user: User, django_assert_num_queries: Callable[[int], CaptureQueriesContext]
) -> None:
    token = bearer(user)
    ask("PUT", like_path(video_id), **token)
    with django_assert_num_queries(0):
        assert ask("DELETE", like_path(video_id), **token).express
        assert ask("POST", view_path(video_id), b'{"viewer":"v"}').express


@pytest.mark.usefixtures("redis_away")
def test_without_redis_it_writes_the_rows_and_says_so(video_id: int, user: User) -> None:
    liked = ask("PUT", like_path(video_id), **bearer(user))
    seen = ask("POST", view_path(video_id), VIEWED)
    assert [(got.status, got.express, got.headers["X-Counts"]) for got in (liked, seen)] == [(200, True, "stored")] * 2
    row = Video.objects.get(pk=video_id)
    assert (row.like_count, row.view_count) == (1, 1)


@pytest.mark.usefixtures("redis_silent")
def test_view_that_may_have_counted_is_not_tried_again(video_id: int) -> None:
    """Django would find Redis left alone, take it for away, and count the view in the rows."""
    got = ask("POST", view_path(video_id), VIEWED)
    assert (got.status, got.express) == (503, True)
    assert int(got.headers["Retry-After"]) > 0
    assert Video.objects.get(pk=video_id).view_count == 0


@pytest.mark.parametrize("away", ["redis_away", "redis_silent"])
def test_without_redis_reads_are_of_the_rows_and_say_so(
    away: str, video_id: int, user: User, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(away)
    for path, query in reads(video_id):
        got = ask("GET", path, QUERY_STRING=query, **bearer(user))
        assert (got.status, got.express, got.headers.get("X-Counts")) == (200, True, "stored")


def test_read_that_fails_is_a_503_and_asked_once(video_id: int, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fail(*arguments: Any) -> Any:
        asked.append(arguments)
        raise OperationalError("gone")

    monkeypatch.setattr(rows, "_fetch", fail)
    monkeypatch.setattr(connection, "is_usable", lambda: True)
    for path, query in reads(video_id):
        asked.clear()
        got = ask("GET", path, QUERY_STRING=query, **bearer(user))
        assert (got.status, got.express, len(asked)) == (503, True, 1)
        assert int(got.headers["Retry-After"]) > 0


def test_fault_of_ours_is_a_500_that_happens_once_and_is_reported_as_django_does(
    video_id: int, user: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked, reported = count(), []

    def fail(**_: Any) -> Any:
        next(asked)
        raise ZeroDivisionError

    def note(request: Any, **_: Any) -> None:
        reported.append(request.path)

    monkeypatch.setattr(counters, "set_mark", fail)
    got_request_exception.connect(note)
    got = ask("PUT", like_path(video_id), **bearer(user))
    got_request_exception.disconnect(note)
    assert (got.status, got.body, got.express) == (
        500,
        {"detail": "Internal server error.", "code": "internal_error"},
        True,
    )
    assert (next(asked), reported) == (1, [like_path(video_id)])
    (record,) = [record for record in caplog.records if record.name == "django.request"]
    assert (record.levelname, record.exc_info is not None) == ("ERROR", True)
    assert record.status_code == 500  # type: ignore[attr-defined]
