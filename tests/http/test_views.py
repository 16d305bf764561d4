"""The API as its clients meet it: each call, each error, and what a call costs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import IntegrityError, OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rest_framework.exceptions import ValidationError

from videos import serializers, services
from videos.api.tokens import RefreshToken
from videos.counters.connection import Lease
from videos.flush import run_flush
from videos.ledger import reads
from videos.models import Video, VideoHour, VideoLike

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
HUGE = 2**63
Call = Callable[..., Any]


@pytest.fixture
def owner() -> User:
    return User.objects.create(username="owner")


@pytest.fixture
def user() -> User:
    return User.objects.create(username="user")


@pytest.fixture
def staff() -> User:
    return User.objects.create(username="staff", is_staff=True)


@pytest.fixture
def video(owner: User) -> Video:
    return Video.objects.create(title="one", url="https://example.com/1.mp4", owner=owner, duration=100)


@pytest.fixture
def call() -> Call:
    """`call("PUT", "/api/…", user=…, body=…)`: one request, whose errors are answers."""
    client = Client(raise_request_exception=False, headers={"user-agent": BROWSER})

    def send(method: str, path: str, *, user: User | None = None, body: Any = None, **headers: str) -> Any:
        if user is not None:
            headers["authorization"] = f"Bearer {RefreshToken.of(user).access_token}"
        data = body if isinstance(body, bytes | str) else "" if body is None else json.dumps(body)
        return client.generic(method, path, data, content_type="application/json", headers=headers)

    return send


@contextmanager
def round_trips(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The number of commands in each round trip to Redis."""
    seen: list[int] = []
    exchange = Lease.ask

    def spy(self: Any, commands: Any, timeout: Any) -> Any:
        seen.append(len(commands))
        return exchange(self, commands, timeout)

    with monkeypatch.context() as patch:
        patch.setattr(Lease, "ask", spy)
        yield seen


def make_videos(owner: User, number: int, **values: Any) -> list[Video]:
    return [
        Video.objects.create(title=f"video {i}", url=f"https://example.com/{i}", owner=owner, **values)
        for i in range(number)
    ]


# Likes


def test_like_is_answered_with_its_state(call: Call, video: Video, user: User) -> None:
    response = call("PUT", f"/api/videos/{video.id}/like/", user=user)
    assert (response.status_code, response.json()) == (200, {"id": video.id, "liked": True, "like_count": 1})


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_repeated_like_changes_nothing(call: Call, video: Video, user: User, method: str) -> None:
    counts = [call(method, f"/api/videos/{video.id}/like/", user=user).json()["like_count"] for _ in range(3)]
    assert counts == [1, 1, 1]


def test_unlike_takes_the_like_back(call: Call, video: Video, user: User) -> None:
    call("PUT", f"/api/videos/{video.id}/like/", user=user)
    for _ in range(2):
        response = call("DELETE", f"/api/videos/{video.id}/like/", user=user)
        assert response.json() == {"id": video.id, "liked": False, "like_count": 0}


def test_a_reader_sees_the_own_like_at_once(call: Call, video: Video, user: User, owner: User) -> None:
    call("PUT", f"/api/videos/{video.id}/like/", user=user)
    liked = [
        call("GET", f"/api/videos/{video.id}/like/", user=reader).json()["liked"] for reader in (user, owner, None)
    ]
    assert liked == [True, False, None]


def test_anonymous_callers_cannot_like(call: Call, video: Video) -> None:
    response = call("PUT", f"/api/videos/{video.id}/like/")
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="api"'


@pytest.mark.parametrize("number", [0, 987_654_321, HUGE - 1, HUGE, 10**50])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("PUT", "like"), ("DELETE", "like"), ("GET", "like"), ("GET", "likes"), ("POST", "view")),
        *(("GET", ""), ("PATCH", ""), ("DELETE", "")),
    ],
)
def test_a_video_that_is_not_there_is_not_found(call: Call, user: User, method: str, path: str, number: int) -> None:
    url = f"/api/videos/{number}/{path}/" if path else f"/api/videos/{number}/"
    response = call(method, url, user=user, body={} if method in {"POST", "PATCH"} else None)
    assert response.status_code == 404
    assert list(response.json()) == ["detail"]


