"""Django admin: live beside stored, nothing that goes past the ledger, quick with many rows.

Over 250 lines: all pages are opened by the same signed-in browser and the same few helpers.
"""

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.support.doors import round_trips
from tests.support.factories import make_admin, make_user, make_video, make_videos
from tests.support.faults import failing
from videos import services
from videos.admin import lists
from videos.admin.videos import COUNT_COLUMNS
from videos.flush import reconcile, run_flush
from videos.models import FlushBatch, Video, VideoHour, VideoLike
from videos.services import ViewEvent

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


def signed_in(user: User) -> Client:
    browser = Client()
    browser.force_login(user)
    return browser


@pytest.fixture
def client() -> Client:
    return signed_in(make_admin())


def url_of(model: str, page: str = "changelist", *arguments: Any) -> str:
    return reverse(f"admin:{model}_{page}", args=arguments)


def rows(client: Client, model: str, query: str = "") -> list[Any]:
    response = client.get(url_of(model) + query)
    assert response.status_code == 200
    return list(response.context["cl"].result_list)


def shown(client: Client, query: str = "") -> list[tuple[Any, ...]]:
    """Title, live and stored likes, live and stored views, as the list shows them."""
    return [(row.title, *(column(row) for column in COUNT_COLUMNS[:4])) for row in rows(client, "videos_video", query)]


def test_live_and_stored_counts_stand_side_by_side(client: Client, video: Video, owner: User) -> None:
    services.set_like(video_id=video.id, user_id=owner.id, liked=True)
    services.record_view(event=ViewEvent(video.id, "a"))
    assert shown(client) == [("one", 1, 0, 1, 0)]
    run_flush()
    assert shown(client) == [("one", 1, 1, 1, 1)]
    page = client.get(url_of("videos_video")).content.decode()
    assert all(head in page for head in ("Live likes", "Stored likes", "Live views", "Stored views"))


@pytest.mark.usefixtures("video", "redis_away")
def test_without_redis_the_stored_counts_are_shown(client: Client) -> None:
    assert shown(client) == [("one", None, 0, None, 0)]
    assert "Redis does not answer" in client.get(url_of("videos_video")).content.decode()
    assert client.get(url_of("videos_flushbatch")).status_code == 200


