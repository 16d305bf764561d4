"""Views: one as its player reports it, and batches of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.support.doors import Call, round_trips, token_of
from tests.support.factories import allow, make_user, make_videos
from videos.flush import run_flush
from videos.models import Video, VideoHour

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (None, "new"),
        ({}, "new"),
        ({"viewer": "a"}, "new"),
        ({"viewer": None, "watched": None}, "new"),
        ({"viewer": "A-z.0_9:+/=~", "watched": 10}, "new"),
        ({"viewer": "x" * 64, "watched": 1e9}, "new"),
        ({"watched": 9.9}, "short"),
        ({"watched": 0}, "short"),
    ],
)
def test_view_says_whether_it_counted(call: Call, video: Video, body: Any, reason: str) -> None:
    answer = call("POST", f"/api/videos/{video.id}/view/", body=body).json()
    new = reason == "new"
    assert answer == {"id": video.id, "counted": new, "reason": reason, "view_count": int(new)}


def test_time_watched_may_be_required(call: Call, video: Video, owner: User, settings: Any) -> None:
    settings.VIDEOS_VIEW_WATCHED_REQUIRED = True
    path = f"/api/videos/{video.id}/view/"
    for body in (None, {}, {"viewer": "a"}, {"viewer": "a", "watched": None}):
        answer = call("POST", path, body=body)
        assert (answer.status_code, list(answer.json()["errors"])) == (400, ["watched"])
    sender = allow(make_user("sender"), "send_views")
    events = [{"video": video.id, "viewer": "a", "watched": 10}, {"video": video.id, "viewer": "b"}]
    answer = call("POST", "/api/views/", user=sender, body={"events": events})
    assert (answer.status_code, list(answer.json()["errors"]["events"])) == (400, ["1"])
    assert call("POST", path, body={"viewer": "a", "watched": 0}).json()["reason"] == "short"
    assert call("POST", path, body={"viewer": "a", "watched": 10}).json()["reason"] == "new"


def test_the_same_viewer_counts_once(call: Call, video: Video, user: User) -> None:
    def reason(**who: Any) -> str:
        return str(call("POST", f"/api/videos/{video.id}/view/", **who).json()["reason"])

    viewers: list[dict[str, Any]] = [{"user": user}, *({"body": {"viewer": viewer}} for viewer in "ab")]
    viewers += [{}, {"user_agent": "Safari"}]
    assert [reason(**who) for who in viewers] == ["new"] * 5
    assert [reason(**who) for who in viewers] == ["seen"] * 5


def test_views_of_the_owner_and_of_bots_do_not_count(call: Call, video: Video, owner: User) -> None:
    agent = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    sent: list[dict[str, Any]] = [{"user": owner}, {"body": {"viewer": "a"}, "user_agent": agent}]
    answers = [call("POST", f"/api/videos/{video.id}/view/", **who).json() for who in sent]
    assert [(answer["counted"], answer["reason"]) for answer in answers] == [(False, "owner"), (False, "bot")]


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
        *('{"watched": ' + "9" * 5000 + "}", "[" * 100_000, '{"a":' * 50_000),
        *(b'{"viewer": "\xff"}', b"\x00", b"\xef\xbb\xbf{}"),
    ],
    ids=lambda body: str(body[:24]),
)
def test_a_malformed_view_is_refused(call: Call, video: Video, body: Any) -> None:
    assert call("POST", f"/api/videos/{video.id}/view/", body=body).status_code == 400


def event(video: int, viewer: str = "a", **more: Any) -> dict[str, Any]:
    return {"video": video, "viewer": viewer, **more}


def test_batch_counts_views_and_sums_up_what_it_ignored(call: Call, video: Video, staff: User) -> None:
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    events = [
        *(event(video.id), event(video.id), event(video.id, "b", at=hour_ago), event(video.id, "c", watched=1)),
        *(event(987_654_321), event(2**63), event(-1), event(0)),
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
    faults = [(place, *fault) for place, fault in response.json()["errors"]["events"].items()]
    names = ("viewer", "at", "at", "at", "watched", "non_field_errors", "video")
    assert faults == [(str(place), name) for place, name in enumerate(names, 1)]
    assert call("POST", f"/api/videos/{video.id}/view/", body={"viewer": "a"}).json()["counted"]


@pytest.mark.parametrize("body", [{}, [], {"events": None}, {"events": {}}, {"events": "a"}, {"events": 1}])
def test_a_batch_that_is_no_list_is_refused(call: Call, staff: User, body: Any) -> None:
    assert call("POST", "/api/views/", user=staff, body=body).status_code == 400


def test_batches_are_for_trusted_clients(call: Call, user: User) -> None:
    body: dict[str, Any] = {"events": []}
    assert [call("POST", "/api/views/", user=who, body=body).status_code for who in (None, user)] == [401, 403]
    allow(user, "send_views")
    assert call("POST", "/api/views/", user=user, body=body).json() == {"counted": 0, "ignored": {}}


def test_a_batch_speaks_for_others_whatever_sends_it(call: Call, video: Video, owner: User) -> None:
    allow(owner, "send_views")
    agent = "Googlebot/2.1"
    answer = call("POST", "/api/views/", user=owner, body={"events": [event(video.id)]}, user_agent=agent).json()
    assert answer == {"counted": 1, "ignored": {}}


def test_a_batch_costs_one_round_trip(call: Call, staff: User, owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = make_videos(20, owner)
    token = token_of(staff)

    def send(viewer: str) -> None:
        events = [event(video_id, f"{viewer}{i}") for i in range(10) for video_id in videos]
        assert call("POST", "/api/views/", authorization=token, body={"events": events}).json()["counted"] == 200

    send("warm")
    with CaptureQueriesContext(connection) as queries, round_trips(monkeypatch) as trips:
        send("x")
    assert (len(queries), len(trips)) == (3, 1)  # the user and both kinds of permissions
