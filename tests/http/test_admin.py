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
    found = []
    for row in rows(client, "videos_video", query):
        live = row.live or (None, None)
        found.append((row.title, live[0], row.like_count, live[1], row.view_count))
    return found


def test_live_and_stored_counts_stand_side_by_side(client: Client, video: Video, owner: User) -> None:
    services.set_like(video_id=video.id, user_id=owner.id, liked=True)
    services.record_view(event=ViewEvent(video.id, "a"))
    assert shown(client) == [("one", 1, 0, 1, 0)]
    run_flush()
    assert shown(client) == [("one", 1, 1, 1, 1)]
    services.record_view(event=ViewEvent(video.id, "b"))
    page = client.get(url_of("videos_video")).content.decode()
    assert '>2 <span class="stored-number">stored: 1<' in page
    page = client.get(url_of("videos_video", "change", video.pk)).content.decode()
    assert "Views</th><td>2</td><td>1</td><td>1</td>" in page


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
    assert [row.title for row in rows(client, "videos_video", "?o=-3")] == ["3", "2", "1"]
    assert [row.title for row in rows(client, "videos_video", "?o=-4")] == ["1", "2", "3"]


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

    monkeypatch.setattr(services, "set_mark", failing(error))
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
    assert "Changes pending: 1" in page
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
    assert "more than 100 videos" in page.content.decode()
    counting = [query["sql"] for query in queries if "COUNT(" in query["sql"]]
    assert counting
    assert all("LIMIT 101" in sql for sql in counting)


def batch(**values: Any) -> FlushBatch:
    now = datetime.now(UTC)
    values = {"shard": 1, "number": 1 + FlushBatch.objects.count(), "claimed_at": now, "finished_at": now} | values
    return FlushBatch.objects.create(**values)


def test_the_first_page_shows_what_the_flush_added_and_which_videos_lead(client: Client, video: Video) -> None:
    services.record_view(event=ViewEvent(video.id, "a"))
    run_flush()
    services.record_view(event=ViewEvent(video.id, "b"))
    page = client.get(reverse("admin:index"))
    text = page.content.decode()
    minutes, hours = page.context["charts"]
    assert [(one.unit, one.total) for one in (*minutes, *hours)] == [
        ("likes", "0"),
        ("views", "1"),
        ("seconds", "0"),
        ("dislikes", "0"),
    ] * 2
    assert [[video.title for video, _ in videos] for _, videos in page.context["leaders"]] == [["one"]] * 3
    assert [(shard[0], shard[1]) for shard in page.context["shards"] if shard[1] != "0"] == [(video.id % 16, "1")]
    assert "The flush keeps up." in text
    assert len(page.context["batches"]) == 1


def test_a_late_flush_says_what_to_do(client: Client, video: Video, settings: Any) -> None:
    services.record_view(event=ViewEvent(video.id, "a"))
    client.get(reverse("admin:index"))
    settings.VIDEOS_FLUSH_INTERVAL_SECONDS = -100  # as if it were later
    page = client.get(reverse("admin:index")).content.decode()
    assert "The flush is late." in page
    assert "flush now. Nothing is lost" in page


@pytest.mark.usefixtures("redis_away")
def test_without_redis_the_first_page_says_so(client: Client) -> None:
    assert "Redis does not answer" in client.get(reverse("admin:index")).content.decode()
    page = client.post(reverse("admin:videos_flushbatch_flush"), follow=True).content.decode()
    assert "Nothing was flushed" in page or "failed" in page


def test_flush_now_says_what_it_moved(client: Client, video: Video) -> None:
    services.record_view(event=ViewEvent(video.id, "a"))
    assert client.get(reverse("admin:videos_flushbatch_flush")).status_code == 405
    page = client.post(reverse("admin:videos_flushbatch_flush"), follow=True).content.decode()
    assert "Flushed 1 changes in 1 batches" in page
    video.refresh_from_db()
    assert video.view_count == 1