def test_a_warm_like_costs_one_round_trip_and_no_query(
    call: Call, video: Video, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = f"Bearer {RefreshToken.of(user).access_token}"
    call("PUT", f"/api/videos/{video.id}/like/", authorization=token)
    for method in ("DELETE", "PUT"):
        with CaptureQueriesContext(connection) as queries, round_trips(monkeypatch) as trips:
            response = call(method, f"/api/videos/{video.id}/like/", authorization=token)
        assert (response.status_code, len(queries), len(trips)) == (200, 0, 1)


# Views


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (None, "new"),
        ({}, "new"),
        ({"viewer": "a"}, "new"),
        ({"viewer": None, "watched": None}, "new"),
        ({"viewer": "A-z.0_9:+/=~", "watched": 30}, "new"),
        ({"viewer": "x" * 64, "watched": 1e9}, "new"),
        ({"watched": 29.9}, "short"),
        ({"watched": 0}, "short"),
    ],
)
def test_view_says_whether_it_counted(call: Call, video: Video, body: Any, reason: str) -> None:
    answer = call("POST", f"/api/videos/{video.id}/view/", body=body).json()
    new = reason == "new"
    assert answer == {"id": video.id, "counted": new, "reason": reason, "view_count": int(new)}


def test_the_same_viewer_counts_once(call: Call, video: Video, user: User) -> None:
    def reason(**who: Any) -> str:
        return str(call("POST", f"/api/videos/{video.id}/view/", **who).json()["reason"])

    viewers: list[dict[str, Any]] = [
        {"user": user},
        {"body": {"viewer": "a"}},
        {"body": {"viewer": "b"}},
        {},
        {"user_agent": "Safari"},
    ]
    assert [reason(**who) for who in viewers] == ["new"] * 5
    assert [reason(**who) for who in viewers] == ["seen"] * 5


def test_the_owners_own_views_do_not_count(call: Call, video: Video, owner: User) -> None:
    answer = call("POST", f"/api/videos/{video.id}/view/", user=owner).json()
    assert (answer["counted"], answer["reason"]) == (False, "owner")


def test_bots_do_not_count(call: Call, video: Video) -> None:
    agent = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    answer = call("POST", f"/api/videos/{video.id}/view/", body={"viewer": "a"}, user_agent=agent).json()
    assert (answer["counted"], answer["reason"]) == (False, "bot")


def test_views_of_one_address_are_capped_but_not_those_of_users(
    call: Call, video: Video, user: User, settings: Any
) -> None:
    settings.VIDEOS_VIEW_ADDRESS_LIMIT = 2
    path = f"/api/videos/{video.id}/view/"
    reasons = [call("POST", path, body={"viewer": f"v{i}"}).json()["reason"] for i in range(4)]
    assert reasons == ["new", "new", "address", "address"]
    assert call("POST", path, user=user).json()["reason"] == "new"


