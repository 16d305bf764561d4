"""Videos: added, edited, deleted; their numbers and the lists of them."""

from collections.abc import Mapping
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError

from tests.support.doors import Call, token_of
from tests.support.faults import failing
from videos.flush import run_flush
from videos.models import Video

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


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
        "watch_seconds": 0,
        "dislike_count": 0,
        "liked": False,
        "rating": None,
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
    assert (response.status_code, list(response.json()["errors"])) == (400, list(values))


def test_a_token_outlives_its_user_without_harm(call: Call, video: Video, user: User) -> None:
    token = token_of(user)
    user.delete()
    body = {"title": "t", "url": "https://example.com/1"}
    response = call("POST", "/api/videos/", authorization=token, body=body)
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, 'Bearer realm="api"')
    for path in ("/api/me/likes/", "/api/videos/", f"/api/videos/{video.id}/like/"):
        assert call("GET", path, authorization=token).status_code == 200


def test_a_user_who_leaves_while_adding_a_video_is_told(
    call: Call, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Video, "save", failing(IntegrityError("a foreign key")))
    body = {"title": "t", "url": "https://example.com/1"}
    assert call("POST", "/api/videos/", user=user, body=body).status_code == 401


def test_only_the_owner_and_who_may_change_videos_edit_a_video(
    call: Call, video: Video, owner: User, user: User, staff: User
) -> None:
    path = f"/api/videos/{video.id}/"
    body = {"title": "new", "like_count": 9, "view_count": 9, "owner": user.id}
    answers = [call("PATCH", path, user=who, body=body).status_code for who in (None, user, staff, owner)]
    assert answers == [401, 403, 200, 200]
    video.refresh_from_db()
    assert (video.title, video.like_count, video.view_count, video.owner) == ("new", 0, 0, owner)


def test_editing_does_not_touch_counts_that_move(call: Call, video: Video, owner: User, user: User) -> None:
    call("PUT", f"/api/videos/{video.id}/like/", user=user)
    answer = call("PATCH", f"/api/videos/{video.id}/", user=owner, body={"title": "new"}).json()
    run_flush()
    video.refresh_from_db()
    assert (answer["like_count"], video.like_count, video.title) == (1, 1, "new")


@pytest.mark.usefixtures("deleted_before_it_is_saved")
def test_a_video_that_is_deleted_while_it_is_edited_is_not_found(call: Call, video: Video, owner: User) -> None:
    response = call("PATCH", f"/api/videos/{video.id}/", user=owner, body={"title": "new"})
    assert (response.status_code, response.json()) == (404, {"detail": "No such video.", "code": "video_not_found"})


def test_an_edited_duration_takes_part_in_the_view_rules_at_once(call: Call, video: Video, owner: User) -> None:
    call("POST", f"/api/videos/{video.id}/view/", body={"viewer": "warm"})
    call("PATCH", f"/api/videos/{video.id}/", user=owner, body={"duration": 10})
    answer = call("POST", f"/api/videos/{video.id}/view/", body={"viewer": "a", "watched": 6}).json()
    assert answer["reason"] == "new"


def test_only_the_owner_deletes_a_video(call: Call, video: Video, owner: User, user: User) -> None:
    call("PUT", f"/api/videos/{video.id}/like/", user=user)
    path = f"/api/videos/{video.id}/"
    assert [call("DELETE", path, user=who).status_code for who in (None, user, owner, owner)] == [401, 403, 204, 404]
    assert run_flush().dropped == 1
    assert call("PUT", f"{path}like/", user=user).status_code == 404
