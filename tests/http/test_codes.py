"""Codes of errors, names of query parameters, cursors, and bodies of likes: the same on both ways."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import User
from rest_framework import exceptions

from tests.support.doors import Call, ask, bearer, like_path, view_path
from tests.support.factories import make_videos
from videos.api import errors, shapes, signing_in
from videos.models import Video

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

JSON = {"CONTENT_TYPE": "application/json"}
BY_FRAMEWORK = (
    *(exceptions.ParseError, exceptions.AuthenticationFailed, exceptions.NotAuthenticated),
    *(exceptions.PermissionDenied, exceptions.MethodNotAllowed, exceptions.NotAcceptable),
    *(exceptions.UnsupportedMediaType, exceptions.Throttled, exceptions.ValidationError, signing_in.Busy),
)
DOCS = Path(__file__).parents[2] / "docs" / "api.md"


def test_every_code_that_an_error_can_have_is_listed() -> None:
    codes = {code for _, _, code, _ in errors.TABLE} | {kind.default_code for kind in BY_FRAMEWORK}
    codes |= {"token_not_valid", "bad_authorization_header", "no_active_account", "internal_error", "bad_request"}
    assert codes == shapes.CODES


def test_the_docs_list_every_code() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| \d", DOCS.read_text(), re.MULTILINE)) == shapes.CODES


def test_every_detail_is_worded_once() -> None:
    details = [detail for *_, detail in errors.TABLE]
    assert len(set(details)) == len(details)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/videos/999/", 404, "video_not_found"),
        ("PUT", "/api/videos/999/like/", 401, "not_authenticated"),
        ("GET", "/api/videos/?page_size=0", 400, "invalid"),
        ("PATCH", "/api/videos/counts/", 405, "method_not_allowed"),
        ("GET", "/api/nothing/", 404, "not_found"),
    ],
)
def test_both_ways_answer_the_same_code(settings: Any, method: str, path: str, *, status: int, code: str) -> None:
    for express in (True, False):
        settings.VIDEOS_EXPRESS = express
        address, _, query = path.partition("?")
        got = ask(method, address, QUERY_STRING=query, **JSON)
        assert (got.status, got.body["code"]) == (status, code)
        assert type(got.body["detail"]) is str


@pytest.mark.parametrize(
    ("path", "name"),
    [
        *(("/api/videos/?page=2", "page"), ("/api/videos/?order=-id", "order"), ("/api/videos/counts/?id=1", "id")),
        *(("/api/videos/{id}/?fields=id", "fields"), ("/api/me/likes/?ordering=id", "ordering")),
        *(("/api/videos/{id}/like/?liked=1", "liked"), ("/api/videos/?Search=a", "Search")),
    ],
)
def test_an_unknown_parameter_is_named(call: Call, video: Video, user: User, path: str, name: str) -> None:
    response = call("GET", path.format(id=video.id), user=user)
    assert response.status_code == 400
    assert response.json() == {
        "detail": "The request is not valid.",
        "code": "invalid",
        "errors": {name: ["There is no such parameter."]},
    }


@pytest.mark.parametrize("express", [True, False])
def test_a_next_cursor_is_that_of_the_link(settings: Any, express: bool) -> None:
    settings.VIDEOS_EXPRESS = express
    newest_first = make_videos(3)
    page = ask("GET", "/api/videos/", QUERY_STRING="page_size=2").body
    (cursor,) = parse_qs(urlsplit(page["next"]).query)["cursor"]
    assert page["next_cursor"] == cursor
    last = ask("GET", "/api/videos/", QUERY_STRING=f"page_size=2&cursor={page['next_cursor']}").body
    assert [video["id"] for video in page["results"] + last["results"]] == newest_first
    assert last["next_cursor"] is None


@pytest.mark.parametrize("express", [True, False])
@pytest.mark.parametrize(
    ("method", "body", "status"),
    [
        *(("PUT", b'{"liked":false}', 400), ("POST", b'{"liked":null}', 400), ("DELETE", b'{"liked":true}', 400)),
        *(("PUT", b'{"liked":true}', 200), ("DELETE", b'{"liked":false}', 200), ("PUT", b"{}", 200)),
        *(("PUT", b"", 200), ("PUT", b"[]", 200), ("PUT", b"{broken", 400)),
        *(("PUT", b'{"rating":"dislike"}', 400), ("PUT", b'{"rating":"like","liked":1}', 400)),
        *(
            ("PUT", b'{"rating":"like"}', 200),
            ("DELETE", b'{"rating":null}', 200),
            ("DELETE", b'{"rating":"like"}', 400),
        ),
    ],
)
def test_a_like_does_not_do_the_opposite_of_its_body(
    settings: Any, user: User, *, express: bool, method: str, body: bytes, status: int
) -> None:
    settings.VIDEOS_EXPRESS = express
    (video_id,) = make_videos(1)
    got = ask(method, like_path(video_id), body, **JSON, **bearer(user))
    assert (got.status, got.express) == (status, express)
    likes = ask("GET", like_path(video_id)).body["like_count"]
    assert likes == (status == 200 and method != "DELETE")


def test_a_view_says_which_field_is_wrong() -> None:
    (video_id,) = make_videos(1)
    got = ask("POST", view_path(video_id), b'{"viewer":"@"}', **JSON)
    assert (got.status, got.body["code"], list(got.body["errors"])) == (400, "invalid", ["viewer"])