def test_what_went_wrong_is_shown_until_it_is_acknowledged(client: Client) -> None:
    from videos.flush import read_status

    dropped, rewound, fine = batch(dropped=2), batch(rewound=True, rejected=1), batch()
    assert read_status().rewound_batches == 1
    assert [kind for kind, _, _ in client.get(reverse("admin:index")).context["troubles"]] == [
        "dropped", "rejected", "rewound",
    ]  # fmt: skip
    listed = client.get(url_of("videos_flushbatch")).content.decode()
    assert "2 dropped: their video or user is gone" in listed
    assert "changes may be lost" in listed
    done = client.post(reverse("admin:videos_flushbatch_acknowledge"), {"trouble": "dropped"}, follow=True)
    assert "1 batch acknowledged." in done.content.decode()
    assert "1 batch acknowledged." in act(client, "videos_flushbatch", "acknowledge", rewound, fine)
    assert client.get(reverse("admin:index")).context["troubles"] == []
    assert read_status().rewound_batches == 0
    assert set(FlushBatch.objects.filter(acknowledged=True)) == {dropped, rewound}


def test_staff_see_and_do_what_they_are_permitted(video: Video) -> None:
    from django.contrib.auth.models import Permission

    helper = make_user("helper", is_staff=True)
    browser = signed_in(helper)
    page = browser.get(reverse("admin:index"))
    assert not [name for name in ("charts", "leaders", "flush", "batches") if name in page.context]
    for action in ("flush", "acknowledge"):
        assert browser.post(reverse(f"admin:videos_flushbatch_{action}")).status_code == 403
    assert browser.post(url_of("auth_user", "deactivate", helper.pk)).status_code == 403
    helper.user_permissions.set(Permission.objects.filter(codename="view_flushbatch"))
    page = browser.get(reverse("admin:index"))
    assert "batches" in page.context
    assert "charts" not in page.context
    assert "Flush now" not in page.content.decode()


def test_a_user_is_deactivated_instead_of_deleted(client: Client, video: Video, owner: User) -> None:
    Video.objects.filter(pk=video.pk).update(like_count=7)
    page = client.get(url_of("auth_user", "delete", owner.pk)).content.decode()
    assert re.search(r"Their videos: 1,.*7 likes", page, re.DOTALL)
    assert "Deactivate instead" in page
    assert client.get(url_of("auth_user", "deactivate", owner.pk)).status_code == 405
    assert client.post(url_of("auth_user", "deactivate", 10**6)).status_code == 404
    page = client.post(url_of("auth_user", "deactivate", owner.pk), follow=True).content.decode()
    assert "can no longer sign in" in page
    owner.refresh_from_db()
    assert (owner.is_active, Video.objects.count()) == (False, 1)
    assert "Deactivate instead" not in client.get(url_of("auth_user", "delete", owner.pk)).content.decode()


def test_a_video_shows_its_history_and_leads_to_its_likers(client: Client, video: Video, owner: User) -> None:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    VideoHour.objects.create(video=video, hour=now, likes=-1, views=1234)
    page = client.get(url_of("videos_video", "change", video.pk))
    days, hours = page.context["charts"]
    assert [(one.total, len(one.bars)) for one in (days[0], days[1], hours[1])] == [
        ("-1", 30),
        ("1,234", 30),
        ("1,234", 48),
    ]
    link = f"{url_of('videos_videolike')}?video__id__exact={video.pk}"
    assert link in page.content.decode()
    VideoLike.objects.create(video=video, user=owner)
    VideoLike.objects.create(video=make_video(owner, title="two"), user=owner)
    assert [row.video_id for row in rows(client, "videos_videolike", f"?video__id__exact={video.pk}")] == [video.pk]


def test_videos_are_found_by_owner_date_and_the_word_index(client: Client, owner: User, video: Video) -> None:
    other = make_video(make_user("somebody"), title="Ünïque wörds")
    assert [row.pk for row in rows(client, "videos_video", "?q=somebody")] == [other.pk]
    with CaptureQueriesContext(connection) as queries:
        assert [row.pk for row in rows(client, "videos_video", "?q=unique")] == [other.pk]
    assert not [query["sql"] for query in queries if "LIKE" in query["sql"]]
    assert rows(client, "videos_video", "?created_at_from=2000-01-01&created_at_to=2000-01-02") == []
    assert len(rows(client, "videos_video", "?created_at_from=2000-01-01&created_at_to=nothing")) == 2


def test_a_search_that_takes_too_long_is_told(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("find_videos", "ids_by_name"):
        monkeypatch.setattr(services, name, failing(services.SearchTimeout))
    for model in ("videos_video", "videos_videolike"):
        assert str(services.SearchTimeout()) in client.get(url_of(model) + "?q=word").content.decode()


def test_a_deletion_lists_so_many_videos_by_name(client: Client, owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "MAX_NAMED", 5)
    make_videos(9, owner)
    assert "and 4 more" in client.get(url_of("auth_user", "delete", owner.pk)).content.decode()
