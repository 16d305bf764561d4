"""What a like, an unlike and a view mean, on real servers.

Over 250 lines: all tests call the services on the same real servers, with the same few helpers.
"""

from typing import Any

import pytest
import redis
from django.contrib.auth.models import User

from servers import RedisServer
from tests.support.factories import like_all, make_user, make_users, make_video, make_videos
from tests.support.faults import failing
from videos import counters, services
from videos.changes import LIKE, Totals
from videos.counters import requests
from videos.flush import reconcile, run_flush
from videos.ledger.reads import Window
from videos.models import FlushBatch, StaleLive, Video, VideoHour, VideoLike
from videos.services import ViewEvent

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


def test_like_shows_at_once_and_reaches_the_rows_with_the_flush(video: Video, user: User) -> None:
    like = services.set_like(video_id=video.id, user_id=user.id, liked=True)
    assert (like.liked, like.likes, like.stored) == (True, 1, False)
    video.refresh_from_db()
    assert video.like_count == 0

    report = run_flush()

    assert (report.sums["likes_added"], report.fields, report.applied) == (1, 1, 1)
    video.refresh_from_db()
    assert video.like_count == 1
    assert VideoLike.objects.filter(video=video, user=user).exists()
    assert services.get_like(video_id=video.id, user_id=user.id).liked is True
    batch = FlushBatch.objects.get()
    assert (batch.fields, batch.applied, batch.likes_added, batch.videos) == (1, 1, 1, 1)
    assert batch.finished_at is not None


@pytest.mark.parametrize(("wishes", "added"), [((True, True, True), 1), ((False,), 0), ((True, False), 0)])
def test_wishes_between_two_flushes_cost_the_database_one_field(
    video: Video, user: User, wishes: tuple[bool, ...], added: int
) -> None:
    def flushed() -> tuple[int, int, int]:
        report = run_flush()
        return report.fields, report.sums["likes_added"], report.sums["likes_removed"]

    services.set_like(video_id=video.id, user_id=user.id, liked=False)
    run_flush()
    for liked in wishes:
        assert services.set_like(video_id=video.id, user_id=user.id, liked=liked).likes == liked
    assert flushed() == (1, added, 0)
    assert services.set_like(video_id=video.id, user_id=user.id, liked=wishes[-1]).likes == wishes[-1]
    assert flushed() == (1, 0, 0)


