"""Dislikes: the mark's third value. It excludes a like, and nobody else is told whose it is."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.support.doors import Call, round_trips, token_of
from tests.support.factories import make_admin, make_user
from tests.support.faults import redis_refusing
from videos import services
from videos.api import shapes
from videos.flush import run_flush
from videos.models import Video, VideoLike

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

DISLIKED = {"liked": False, "like_count": 0, "rating": "dislike", "dislike_count": 1}
LIKED = {"liked": True, "like_count": 1, "rating": "like", "dislike_count": 0}
UNMARKED = {"liked": False, "like_count": 0, "rating": None, "dislike_count": 0}


@pytest.fixture(params=[True, False], ids=["express", "django"])
def way(request: pytest.FixtureRequest, settings: Any) -> None:
    settings.VIDEOS_EXPRESS = request.param


@pytest.fixture(params=[False, True], ids=["redis", "rows"])
def redis_state(request: pytest.FixtureRequest) -> Any:
    with redis_refusing(refuses=request.param):
        yield


@pytest.mark.usefixtures("way", "redis_state")
def test_a_like_and_a_dislike_replace_each_other(call: Call, video: Video, user: User) -> None:
    steps = (
        ("PUT", "dislike", DISLIKED),
        ("POST", "dislike", DISLIKED),
        ("PUT", "like", LIKED),
        ("PUT", "dislike", DISLIKED),
        ("DELETE", "dislike", UNMARKED),
        ("DELETE", "dislike", UNMARKED),
        ("PUT", "dislike", DISLIKED),
        ("DELETE", "like", UNMARKED),  # takes back either
        ("PUT", "like", LIKED),
        ("DELETE", "dislike", UNMARKED),
        ("PUT", "dislike", DISLIKED),
    )
    for method, mark, expected in steps:
        answer = call(method, f"/api/videos/{video.id}/{mark}/", user=user)
        assert (answer.status_code, answer.json()) == (200, {"id": video.id, **expected})
    assert call("GET", f"/api/videos/{video.id}/like/", user=user).json() == {"id": video.id, **DISLIKED}


@pytest.mark.usefixtures("way")
def test_answers_show_the_dislikes_and_the_callers_own(call: Call, video: Video, user: User, owner: User) -> None:
    call("PUT", f"/api/videos/{video.id}/dislike/", user=user)
    for flushed in (False, True):
        if flushed:
            run_flush()
        for reader, rating in ((user, "dislike"), (owner, None), (None, None)):
            shown = [
                call("GET", f"/api/videos/{video.id}/", user=reader).json(),
                call("GET", "/api/videos/", user=reader).json()["results"][0],
                call("GET", f"/api/videos/counts/?ids={video.id}", user=reader).json()[0],
                call("GET", f"/api/videos/{video.id}/like/", user=reader).json(),
            ]
            numbers = {(one["like_count"], one["dislike_count"], one["rating"], one["liked"]) for one in shown}
            assert numbers == {(0, 1, rating, None if reader is None else False)}


def test_a_warm_dislike_costs_one_round_trip_and_no_query(
    call: Call, video: Video, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = token_of(user)
    call("PUT", f"/api/videos/{video.id}/like/", authorization=token)
    for method, mark in (("PUT", "dislike"), ("DELETE", "dislike"), ("PUT", "dislike"), ("PUT", "like")):
        with CaptureQueriesContext(connection) as queries, round_trips(monkeypatch) as trips:
            answer = call(method, f"/api/videos/{video.id}/{mark}/", authorization=token)
        assert (answer.status_code, len(queries), len(trips)) == (200, 0, 1)


@pytest.mark.usefixtures("way")
def test_dislikes_may_be_turned_off(call: Call, video: Video, user: User, settings: Any) -> None:
    call("PUT", f"/api/videos/{video.id}/dislike/", user=user)
    settings.VIDEOS_DISLIKES = False
    for method in ("PUT", "POST", "DELETE"):
        assert call(method, f"/api/videos/{video.id}/dislike/", user=user).status_code == 404
    answers = [
        call("GET", f"/api/videos/{video.id}/", user=user),
        call("GET", f"/api/videos/counts/?ids={video.id}", user=user),
        call("PUT", f"/api/videos/{video.id}/like/", user=user),
        call("GET", f"/api/videos/{video.id}/stats/", user=user),
        call("GET", f"/api/videos/{video.id}/stats/?format=csv", user=user),
    ]
    assert {answer.status_code for answer in answers} == {200}
    assert "dislike" not in "".join(answer.content.decode() for answer in answers)
    assert "rating" not in "".join(answer.content.decode() for answer in answers)
    for serializer in (shapes.VideoSerializer, shapes.CountSerializer, shapes.LikeSerializer):
        assert not {"rating", "dislike_count"} & set(serializer().fields)


def test_nobody_else_is_told_who_dislikes(call: Call, video: Video, user: User, owner: User, settings: Any) -> None:
    settings.VIDEOS_LIKERS = "everyone"
    liker = make_user("liker")
    call("PUT", f"/api/videos/{video.id}/like/", user=liker)
    call("PUT", f"/api/videos/{video.id}/dislike/", user=user)
    for flushed in (False, True):
        if flushed:
            run_flush()
        found = call("GET", f"/api/videos/{video.id}/likes/", user=owner).json()["results"]
        assert [like["username"] for like in found] == ["liker"]
        assert call("GET", "/api/me/likes/", user=user).json()["results"] == []
    browser = Client()
    browser.force_login(make_admin())
    page = browser.get("/admin/videos/videolike/").content.decode()
    assert ("liker" in page, VideoLike.objects.count()) == (True, 2)
    assert f">{user.username}<" not in page


def test_a_dislike_that_became_a_like_stands_first_among_my_likes(call: Call, user: User, owner: User) -> None:
    older, newer = Video.objects.create(title="a", owner=owner), Video.objects.create(title="b", owner=owner)
    call("PUT", f"/api/videos/{older.id}/dislike/", user=user)
    call("PUT", f"/api/videos/{newer.id}/like/", user=user)
    run_flush()
    call("PUT", f"/api/videos/{older.id}/like/", user=user)
    for _ in range(2):
        found = call("GET", "/api/me/likes/", user=user).json()["results"]
        assert [like["video"]["title"] for like in found] == ["a", "b"]
        run_flush()


def test_an_export_has_the_dislikes_of_a_user(call: Call, video: Video, user: User) -> None:
    call("PUT", f"/api/videos/{video.id}/dislike/", user=user)
    waiting = services.export_user(name=user.username)
    assert [one["value"] for one in waiting["likes_that_wait_for_the_flush"]] == [2]
    run_flush()
    found = json.loads(json.dumps(services.export_user(name=user.username), default=str))
    assert ([one["video"] for one in found["dislikes"]], found["likes"]) == ([video.id], [])