def test_a_warm_view_costs_one_round_trip_and_no_query(
    call: Call, video: Video, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("POST", f"/api/videos/{video.id}/view/", body={"viewer": "a"})
    with CaptureQueriesContext(connection) as queries, round_trips(monkeypatch) as trips:
        answer = call("POST", f"/api/videos/{video.id}/view/", body={"viewer": "b", "watched": 40}).json()
    assert (answer["counted"], len(queries), len(trips)) == (True, 0, 1)


@pytest.mark.parametrize(
    "body",
    [
        *('{"viewer":', "[1]", "null", '"text"', "17", '{"viewer": 17}', '{"viewer": ""}', '{"viewer": []}'),
        *('{"viewer": "a b"}', '{"viewer": "a\\u0000"}', '{"viewer": "\\ud800"}', '{"viewer": "@9"}'),
        *('{"viewer": "' + "x" * 65 + '"}', '{"watched": "12"}', '{"watched": true}', '{"watched": -1}'),
        *('{"watched": NaN}', '{"watched": Infinity}', '{"watched": 1e999}', '{"watched": ' + "9" * 400 + "}"),
        *(
            '{"watched": ' + "9" * 5000 + "}",
            "[" * 100_000,
            '{"a":' * 50_000,
            b'{"viewer": "\xff"}',
            b"\x00",
            b"\xef\xbb\xbf{}",
        ),
    ],
    ids=lambda body: str(body[:24]),
)
def test_a_malformed_view_is_refused(call: Call, video: Video, body: Any) -> None:
    assert call("POST", f"/api/videos/{video.id}/view/", body=body).status_code == 400


def test_a_body_that_is_too_large_is_refused(call: Call, video: Video, staff: User) -> None:
    body = b" " * 1_000_001
    statuses = [
        call(method, path, user=staff, body=body).status_code
        for method, path in (
            ("POST", f"/api/videos/{video.id}/view/"),
            ("POST", "/api/views/"),
            ("POST", "/api/videos/"),
            ("PATCH", f"/api/videos/{video.id}/"),
            ("POST", "/api/token/"),
        )
    ]
    assert statuses == [413] * 5


def test_a_body_that_is_not_json_is_refused(video: Video) -> None:
    response = Client().post(f"/api/videos/{video.id}/view/", "viewer=a", content_type="text/plain")
    assert response.status_code == 415


def test_a_client_that_takes_no_json_is_told(call: Call, video: Video) -> None:
    assert call("GET", f"/api/videos/{video.id}/like/", accept="text/html").status_code == 406


@pytest.mark.parametrize(
    ("method", "path"), [("PATCH", "1/like/"), ("PUT", "1/"), ("GET", "1/view/"), ("DELETE", ""), ("POST", "counts/")]
)
def test_a_wrong_method_is_told_which_there_are(call: Call, staff: User, method: str, path: str) -> None:
    response = call(method, f"/api/videos/{path}", user=staff)
    assert response.status_code == 405
    assert method not in response.headers["Allow"].split(", ")


# Batches of views


def event(video: int, viewer: str = "a", **more: Any) -> dict[str, Any]:
    return {"video": video, "viewer": viewer, **more}


def test_batch_counts_views_and_sums_up_what_it_ignored(call: Call, video: Video, staff: User) -> None:
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    events = [
        *(event(video.id), event(video.id), event(video.id, "b", at=hour_ago), event(video.id, "c", watched=1)),
        *(event(987_654_321), event(HUGE), event(-1), event(0)),
    ]
    answer = call("POST", "/api/views/", user=staff, body={"events": events}).json()
    assert answer == {"counted": 2, "ignored": {"absent": 4, "seen": 1, "short": 1}}


@pytest.mark.parametrize("form", ["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S+00:00", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"])
def test_events_count_in_the_hour_that_they_name(call: Call, video: Video, staff: User, form: str) -> None:
    moment = datetime.now(UTC).replace(minute=30, second=0, microsecond=0) - timedelta(hours=5)
    body = {"events": [event(video.id, at=moment.strftime(form))]}
    assert call("POST", "/api/views/", user=staff, body=body).json() == {"counted": 1, "ignored": {}}
    run_flush()
    assert VideoHour.objects.get().hour == moment.replace(minute=0)


def test_batch_takes_a_thousand_events_and_not_one_more(call: Call, video: Video, staff: User) -> None:
    events = [event(video.id, f"v{i}") for i in range(1001)]
    answer = call("POST", "/api/views/", user=staff, body={"events": events[:1000]})
    assert answer.json() == {"counted": 1000, "ignored": {}}
    assert call("POST", "/api/views/", user=staff, body={"events": events}).status_code == 400


def test_batch_names_each_faulty_event(call: Call, video: Video, staff: User) -> None:
    future = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    long_ago = (datetime.now(UTC) - timedelta(days=8)).isoformat()
    events = [
        *(event(video.id), {"video": video.id}, event(video.id, at=future), event(video.id, at=long_ago)),
        *(event(video.id, at="yesterday"), event(video.id, watched=-1), 7, {"video": "1", "viewer": "a"}),
    ]
    response = call("POST", "/api/views/", user=staff, body={"events": events})
    assert response.status_code == 400
    assert {place: list(fault) for place, fault in response.json()["events"].items()} == {
        "1": ["viewer"],
        "2": ["at"],
        "3": ["at"],
        "4": ["at"],
        "5": ["watched"],
        "6": ["non_field_errors"],
        "7": ["video"],
    }
    assert call("POST", f"/api/videos/{video.id}/view/", body={"viewer": "a"}).json()["counted"]


@pytest.mark.parametrize("body", [{}, [], {"events": None}, {"events": {}}, {"events": "a"}, {"events": 1}])
def test_a_batch_that_is_no_list_is_refused(call: Call, staff: User, body: Any) -> None:
    assert call("POST", "/api/views/", user=staff, body=body).status_code == 400


def test_batches_are_for_staff_and_trusted_clients(call: Call, user: User) -> None:
    body: dict[str, Any] = {"events": []}
    assert [call("POST", "/api/views/", user=who, body=body).status_code for who in (None, user)] == [401, 403]
    user.user_permissions.add(Permission.objects.get(codename="send_views"))
    trusted = User.objects.get(pk=user.pk)
    assert call("POST", "/api/views/", user=trusted, body=body).json() == {"counted": 0, "ignored": {}}


def test_a_batch_speaks_for_others_whatever_sends_it(call: Call, video: Video, owner: User) -> None:
    owner.is_staff = True
    agent = "Googlebot/2.1"
    answer = call("POST", "/api/views/", user=owner, body={"events": [event(video.id)]}, user_agent=agent).json()
    assert answer == {"counted": 1, "ignored": {}}


def test_a_batch_costs_one_round_trip(call: Call, staff: User, owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = make_videos(owner, 20)
    token = f"Bearer {RefreshToken.of(staff).access_token}"

    def send(viewer: str) -> None:
        events = [event(video.id, f"{viewer}{i}") for i in range(10) for video in videos]
        assert call("POST", "/api/views/", authorization=token, body={"events": events}).json()["counted"] == 200

    send("warm")
    with CaptureQueriesContext(connection) as queries, round_trips(monkeypatch) as trips:
        send("x")
    assert (len(queries), len(trips)) == (0, 1)


# Numbers


def test_counts_come_in_the_order_asked_for_without_what_is_not_there(call: Call, owner: User, user: User) -> None:
    first, second = make_videos(owner, 2)
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
    token = f"Bearer {RefreshToken.of(user).access_token}"

    def cost() -> tuple[int, int]:
        ids = ",".join(map(str, Video.objects.values_list("pk", flat=True)))
        with CaptureQueriesContext(connection) as queries, round_trips(monkeypatch) as trips:
            assert call("GET", path.format(ids=ids), authorization=token).status_code == 200
        return len(queries), len(trips)

    for video in make_videos(owner, 2):
        call("PUT", f"/api/videos/{video.id}/like/", user=user)
    make_videos(owner, 1)
    few = cost()
    make_videos(owner, 48)
    many = cost()
    assert few == many
    assert many[0] <= 2
    assert many[1] == 1


# Lists of videos


def pages(call: Call, path: str, key: str = "results", **who: Any) -> tuple[list[list[Any]], list[str | None]]:
    """All pages from the first on, and the URL before each."""
    found, before = [], []
    url: str | None = path
    while url:
        answer = call("GET", url.removeprefix("http://testserver"), **who).json()
        found.append(answer[key])
        before.append(answer["previous"])
        url = answer["next"]
    return found, before


@pytest.mark.parametrize("ordering", ["-created_at", "-like_count", "-view_count", "created_at", "like_count"])
def test_pages_neither_skip_nor_repeat(call: Call, owner: User, ordering: str) -> None:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    Video.objects.bulk_create(
        Video(
            title="t",
            url="u",
            owner=owner,
            like_count=i % 3,
            view_count=i // 5,
            created_at=moment + timedelta(days=i // 4),
        )
        for i in range(23)
    )
    found, before = pages(call, f"/api/videos/?ordering={ordering}&page_size=4")
    ids = [video["id"] for page in found for video in page]
    sign = "-" if ordering.startswith("-") else ""
    assert ids == list(Video.objects.order_by(ordering, f"{sign}id").values_list("pk", flat=True))
    for page, url in zip(found[:-1], before[1:], strict=True):
        assert url is not None
        assert [v["id"] for v in call("GET", url).json()["results"]] == [v["id"] for v in page]


def test_pages_go_beyond_a_thousand_equal_counts(call: Call, owner: User) -> None:
    Video.objects.bulk_create(Video(title="t", url="u", owner=owner) for _ in range(1230))
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
    from videos.pagination import Cursor, Position

    for number in (HUGE - 1, 1 - HUGE, HUGE, True, 1.5, "a", None):
        cursor = Cursor(Position(number, 1)).encode()
        assert call("GET", f"/api/videos/?cursor={cursor}").status_code == 400


def test_search_finds_all_words_in_title_or_description(call: Call, owner: User) -> None:
    for title, description in (("Red kites", "over hills"), ("red wine", ""), ("Hills", "red"), ("100%", "")):
        Video.objects.create(title=title, description=description, url="https://example.com", owner=owner)

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


# Making, editing and deleting videos


def test_a_user_adds_a_video(call: Call, user: User) -> None:
    body = {"title": "Mine", "url": "https://example.com/1", "duration": 60, "owner": 1, "like_count": 9, "id": 5}
    response = call("POST", "/api/videos/", user=user, body=body)
    video = Video.objects.get()
    assert response.status_code == 201
    assert response.json() == {
        "id": video.id,
        "title": "Mine",
        "description": "",
        "url": "https://example.com/1",
        "duration": 60,
        "owner": user.id,
        "created_at": video.created_at.isoformat().replace("+00:00", "Z"),
        "like_count": 0,
        "view_count": 0,
        "liked": False,
    }


@pytest.mark.parametrize(
    "values",
    [
        *({"title": ""}, {"title": None}, {"title": 5}, {"title": "a\0"}, {"title": "\ud800"}, {"title": "x" * 201}),
        *({"url": "javascript:alert(1)"}, {"url": "x"}, {"url": "https://e.org/" + "x" * 500}, {"url": {}}),
        *({"duration": -1}, {"duration": 2**31}, {"duration": 1.5}, {"duration": "60"}, {"duration": True}),
        *({"duration": 10**400}, {"description": "x" * 5001}, {"description": []}),
    ],
    ids=str,
)
def test_a_malformed_video_is_refused(call: Call, user: User, values: Mapping[str, Any]) -> None:
    body = {"title": "t", "url": "https://example.com/1", **values}
    response = call("POST", "/api/videos/", user=user, body=body)
    assert (response.status_code, list(response.json())) == (400, list(values))


def test_a_token_outlives_its_user_without_harm(call: Call, video: Video, user: User) -> None:
    token = f"Bearer {RefreshToken.of(user).access_token}"
    user.delete()
    body = {"title": "t", "url": "https://example.com/1"}
    response = call("POST", "/api/videos/", authorization=token, body=body)
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, 'Bearer realm="api"')
    for path in ("/api/me/likes/", "/api/videos/", f"/api/videos/{video.id}/like/"):
        assert call("GET", path, authorization=token).status_code == 200


def test_only_the_owner_and_staff_edit_a_video(call: Call, video: Video, owner: User, user: User, staff: User) -> None:
    path = f"/api/videos/{video.id}/"
    body = {"title": "new", "like_count": 9, "view_count": 9, "owner": user.id}
    assert [call("PATCH", path, user=who, body=body).status_code for who in (None, user, staff, owner)] == [
        401,
        403,
        200,
        200,
    ]
    video.refresh_from_db()
    assert (video.title, video.like_count, video.view_count, video.owner) == ("new", 0, 0, owner)


def test_editing_does_not_touch_counts_that_move(call: Call, video: Video, owner: User, user: User) -> None:
    call("PUT", f"/api/videos/{video.id}/like/", user=user)
    answer = call("PATCH", f"/api/videos/{video.id}/", user=owner, body={"title": "new"}).json()
    run_flush()
    video.refresh_from_db()
    assert (answer["like_count"], video.like_count, video.title) == (1, 1, "new")


def test_a_video_that_is_deleted_while_it_is_edited_is_not_found(
    call: Call, video: Video, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Video.save

    def delete_and_save(self: Video, **options: Any) -> None:
        Video.objects.filter(pk=self.pk).delete()
        save(self, **options)

    monkeypatch.setattr(Video, "save", delete_and_save)
    response = call("PATCH", f"/api/videos/{video.id}/", user=owner, body={"title": "new"})
    assert (response.status_code, response.json()) == (404, {"detail": "No such video."})


def test_an_edited_duration_takes_part_in_the_view_rules_at_once(call: Call, video: Video, owner: User) -> None:
    call("POST", f"/api/videos/{video.id}/view/", body={"viewer": "warm"})
    call("PATCH", f"/api/videos/{video.id}/", user=owner, body={"duration": 10})
    answer = call("POST", f"/api/videos/{video.id}/view/", body={"viewer": "a", "watched": 6}).json()
    assert answer["reason"] == "new"


def test_only_the_owner_and_staff_delete_a_video(call: Call, video: Video, owner: User, user: User) -> None:
    call("PUT", f"/api/videos/{video.id}/like/", user=user)
    path = f"/api/videos/{video.id}/"
    assert [call("DELETE", path, user=who).status_code for who in (None, user, owner, owner)] == [401, 403, 204, 404]
    assert run_flush().dropped == 1
    assert call("PUT", f"{path}like/", user=user).status_code == 404


# Who likes it, what I like


def test_my_likes_begin_with_my_last_one(call: Call, owner: User, user: User) -> None:
    first, second, third = make_videos(owner, 3)
    call("PUT", f"/api/videos/{first.id}/like/", user=user)
    run_flush()
    for video in (second, third):
        call("PUT", f"/api/videos/{video.id}/like/", user=user)
    call("DELETE", f"/api/videos/{second.id}/like/", user=user)
    results = call("GET", "/api/me/likes/", user=user).json()["results"]
    assert [row["video"]["id"] for row in results] == [third.id, first.id]
    assert results[0]["video"]["like_count"] == 1
    assert results[0]["video"]["liked"] is True


def test_my_unlike_leaves_my_likes_before_it_is_flushed(call: Call, video: Video, user: User) -> None:
    call("PUT", f"/api/videos/{video.id}/like/", user=user)
    run_flush()
    call("DELETE", f"/api/videos/{video.id}/like/", user=user)
    assert VideoLike.objects.count() == 1
    assert call("GET", "/api/me/likes/", user=user).json()["results"] == []


@pytest.mark.parametrize("flushed", [0, 7, 15])
def test_pages_of_my_likes_neither_skip_nor_repeat(call: Call, owner: User, user: User, flushed: int) -> None:
    videos = make_videos(owner, 15)
    for i, video in enumerate(videos):
        if i == flushed:
            run_flush()
        call("PUT", f"/api/videos/{video.id}/like/", user=user)
    url: str | None = "/api/me/likes/?page_size=4"
    seen = []
    while url:
        answer = call("GET", url, user=user).json()
        seen += [row["video"]["id"] for row in answer["results"]]
        url = answer["next"]
        run_flush()  # what was pending on one page is a row on the next
    assert seen == [video.id for video in reversed(videos)]
    _, before = pages(call, "/api/me/likes/?page_size=4", user=user)
    back = call("GET", before[-1], user=user).json()["results"]
    assert [row["video"]["id"] for row in back] == seen[8:12]


def test_my_likes_are_for_users(call: Call) -> None:
    assert call("GET", "/api/me/likes/").status_code == 401


def test_who_likes_it_comes_newest_first_with_my_own_like_at_once(call: Call, video: Video, user: User) -> None:
    fans = [User.objects.create(username=f"fan{i}") for i in range(3)]
    for fan in fans:
        call("PUT", f"/api/videos/{video.id}/like/", user=fan)
    run_flush()
    call("PUT", f"/api/videos/{video.id}/like/", user=user)

    def names(**who: Any) -> list[str]:
        found, _ = pages(call, f"/api/videos/{video.id}/likes/?page_size=2", **who)
        return [like["username"] for page in found for like in page]

    assert names(user=user) == ["user", "fan2", "fan1", "fan0"]
    assert names() == ["fan2", "fan1", "fan0"]
    call("DELETE", f"/api/videos/{video.id}/like/", user=fans[1])
    assert names(user=fans[1]) == ["fan2", "fan0"]


# When something is away


@pytest.mark.usefixtures("redis_away")
def test_without_redis_everything_goes_on_from_the_rows(call: Call, video: Video, user: User, owner: User) -> None:
    path = f"/api/videos/{video.id}/"
    answers = [
        call("PUT", f"{path}like/", user=user),
        call("POST", f"{path}view/", user=user),
        call("GET", f"{path}like/", user=user),
        call("GET", path),
        call("GET", "/api/videos/"),
        call("GET", f"/api/videos/counts/?ids={video.id}"),
        call("GET", "/api/me/likes/", user=user),
        call("GET", f"{path}likes/", user=user),
        call("GET", "/api/me/likes/", user=owner),
    ]
    assert [answer.status_code for answer in answers] == [200] * 9
    assert [answer.headers.get("X-Counts") for answer in answers] == ["stored"] * 9
    video.refresh_from_db()
    assert (video.like_count, video.view_count) == (1, 1)


def test_answers_from_redis_do_not_say_stored(call: Call, video: Video, user: User) -> None:
    answers = [call("PUT", f"/api/videos/{video.id}/like/", user=user), call("GET", "/api/videos/")]
    assert not any("X-Counts" in answer.headers for answer in answers)


@pytest.mark.parametrize("error", [OperationalError("gone"), services.Unavailable()])
def test_an_outage_is_answered_with_when_to_come_back(
    call: Call, video: Video, user: User, *, monkeypatch: pytest.MonkeyPatch, settings: Any, error: Exception
) -> None:
    settings.VIDEOS_RETRY_AFTER_SECONDS = 7

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    for name in ("read_facts", "read_facts_and_state"):
        monkeypatch.setattr(reads, name, fail)
    for method, path in (("PUT", "like"), ("POST", "view")):
        response = call(method, f"/api/videos/{video.id}/{path}/", user=user)
        assert (response.status_code, response.headers["Retry-After"]) == (503, "7")
        assert "detail" in response.json()


def test_a_database_outage_in_a_list_is_answered_with_when_to_come_back(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr(connection, "ensure_connection", fail)
    monkeypatch.setattr(connection, "cursor", fail)
    response = call("GET", "/api/videos/")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")


# Paths that no view has


def test_an_unknown_path_of_the_api_is_answered_in_json(call: Call) -> None:
    response = call("GET", "/api/nothing/")
    assert (response.status_code, response.json()) == (404, {"detail": "Not found."})


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(("method", "path"), [("PUT", "like"), ("POST", "like"), ("DELETE", "like"), ("POST", "view")])
def test_a_write_without_the_slash_is_told_where_it_goes(
    call: Call, video: Video, settings: Any, *, method: str, path: str, debug: bool
) -> None:
    settings.DEBUG = debug
    url = f"/api/videos/{video.id}/{path}"
    response = call(method, url)
    assert response.status_code == 404
    assert response.json() == {"detail": f"Not found. The path ends with a slash: {url}/"}


def test_a_read_without_the_slash_is_sent_there(call: Call) -> None:
    response = call("GET", "/api/videos/counts?ids=1,2")
    assert (response.status_code, response.headers["Location"]) == (301, "/api/videos/counts/?ids=1,2")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_path_without_the_slash_is_not_found(call: Call, method: str) -> None:
    response = call(method, "/api/nothing")
    assert (response.status_code, response.json()) == (404, {"detail": "Not found."})


def test_a_write_without_the_slash_needs_no_csrf_token_to_be_told(video: Video) -> None:
    response = Client(enforce_csrf_checks=True).post(f"/api/videos/{video.id}/like")
    assert (response.status_code, list(response.json())) == (404, ["detail"])


def test_an_unknown_path_elsewhere_is_answered_with_a_page(call: Call) -> None:
    response = call("GET", "/nothing")
    assert (response.status_code, response.headers["Content-Type"]) == (404, "text/html; charset=utf-8")


def test_a_request_with_too_many_fields_is_answered_in_json(call: Call) -> None:
    response = call("GET", "/api/videos/?" + "a&" * 2000)
    assert (response.status_code, list(response.json())) == (400, ["detail"])


def test_an_unknown_host_is_answered_in_json(call: Call) -> None:
    response = call("GET", "/api/videos/", host="elsewhere.example")
    assert (response.status_code, list(response.json())) == (400, ["detail"])


@pytest.mark.parametrize("charset", ["zlib", "idna", "undefined", "rot13", "utf-16", "x'y"])
def test_a_charset_that_is_no_text_encoding_is_overlooked(call: Call, charset: str) -> None:
    from streaming.wsgi import Request

    environ = call("GET", "/api/videos/?search=%ff").wsgi_request.environ
    for content_type in (f"application/json; charset={charset}", f"application/json; a*={charset}''b"):
        assert "search" in Request({**environ, "CONTENT_TYPE": content_type}).GET


# The quick way through is the way through


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
moments = st.datetimes(timezones=st.sampled_from([UTC])).map(datetime.isoformat) | st.timedeltas(
    timedelta(days=-9), timedelta(minutes=3)
).map(lambda age: (datetime.now(UTC) + age).isoformat())
view_bodies = json_values | st.fixed_dictionaries(
    {},
    optional={
        "viewer": st.from_regex(r"[A-Za-z0-9_.:+/=~-]{1,66}", fullmatch=True) | json_values,
        "watched": st.floats() | st.integers() | json_values,
    },
)
event_bodies = json_values | st.fixed_dictionaries(
    {"video": st.integers(0, 50) | json_values, "viewer": st.just("abc") | json_values},
    optional={"watched": st.floats(0, 1e6) | json_values, "at": moments | json_values},
)


def outcome(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except ValidationError as error:
        return error.detail


@pytest.mark.once
@given(body=view_bodies)
def test_a_view_is_read_as_its_serializer_reads_it(body: Any) -> None:
    def serialized() -> Any:
        serializer = serializers.ViewSerializer(data=body)
        serializer.is_valid(raise_exception=True)
        return serializer.validated_data.get("viewer"), serializer.validated_data.get("watched")

    assert outcome(lambda: serializers.read_view(body)) == outcome(serialized)


@pytest.mark.once
@given(events=st.lists(event_bodies, max_size=5))
def test_events_are_read_as_their_serializer_reads_them(events: list[Any]) -> None:
    def serialized() -> Any:
        serializer = serializers.ViewEventsSerializer(data={"events": events})
        serializer.is_valid(raise_exception=True)
        return [
            (
                e["video"],
                e["viewer"],
                e.get("watched"),
                e["at"] and int(e["at"].timestamp() * 1000) if "at" in e else None,
            )
            for e in serializer.validated_data["events"]
        ]

    quick = outcome(lambda: serializers.read_events({"events": events}))
    slow = outcome(serialized)
    if isinstance(slow, dict):
        assert {int(place) for place in quick["events"]} == {int(place) for place in slow["events"]}
    else:
        assert [tuple(sent) for sent in quick] == slow


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"]),
    path=st.sampled_from(
        [
            "/",
            *("/api/videos/", "/api/videos/{id}/", "/api/videos/{id}/like/", "/api/videos/{id}/likes/"),
            *("/api/videos/{id}/view/", "/api/videos/counts/", "/api/views/", "/api/me/likes/"),
            *("/api/token/", "/api/token/refresh/", "/api/schema/", "/api/docs/", "/api/videos/{id}"),
        ]
    ),
    number=st.integers(0, 3) | st.integers(0, 2**70),
    query=st.dictionaries(st.sampled_from(["ids", "cursor", "page_size", "ordering", "search"]), st.text(), max_size=2),
    body=json_values
    | view_bodies
    | st.fixed_dictionaries({"events": st.lists(event_bodies, max_size=3)})
    | st.binary(),
    token=st.sampled_from(["", "staff", "user"]) | st.binary().map(bytes.hex),
)
def test_whatever_is_sent_the_answer_is_never_a_fault_of_ours(
    call: Call,
    staff: User,
    user: User,
    *,
    method: str,
    path: str,
    number: int,
    query: dict[str, str],
    body: Any,
    token: str,
) -> None:
    from django.http import QueryDict

    who = {"staff": staff, "user": user}.get(token)
    headers = {} if who or not token else {"authorization": f"Bearer {token}"}
    parameters = QueryDict(mutable=True)
    parameters.update({key: value.encode("utf-8", "replace").decode() for key, value in query.items()})
    url = f"{path.format(id=number)}?{parameters.urlencode()}"
    response = call(method, url, user=who, body=body, **headers)
    assert response.status_code < 500


def test_a_fault_of_ours_is_answered_in_json(call: Call, video: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> Any:
        raise RuntimeError("a secret")

    monkeypatch.setattr(services, "get_like", fail)
    response = call("GET", f"/api/videos/{video.id}/like/")
    assert (response.status_code, response.json()) == (500, {"detail": "Internal server error."})


def test_a_body_that_ends_early_is_refused(call: Call, video: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise OSError("the client hung up")

    monkeypatch.setattr("django.core.handlers.wsgi.LimitedStream.read", fail)
    assert call("POST", f"/api/videos/{video.id}/view/", body={"viewer": "a"}).status_code == 400


def test_a_user_who_leaves_while_adding_a_video_is_told(
    call: Call, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise IntegrityError("a foreign key")

    monkeypatch.setattr(Video, "save", fail)
    body = {"title": "t", "url": "https://example.com/1"}
    assert call("POST", "/api/videos/", user=user, body=body).status_code == 401