@pytest.mark.parametrize("claimed", [False, True])
def test_counts_of_live_keys_that_expired_before_the_flush_stay_as_they_were(
    claimed: bool, video: Video, user: User, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.set_like(video_id=video.id, user_id=user.id, liked=True)
    services.record_view(event=ViewEvent(video.id, "v"))
    if claimed:
        with monkeypatch.context() as patch:
            patch.setattr(counters.Batch, "make_durable", failing(ZeroDivisionError()))
            with pytest.raises(ZeroDivisionError):
                run_flush()

    def expire() -> None:
        for key in [*redis_client.scan_iter("*:live:*"), *redis_client.scan_iter("*:liked:*")]:
            redis_client.delete(key)

    expire()
    assert services.read_counts(video_ids=[video.id], user_id=user.id).by_video[video.id] == (Totals(1, 1), True)
    expire()
    assert services.record_view(event=ViewEvent(video.id, "w")).views == 2
    expire()
    assert services.set_like(video_id=video.id, user_id=video.owner_id, liked=True).likes == 2
    assert services.set_like(video_id=video.id, user_id=user.id, liked=True).likes == 2
    run_flush()
    video.refresh_from_db()
    assert (
        video.totals
        == Totals(2, 2)
        == services.read_counts(video_ids=[video.id], user_id=None).by_video[video.id].totals
    )


@pytest.mark.parametrize("claimed", [False, True])
def test_lists_of_likes_have_every_like_and_unlike_however_late_the_flush(
    claimed: bool, user: User, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos, others = make_videos(300), make_users(230, "other")
    window = Window("created_at", True, None, 1000)

    def my_likes() -> list[int]:
        found: list[int] = []
        beyond = None
        while part := services.liked_videos(user_id=user.id, window=Window("created_at", True, beyond, 7)).likes:
            found += [like.id for like in part]
            beyond = part[-1].at, part[-1].id
        return found

    def likers() -> set[int]:
        return {like.id for like in services.likers(video_id=videos[0], user_id=None, window=window).likes}

    like_all(videos, [user.id])
    run_flush()
    assert list(redis_client.scan_iter("*recent*")) == []
    for video in videos[::3]:
        services.set_like(video_id=video, user_id=user.id, liked=False)
    for one in others:
        services.set_like(video_id=videos[0], user_id=one, liked=True)
    if claimed:
        with monkeypatch.context() as patch:
            patch.setattr(counters.Batch, "make_durable", failing(counters.CountersUnavailable()))
            run_flush()
    services.set_like(video_id=videos[0], user_id=others[0], liked=False)
    services.set_like(video_id=videos[3], user_id=user.id, liked=True)
    for key in [*redis_client.scan_iter("*:live:*"), *redis_client.scan_iter("*:liked:*")]:
        redis_client.delete(key)  # weeks later
    wanted = (set(videos) - set(videos[::3])) | {videos[3]}
    for _ in range(2):
        assert sorted(my_likes()) == sorted(wanted)
        assert likers() == set(others[1:])
        run_flush()
    assert list(redis_client.scan_iter("*recent*")) == []


@pytest.mark.parametrize("most", [3, 2])
def test_who_likes_a_video_is_read_from_the_rows_and_says_so_where_too_much_waits(
    most: int, video: Video, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "MAX_SCANNED_FIELDS", most)
    stored, other = make_users(2, "other")
    services.set_like(video_id=video.id, user_id=stored, liked=True)
    run_flush()
    for one in (user.id, other):
        services.set_like(video_id=video.id, user_id=one, liked=True)
    services.record_view(event=ViewEvent(video.id, "v"))
    found = services.likers(video_id=video.id, user_id=user.id, window=Window("created_at", True, None, 10))
    assert found.stored is (most < 3)
    assert {like.id for like in found.likes} == {stored, user.id, *([other] if most == 3 else [])}


def test_view_counts_once_in_a_window(video: Video) -> None:
    first = services.record_view(event=ViewEvent(video.id, "v1"))
    again = services.record_view(event=ViewEvent(video.id, "v1"))
    assert (first.counted, first.reason, first.views) == (True, "new", 1)
    assert (again.counted, again.reason, again.views) == (False, "seen", 1)
    run_flush()
    video.refresh_from_db()
    assert video.view_count == 1
    assert VideoHour.objects.get().views == 1


@pytest.mark.parametrize(
    ("duration", "event", "reason"),
    [
        *((100, {"bot": True}, "bot"), (100, {"watched": 9.9}, "short"), (100, {"watched": 10}, "new")),
        *((10, {"watched": 4.9}, "short"), (10, {"watched": 5}, "new")),  # half of a short video
    ],
)
def test_view_that_does_not_count_says_why(duration: int, event: dict[str, Any], reason: str) -> None:
    view = services.record_view(event=ViewEvent(make_video(duration=duration).id, "v1", **event))
    assert (view.reason, view.counted) == (reason, reason == "new")


def test_view_of_own_video_does_not_count(video: Video, owner: User) -> None:
    assert services.record_view(event=ViewEvent(video.id, "v1", user_id=owner.id)).reason == "owner"


def test_views_beyond_the_limit_of_an_address_do_not_count(video: Video, settings: object) -> None:
    settings.VIDEOS_VIEW_ADDRESS_LIMIT = 2  # type: ignore[attr-defined]
    reasons = [services.record_view(event=ViewEvent(video.id, f"v{i}", address="a")).reason for i in range(4)]
    assert reasons == ["new", "new", "address", "address"]
    assert services.record_view(event=ViewEvent(video.id, "v9", user_id=99)).reason == "new"


def test_batch_of_views_counts_each_event_once(video: Video, owner: User) -> None:
    other = make_video(owner)
    events = (
        [ViewEvent(video.id, f"v{i % 50}") for i in range(100)] + [ViewEvent(other.id, "v")] + [ViewEvent(999, "v")]
    )
    sums = services.record_views(events=events)
    assert (sums.counted, sums.ignored) == (51, {"absent": 1, "seen": 50})
    run_flush()
    assert list(Video.objects.order_by("id").values_list("view_count", flat=True)) == [50, 1]


def test_deleted_user_leaves_counts_equal_to_rows(video: Video, user: User, owner: User) -> None:
    services.set_like(video_id=video.id, user_id=user.id, liked=True)
    services.set_like(video_id=video.id, user_id=owner.id, liked=True)
    run_flush()
    user.delete()
    video.refresh_from_db()
    assert video.like_count == 1
    run_flush()
    assert services.get_like(video_id=video.id, user_id=None).likes == 1
    assert not StaleLive.objects.exists()


def test_counts_stay_between_zero_and_the_rows_where_likes_were_made_outside(video: Video, owner: User) -> None:
    users = [make_user(f"user{i}") for i in range(5)]
    VideoLike.objects.bulk_create(VideoLike(video=video, user=user) for user in users[:4])
    services.record_view(event=ViewEvent(video.id, "v"))

    def shown() -> int:
        video.refresh_from_db()
        likes = services.get_like(video_id=video.id, user_id=None).likes
        assert 0 <= video.like_count <= VideoLike.objects.filter(video=video).count()
        assert likes >= 0
        return likes

    assert services.set_like(video_id=video.id, user_id=users[0].id, liked=False).likes == 0
    assert shown() == 0
    run_flush()
    assert shown() == 3
    Video.objects.update(like_count=0)
    users[1].delete()
    run_flush()
    assert shown() == 2
    services.set_like(video_id=video.id, user_id=users[2].id, liked=False)
    services.set_like(video_id=video.id, user_id=users[4].id, liked=True)
    run_flush()
    assert shown() == 2
    assert reconcile().differences == []


def test_like_of_a_deleted_user_is_dropped(video: Video, user: User) -> None:
    services.set_like(video_id=video.id, user_id=user.id, liked=True)
    user.delete()
    report = run_flush()
    assert (report.dropped, report.applied) == (1, 0)
    assert services.get_like(video_id=video.id, user_id=None).likes == 0
    assert reconcile().differences == []


def test_changes_of_a_deleted_video_are_dropped(video: Video, user: User, redis_client: redis.Redis) -> None:
    services.set_like(video_id=video.id, user_id=user.id, liked=True)
    services.record_view(event=ViewEvent(video.id, "v"))
    pk = video.pk
    video.delete()
    with pytest.raises(services.VideoNotFound):
        services.get_like(video_id=pk, user_id=user.id)
    assert run_flush().dropped == 2
    (key,) = redis_client.scan_iter("*live*")
    assert set(redis_client.hgetall(key)) == {"since", "born", "born_at"}  # what it remembers of this id is invalid
    assert redis_client.ttl(key) > 0
    assert not StaleLive.objects.exists()


def test_saving_an_old_object_leaves_the_counts(video: Video, user: User) -> None:
    old = Video.objects.get(pk=video.pk)
    services.set_like(video_id=video.id, user_id=user.id, liked=True)
    run_flush()
    old.title = "new title"
    old.save()
    Video(pk=video.pk, title="by id", url="https://example.com/3", owner=video.owner).save()
    old.save(update_fields=["title"])
    video.refresh_from_db()
    assert (video.like_count, video.title) == (1, "new title")


def test_a_new_row_has_no_counts_also_where_it_copies_one(video: Video, user: User) -> None:
    services.set_like(video_id=video.id, user_id=user.id, liked=True)
    run_flush()
    copy, other = Video.objects.get(), Video.objects.get()
    copy.pk = other.pk = None
    copy.save()
    Video.objects.bulk_create([other])
    made = Video.objects.create(url="https://example.com/3", owner=video.owner, like_count=7, flushed_batch=10**6)
    assert (made.totals, made.flushed_batch) == (Totals(), 0)
    counted = Video.objects.order_by("id").values_list("like_count", "flushed_batch")
    assert list(counted)[1:] == [(0, 0)] * 3


@pytest.mark.parametrize("column", ["view_count", "like_count", "flushed_batch"])
def test_saving_a_count_is_refused_with_the_reason(video: Video, column: str) -> None:
    with pytest.raises(ValueError, match=rf"save\(\) does not write {column}: .* import_counts .* reconcile_counters"):
        video.save(update_fields=["title", column])


def test_recent_likes_know_the_last_wish(video: Video, user: User) -> None:
    services.set_like(video_id=video.id, user_id=user.id, liked=True)
    marks, away = services.recent_marks(user_id=user.id)
    assert (away, {video_id: state.value for video_id, state in marks.items()}) == (False, {video.id: LIKE})


def test_views_of_which_one_shard_counted_and_another_refused_are_not_counted_again(
    video: Video, owner: User, own_redis: RedisServer
) -> None:
    other = make_video(owner)
    events = [ViewEvent(video.id, "v"), ViewEvent(other.id, "v")]
    services.record_views(events=[ViewEvent(video.id, "warm"), ViewEvent(other.id, "warm")])
    allowed = f"{{videos:{counters.shard_of(video.id)}}}:*"
    client = own_redis.client()
    client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all"], keys=[allowed], reset_keys=True)
    with pytest.raises(services.Unavailable):
        services.record_views(events=events)
    assert not VideoHour.objects.exists()
    client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all"], keys=["*"], reset_keys=True)
    sums = services.record_views(events=events)
    assert (sums.counted, sums.ignored) == (1, {"seen": 1})


def test_cold_video_on_a_full_server_is_counted_in_the_rows(
    video: Video, own_redis: RedisServer, settings: Any
) -> None:
    settings.VIDEOS_ANONYMOUS_MEMORY_SHARE = 1
    own_redis.client().config_set("maxmemory", "1")
    view = services.record_view(event=ViewEvent(video.id, "v"))
    assert (view.counted, view.stored) == (True, True)
