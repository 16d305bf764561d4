"""Likes: the caller's own, who likes a video, what the caller likes."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.support.doors import Call, pages, round_trips, token_of
from tests.support.factories import allow, make_user, make_video
from videos.flush import run_flush
from videos.models import Video, VideoLike

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_like_is_answered_with_its_state_and_a_repeated_one_changes_nothing(
    call: Call, video: Video, user: User, method: str
) -> None:
    for _ in range(3):
        response = call(method, f"/api/videos/{video.id}/like/", user=user)
        assert (response.status_code, response.json()) == (
            200,
            {"id": video.id, "liked": True, "like_count": 1, "rating": "like", "dislike_count": 0},
        )


def test_unlike_takes_the_like_back(call: Call, video: Video, user: User) -> None:
    call("PUT", f"/api/videos/{video.id}/like/", user=user)
    for _ in range(2):
        response = call("DELETE", f"/api/videos/{video.id}/like/", user=user)
        assert response.json() == {
            "id": video.id,
            "liked": False,
            "like_count": 0,
            "rating": None,
            "dislike_count": 0,
        }


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


def test_a_warm_like_costs_one_round_trip_and_no_query(
    call: Call, video: Video, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = token_of(user)
    call("PUT", f"/api/videos/{video.id}/like/", authorization=token)
    for method in ("DELETE", "PUT"):
        with CaptureQueriesContext(connection) as queries, round_trips(monkeypatch) as trips:
            response = call(method, f"/api/videos/{video.id}/like/", authorization=token)
        assert (response.status_code, len(queries), len(trips)) == (200, 0, 1)


def test_my_likes_begin_with_my_last_one(call: Call, owner: User, user: User) -> None:
    first, second, third = (make_video(owner) for _ in range(3))
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
    videos = [make_video(owner) for _ in range(15)]
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


def test_who_likes_it_comes_newest_first_with_my_own_like_at_once(
    call: Call, video: Video, user: User, settings: Any
) -> None:
    settings.VIDEOS_LIKERS = "everyone"
    fans = [make_user(f"fan{i}") for i in range(3)]
    for fan in fans:
        call("PUT", f"/api/videos/{video.id}/like/", user=fan)
    run_flush()
    call("PUT", f"/api/videos/{video.id}/like/", user=user)

    def names(**who: Any) -> list[str]:
        found, _ = pages(call, f"/api/videos/{video.id}/likes/?page_size=2", **who)
        return [like["username"] for page in found for like in page]

    assert names(user=user) == ["user", "fan2", "fan1", "fan0"]
    assert names() == ["user", "fan2", "fan1", "fan0"]
    call("DELETE", f"/api/videos/{video.id}/like/", user=fans[1])
    assert names(user=fans[1]) == names() == ["user", "fan2", "fan0"]


LIKERS = {
    # who is answered what: nobody in particular, a user, staff without and with the permission, the owner
    "everyone": [200, 200, 200, 200, 200],
    "owner": [401, 403, 403, 200, 200],
    "nobody": [401, 403, 403, 200, 403],
}


@pytest.mark.parametrize("who", [*LIKERS, None])
def test_who_likes_it_is_shown_as_the_setting_says(
    call: Call, video: Video, user: User, settings: Any, who: str | None
) -> None:
    owner = video.owner
    if who is not None:
        settings.VIDEOS_LIKERS = who
    callers = [None, user, make_user("helper", is_staff=True), allow(make_user("auditor"), "view_videolike"), owner]
    path = f"/api/videos/{video.pk}/likes/"
    assert [call("GET", path, user=caller).status_code for caller in callers] == LIKERS[who or "owner"]
    User.objects.update(is_active=False)
    assert call("GET", path, user=owner).status_code == (200 if who == "everyone" else 401)
    assert call("GET", "/api/videos/987654321/likes/", user=owner).status_code in {401, 404}