def test_a_page_of_videos_costs_what_one_video_does(
    client: Client, owner: User, video: Video, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cost() -> tuple[int, int]:
        with CaptureQueriesContext(connection) as queries, round_trips(monkeypatch) as trips:
            rows(client, "videos_video")
        return len(queries), len(trips)

    cost()
    few = cost()
    make_videos(60, owner)
    assert cost() == few
    assert few[1] == 1


def test_the_list_is_sortable_by_stored_counts(client: Client, owner: User) -> None:
    for likes in (2, 3, 1):
        make_video(owner, title=str(likes), like_count=likes, view_count=9 - likes)
    assert [row.title for row in rows(client, "videos_video", "?o=-4")] == ["3", "2", "1"]
    assert [row.title for row in rows(client, "videos_video", "?o=-6")] == ["1", "2", "3"]


def test_videos_are_found_by_title_and_id(client: Client, owner: User, video: Video) -> None:
    other = make_video(owner, title="two words")
    assert [row.pk for row in rows(client, "videos_video", "?q=words")] == [other.pk]
    assert [row.pk for row in rows(client, "videos_video", f"?q={video.pk}")] == [video.pk]
    assert rows(client, "videos_video", f"?q={2**64}") == []


def test_editing_writes_no_counts(client: Client, video: Video, owner: User) -> None:
    page = client.get(url_of("videos_video", "change", video.pk))
    assert not {"like_count", "view_count", "flushed_batch"} & set(page.context["adminform"].form.fields)
    services.set_like(video_id=video.id, user_id=owner.id, liked=True)
    run_flush()
    body = {"title": "new", "url": "https://example.com/2", "duration": 9, "owner": owner.pk, "like_count": 70}
    assert client.post(url_of("videos_video", "change", video.pk), body).status_code == 302
    video.refresh_from_db()
    assert (video.title, video.duration, video.like_count) == ("new", 9, 1)


@pytest.mark.usefixtures("deleted_before_it_is_saved")
def test_a_video_that_is_deleted_while_it_is_edited_is_not_added_again(
    client: Client, video: Video, owner: User
) -> None:
    body = {"title": "new", "url": "https://example.com/2", "duration": 9, "owner": owner.pk}
    with CaptureQueriesContext(connection) as queries:
        assert client.post(url_of("videos_video", "change", video.pk), body).status_code == 404
    assert not [query["sql"] for query in queries if re.match("INSERT INTO .videos_video. ", query["sql"])]


def act(client: Client, model: str, action: str, *selected: Any, **more: Any) -> str:
    body = {"action": action, "_selected_action": [row.pk for row in selected], **more}
    response = client.post(url_of(model), body, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def test_reconciling_says_what_it_found_and_repairs_it(client: Client, video: Video, owner: User) -> None:
    services.set_like(video_id=video.id, user_id=owner.id, liked=True)
    run_flush()
    assert "Recounted 1 videos: no difference." in act(client, "videos_video", "reconcile", video)
    Video.objects.filter(pk=video.pk).update(like_count=40)
    page = act(client, "videos_video", "reconcile", video)
    assert f"Video {video.pk}: like_count was 40, its rows are 1." in page
    run_flush()
    assert shown(client) == [("one", 1, 1, 0, 0)]


@pytest.mark.usefixtures("redis_away")
def test_reconciling_while_redis_is_away_says_that_nothing_was_repaired(client: Client, video: Video) -> None:
    Video.objects.filter(pk=video.pk).update(like_count=40)
    assert "Nothing was repaired" in act(client, "videos_video", "reconcile", video)
    assert Video.objects.get(pk=video.pk).like_count == 40


def test_deleting_a_video_keeps_nothing_of_it(client: Client, video: Video, owner: User) -> None:
    services.set_like(video_id=video.id, user_id=owner.id, liked=True)
    run_flush()
    services.record_view(event=ViewEvent(video.id, "a"))
    page = client.get(url_of("videos_video", "delete", video.pk)).content.decode()
    assert "Video likes: 1" in page
    assert client.post(url_of("videos_video", "delete", video.pk), {"post": "yes"}).status_code == 302
    assert run_flush().dropped == 1
    assert (Video.objects.count(), VideoLike.objects.count(), VideoHour.objects.count()) == (0, 0, 0)


def test_deleting_a_user_takes_the_likes_out_of_the_counts(client: Client, video: Video) -> None:
    fans = [make_user(f"fan{i}") for i in range(3)]
    for fan in fans:
        services.set_like(video_id=video.id, user_id=fan.id, liked=True)
    run_flush()
    services.set_like(video_id=video.id, user_id=fans[0].id, liked=False)
    page = client.get(url_of("auth_user", "delete", fans[0].pk)).content.decode()
    assert "Video likes: 1" in page
    assert client.post(url_of("auth_user", "delete", fans[0].pk), {"post": "yes"}).status_code == 302
    act(client, "auth_user", "delete_selected", fans[1], post="yes")
    run_flush()
    assert shown(client) == [("one", 1, 1, 0, 0)]
    assert reconcile().differences == []


def test_deleting_names_what_it_needs_a_permission_for(video: Video, owner: User) -> None:
    from django.contrib.auth.models import Permission

    helper = make_user("helper", is_staff=True)
    helper.user_permissions.set(Permission.objects.filter(codename__in=["delete_user", "view_user"]))
    page = signed_in(helper).post(url_of("auth_user", "delete", owner.pk), {"post": "yes"})
    assert page.status_code == 403
    assert Video.objects.filter(pk=video.pk).exists()


def test_a_like_is_taken_back_as_its_user_would(client: Client, video: Video, owner: User) -> None:
    services.set_like(video_id=video.id, user_id=owner.id, liked=True)
    run_flush()
    like = VideoLike.objects.get()
    assert client.post(url_of("videos_videolike", "delete", like.pk), {"post": "yes"}).status_code == 302
    assert services.get_like(video_id=video.id, user_id=owner.id).likes == 0
    run_flush()
    video.refresh_from_db()
    assert (VideoLike.objects.count(), video.like_count) == (0, 0)


def test_selected_likes_are_taken_back_as_their_users_would(client: Client, video: Video, owner: User) -> None:
    fan = make_user("fan")
    for user in (owner, fan):
        services.set_like(video_id=video.id, user_id=user.id, liked=True)
    run_flush()
    act(client, "videos_videolike", "delete_selected", *VideoLike.objects.all(), post="yes")
    run_flush()
    assert shown(client) == [("one", 0, 0, 0, 0)]


@pytest.mark.usefixtures("redis_away")
def test_without_redis_likes_are_taken_back_in_the_rows(client: Client, video: Video, owner: User) -> None:
    for user in (owner, make_user("fan")):
        services.set_like(video_id=video.id, user_id=user.id, liked=True)
    first, second = VideoLike.objects.all()
    page = client.post(url_of("videos_videolike", "delete", first.pk), {"post": "yes"}, follow=True)
    assert "the rows are gone already" in page.content.decode()
    assert "the rows are gone already" in act(client, "videos_videolike", "delete_selected", second, post="yes")
    video.refresh_from_db()
    assert (VideoLike.objects.count(), video.like_count) == (0, 0)


@pytest.mark.parametrize("error", [services.Unavailable, services.VideoNotFound, services.UserNotFound])
def test_a_like_that_cannot_be_taken_back_is_told(
    client: Client, video: Video, owner: User, *, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    like = VideoLike.objects.create(video=video, user=owner)

    monkeypatch.setattr(services, "set_like", failing(error))
    one = client.post(url_of("videos_videolike", "delete", like.pk), {"post": "yes"}, follow=True).content.decode()
    several = act(client, "videos_videolike", "delete_selected", like, post="yes")
    for page in (one, several):
        assert f"Not taken back: {error.__doc__}" in page
        assert "uccessfully" not in page
    assert not LogEntry.objects.exists()


def test_likes_are_found_by_video_and_user(client: Client, owner: User, video: Video) -> None:
    other = make_video(owner, title="two")
    fan = make_user("fan")
    for liked, user in ((video, owner), (video, fan), (other, fan)):
        services.set_like(video_id=liked.id, user_id=user.id, liked=True)
    run_flush()

    def found(term: Any) -> set[tuple[int, int]]:
        return {(row.video_id, row.user_id) for row in rows(client, "videos_videolike", f"?q={term}")}

    assert found("fan") == {(video.pk, fan.pk), (other.pk, fan.pk)}
    assert found("tw") == {(other.pk, fan.pk)}
    assert (video.pk, owner.pk) in found(owner.pk)
    assert found("nothing") == set()
    assert len(found("")) == 3


@pytest.mark.parametrize("model", ["videos_videolike", "videos_flushbatch", "videos_videohour"])
def test_what_the_flush_writes_nobody_adds_or_changes(client: Client, model: str, video: Video) -> None:
    now = datetime.now(UTC)
    VideoLike.objects.create(video=video, user=video.owner)
    FlushBatch.objects.create(shard=1, number=1, claimed_at=now)
    VideoHour.objects.create(video=video, hour=now)
    (row,) = rows(client, model)
    assert client.get(url_of(model, "add")).status_code == 403
    assert client.get(url_of(model, "change", row.pk)).status_code == 200
    assert client.post(url_of(model, "change", row.pk), {"views": 1}).status_code == 403
    if model != "videos_videolike":
        assert client.post(url_of(model, "delete", row.pk), {"post": "yes"}).status_code == 403


def test_batches_stand_below_what_waits(client: Client, video: Video) -> None:
    services.record_view(event=ViewEvent(video.id, "a"))
    run_flush()
    services.record_view(event=ViewEvent(video.id, "b"))
    page = client.get(url_of("videos_flushbatch")).content.decode()
    assert "The flush keeps up." in page
    assert "Waiting: 1 changes pending" in page
    assert [batch.views for batch in rows(client, "videos_flushbatch")] == [1]


def test_hours_are_found_by_video(client: Client, video: Video, owner: User) -> None:
    other = make_video(owner, title="two")
    for seen in (video, other):
        services.record_view(event=ViewEvent(seen.id, "a"))
    run_flush()
    assert [row.video_id for row in rows(client, "videos_videohour", f"?q={other.pk}")] == [other.pk]
    assert rows(client, "videos_videohour", "?q=word") == []


def test_long_lists_are_not_counted_to_their_end(client: Client, owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "MAX_LISTED", 100)
    make_videos(130, owner)
    with CaptureQueriesContext(connection) as queries:
        page = client.get(url_of("videos_video"))
    assert page.context["cl"].result_count == 100
    counting = [query["sql"] for query in queries if "COUNT(" in query["sql"]]
    assert counting
    assert all("LIMIT 100" in sql for sql in counting)
