"""What is refused, and what is answered when something is away or fails."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, ProgrammingError, connection
from django.test import Client

from tests.support.doors import Call
from tests.support.faults import failing
from videos import services
from videos.ledger import reads
from videos.models import Video

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

HUGE = 2**63


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
    assert list(response.json()) == ["detail", "code"]


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
    response = Client().post(f"/api/videos/{video.id}/view/", "viewer=a", content_type="text/html")
    assert response.status_code == 415


def test_a_body_that_ends_early_is_refused(call: Call, video: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.core.handlers.wsgi.LimitedStream.read", failing(OSError("the client hung up")))
    assert call("POST", f"/api/videos/{video.id}/view/", body={"viewer": "a"}).status_code == 400


def test_a_client_that_takes_no_json_is_told(call: Call, video: Video) -> None:
    assert call("GET", f"/api/videos/{video.id}/like/", accept="text/html").status_code == 406


@pytest.mark.parametrize(
    ("method", "path"), [("PATCH", "1/like/"), ("PUT", "1/"), ("GET", "1/view/"), ("DELETE", ""), ("POST", "counts/")]
)
def test_a_wrong_method_is_told_which_there_are(call: Call, staff: User, method: str, path: str) -> None:
    response = call(method, f"/api/videos/{path}", user=staff)
    assert response.status_code == 405
    assert method not in response.headers["Allow"].split(", ")


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
        call("GET", f"{path}likes/", user=owner),
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

    for name in ("read_facts", "read_facts_and_state"):
        monkeypatch.setattr(reads, name, failing(error))
    for method, path in (("PUT", "like"), ("POST", "view")):
        response = call(method, f"/api/videos/{video.id}/{path}/", user=user)
        assert (response.status_code, response.headers["Retry-After"]) == (503, "7")
        assert "detail" in response.json()


def test_a_database_outage_in_a_list_is_answered_with_when_to_come_back(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ensure_connection", "cursor"):
        monkeypatch.setattr(connection, name, failing(OperationalError("gone")))
    response = call("GET", "/api/videos/")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")


def test_a_fault_of_ours_is_answered_in_json(call: Call, video: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "get_like", failing(RuntimeError("a secret")))
    response = call("GET", f"/api/videos/{video.id}/like/")
    assert (response.status_code, response.json()) == (
        500,
        {"detail": "Internal server error.", "code": "internal_error"},
    )


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(("method", "path"), [("PUT", "like"), ("POST", "like"), ("DELETE", "like"), ("POST", "view")])
def test_a_write_without_the_slash_is_told_where_it_goes(
    call: Call, video: Video, settings: Any, *, method: str, path: str, debug: bool
) -> None:
    settings.DEBUG = debug
    url = f"/api/videos/{video.id}/{path}"
    response = call(method, url)
    assert response.status_code == 404
    assert response.json() == {"detail": f"Not found. The path ends with a slash: {url}/", "code": "not_found"}


def test_a_read_without_the_slash_is_sent_there(call: Call) -> None:
    response = call("GET", "/api/videos/counts?ids=1,2")
    assert (response.status_code, response.headers["Location"]) == (301, "/api/videos/counts/?ids=1,2")


@pytest.mark.parametrize(("method", "path"), [("GET", "nothing/"), ("GET", "nothing"), ("POST", "nothing")])
def test_an_unknown_path_of_the_api_is_answered_in_json(call: Call, method: str, path: str) -> None:
    response = call(method, f"/api/{path}")
    assert (response.status_code, response.json()) == (404, {"detail": "Not found.", "code": "not_found"})


def test_a_write_without_the_slash_needs_no_csrf_token_to_be_told(video: Video) -> None:
    response = Client(enforce_csrf_checks=True).post(f"/api/videos/{video.id}/like")
    assert (response.status_code, list(response.json())) == (404, ["detail", "code"])


def test_an_unknown_path_elsewhere_is_answered_with_a_page(call: Call) -> None:
    response = call("GET", "/nothing")
    assert (response.status_code, response.headers["Content-Type"]) == (404, "text/html; charset=utf-8")


@pytest.mark.parametrize(("query", "host"), [("a&" * 2000, "localhost"), ("", "elsewhere.example")], ids=len)
def test_too_many_fields_and_an_unknown_host_are_answered_in_json(call: Call, query: str, host: str) -> None:
    response = call("GET", f"/api/videos/?{query}", host=host)
    assert (response.status_code, list(response.json())) == (400, ["detail", "code"])


@pytest.mark.parametrize(
    ("error", "status"),
    [(ProgrammingError(1146, "Table doesn't exist"), 503), (ProgrammingError(1064, "You have an error"), 500)],
)
def test_a_missing_table_is_an_outage_and_wrong_sql_is_a_fault(
    call: Call, video: Video, user: User, *, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    for name in ("read_facts", "read_facts_and_state"):
        monkeypatch.setattr(reads, name, failing(error))
    response = call("PUT", f"/api/videos/{video.id}/like/", user=user)
    assert (response.status_code, response.headers.get("Retry-After")) == (status, "2" if status == 503 else None)
