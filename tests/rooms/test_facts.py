"""What is written past the service: owners and durations, counts of another system, fixtures, rows that are gone."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.core.management.color import no_style
from django.db import connection

from tests.support.factories import make_user, make_video, make_videos
from videos import counters, services
from videos.changes import HOUR_MS, LIKE, Totals
from videos.conf import conf
from videos.flush import reconcile, run_flush
from videos.models import StaleLive, Video, VideoLike
from videos.services import ViewEvent

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


def reason(video: Video, viewer: str, watched: float | None = None, user: User | None = None) -> str:
    event = ViewEvent(video.pk, viewer, None if user is None else user.pk, watched)
    return services.record_view(event=event).reason


def shown(video_id: int) -> Totals:
    return services.read_counts(video_ids=[video_id], user_id=None).by_video[video_id].totals


def by_sql(video: Video, duration: int, owner: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE videos_video SET duration = %s, owner_id = %s WHERE id = %s", [duration, owner.pk, video.pk]
        )


def by_update(video: Video, duration: int, owner: User) -> None:
    Video.objects.filter(pk=video.pk).update(duration=duration, owner=owner)


@pytest.mark.parametrize("write", [by_sql, by_update])
@pytest.mark.parametrize("idle", [False, True])
def test_owner_and_duration_reach_the_rules_with_the_next_flush(
    video: Video, user: User, write: Any, idle: bool
) -> None:
    assert reason(video, "first", 99) == "new"
    if idle:
        run_flush()  # nothing of the video is pending any more
    write(video, 12, user)
    run_flush()
    assert reason(video, "second", 8) == "new"
    assert (reason(video, "@", 99, user), reason(video, "@@", 99, video.owner)) == ("owner", "new")


@pytest.mark.parametrize(("edited", "queries"), [(True, 0), (False, 1)])
def test_a_like_after_an_edit_asks_no_database_and_after_a_repair_it_does(
    video: Video, user: User, edited: bool, queries: int, django_assert_num_queries: Any
) -> None:
    services.set_like(video_id=video.pk, user_id=user.pk, liked=True)
    run_flush()
    if edited:
        video.save()
    else:
        VideoLike.objects.all().delete()
        reconcile(repair=True)
    run_flush()
    assert not StaleLive.objects.exists()
    with django_assert_num_queries(queries):
        like = services.get_like(video_id=video.pk, user_id=user.pk)
        assert (like.liked, like.likes) == (edited, int(edited))


def test_a_video_that_reuses_an_id_knows_no_dated_view_of_before(video: Video) -> None:
    def dated(at_ms: int) -> str:
        return services.record_view(event=ViewEvent(video.pk, "v", at_ms=at_ms)).reason

    pk, now_ms = video.pk, counters.now_ms()
    assert dated(now_ms - 60_000) == "new"
    run_flush()
    owner = video.owner
    video.delete()
    run_flush()
    video = Video.objects.create(pk=pk, title="another", url="https://example.com/a", owner=owner)
    assert dated(now_ms + 2000) == "new"
    run_flush()
    assert dated(now_ms + 3000) == "seen"
    assert shown(pk) == Totals(0, 1)


def test_a_repair_forgets_likes_also_where_the_counts_are_right(video: Video, user: User) -> None:
    other = make_user("other")
    services.set_like(video_id=video.pk, user_id=user.pk, liked=True)
    run_flush()
    VideoLike.objects.update(user=other)  # by hand: one is gone and another is there
    assert reconcile(repair=True).differences == []
    for one, liked in ((user, False), (other, True)):
        assert services.get_like(video_id=video.pk, user_id=one.pk).liked is liked
    services.set_like(video_id=video.pk, user_id=user.pk, liked=True)
    run_flush()
    assert VideoLike.objects.count() == 2
    assert shown(video.pk) == Totals(2, 0)
    assert reconcile().differences == []


def test_a_video_that_redis_forgot_leaves_the_index(video: Video, redis_client: redis.Redis) -> None:
    shard = counters.shard_of(video.pk)
    reason(video, "v")
    run_flush()
    assert redis_client.smembers(f"{{videos:{shard}}}:lives") == {str(video.pk)}
    redis_client.delete(f"{{videos:{shard}}}:live:{video.pk}")
    run_flush()
    assert not redis_client.exists(f"{{videos:{shard}}}:lives")


def test_many_live_videos_are_compared(owner: User) -> None:
    video_ids = make_videos(2500, owner)
    conf_shards = {video_id for video_id in video_ids if video_id % conf.SHARDS == 0}
    services.record_views(events=[ViewEvent(video_id, "v") for video_id in conf_shards])
    Video.objects.filter(pk__in=conf_shards).update(duration=10)
    run_flush()
    sums = services.record_views(events=[ViewEvent(video_id, "w", None, 6) for video_id in conf_shards])
    assert sums.counted == len(conf_shards)


def test_a_video_that_was_deleted_by_sql_is_forgotten(video: Video, redis_client: redis.Redis) -> None:
    reason(video, "v")
    run_flush()
    delete_by_sql(video.pk)
    run_flush()
    live = redis_client.hgetall(f"{{videos:{counters.shard_of(video.pk)}}}:live:{video.pk}")
    assert set(live) == {"since", "born", "born_at"}  # what was remembered of this id is invalid
    with pytest.raises(services.VideoNotFound):
        reason(video, "w")
    assert not StaleLive.objects.exists()


def delete_by_sql(video_id: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM videos_videohour WHERE video_id = %s", [video_id])
        cursor.execute("DELETE FROM videos_video WHERE id = %s", [video_id])


def test_facts_follow_also_where_a_note_made_the_live_key(video: Video, user: User) -> None:
    video.save()  # nobody has viewed it: settling this note makes the live key
    run_flush()
    by_sql(video, 12, user)
    run_flush()
    assert reason(video, "v", 8) == "new"
    assert reason(video, "@", 99, user) == "owner"


@pytest.fixture
def ids_begin_anew() -> Iterator[None]:
    """After the test, ids of videos go on where they would without it."""
    yield
    Video.objects.all().delete()
    tables = [{"table": Video._meta.db_table, "column": "id"}]
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_by_name_sql(no_style(), tables):
            cursor.execute(statement)


@pytest.mark.usefixtures("ids_begin_anew")
@pytest.mark.parametrize("pk", [7, 2**60 + 1])
def test_a_video_of_any_id_that_was_deleted_by_sql_is_gone(owner: User, pk: int) -> None:
    video = make_video(owner, pk=pk)
    video.save()
    run_flush()
    delete_by_sql(pk)
    for settled in (1, 0):
        assert run_flush().settled == settled
    assert pk not in services.read_counts(video_ids=[pk], user_id=None).by_video


def test_what_makes_older_keys_invalid_outlives_them(
    video: Video, user: User, settings: Any, redis_client: redis.Redis
) -> None:
    settings.VIDEOS_VIEW_WINDOW_SECONDS = settings.VIDEOS_LIKED_SECONDS = 100_000
    settings.VIDEOS_LIVE_SECONDS = 3600
    pk, owner = video.pk, video.owner
    reason(video, "v")
    services.set_like(video_id=pk, user_id=user.pk, liked=True)
    run_flush()
    video.delete()
    run_flush()
    video = make_video(owner, pk=pk)
    live = f"{{videos:{counters.shard_of(pk)}}}:live:{pk}"
    lives = [redis_client.ttl(live)]
    for act in (
        lambda: reason(video, "w"),
        lambda: services.set_like(video_id=pk, user_id=user.pk, liked=True),
        video.save,
        lambda: (VideoLike.objects.all().delete(), reconcile(repair=True), reason(video, "y")),
    ):
        act()
        lives.append(redis_client.ttl(live))
        run_flush()
        lives.append(redis_client.ttl(live))
    assert min(lives) > 100_000
    assert redis_client.hget(live, "born")


# Imports


def run_import(tmp_path: Path, text: str, *arguments: str) -> str:
    (tmp_path / "counts.csv").write_text(text)
    out = io.StringIO()
    call_command("import_counts", str(tmp_path / "counts.csv"), *arguments, stdout=out)
    return out.getvalue()


def test_imported_views_are_shown_after_the_next_flush(video: Video, tmp_path: Path) -> None:
    for viewer in ("a", "b"):
        reason(video, viewer)
    run_flush()
    reason(video, "c")  # is pending while the import runs
    for _ in range(2):  # repeating it changes nothing
        said = run_import(tmp_path, f"video,view_count\n{video.pk},1000\n987654321,5\n")
        assert said == "video 987654321: there is none\n1 videos imported, 1 absent; the next flush shows them.\n"
    run_flush()
    video.refresh_from_db()
    assert (video.view_count, shown(video.pk).views) == (1001, 1001)
    assert reconcile().differences == []


def test_imported_views_are_added_if_asked_for(video: Video, tmp_path: Path) -> None:
    reason(video, "a")
    run_flush()
    run_import(tmp_path, f"video,view_count\r\n{video.pk},5\r\n\r\n{video.pk},6\r\n", "--add")
    run_flush()
    assert shown(video.pk).views == 12


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "The first line must be video,view_count"),
        ("video,like_count\n1,2\n", "like_count is the number of like rows"),
        ("video,view_count\n1\n", "Line 2 is not a video's id and a number: '1'"),
        ("video,view_count\n1,2\n1,-2\n", "Line 3 is not"),
        ("video,view_count\n1,9999999999999999999\n", "Line 2 is not"),
    ],
)
def test_a_file_that_is_no_import_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(CommandError, match=said):
        run_import(tmp_path, text)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(CommandError, match="nowhere"):
        call_command("import_counts", "nowhere.csv")


# Fixtures


def test_rows_of_a_fixture_are_shown_after_the_next_flush(video: Video, user: User, tmp_path: Path) -> None:
    services.set_like(video_id=video.pk, user_id=user.pk, liked=True)
    run_flush()
    out = tmp_path / "rows.json"
    call_command("dumpdata", "videos.Video", "videos.VideoLike", output=str(out))
    services.set_like(video_id=video.pk, user_id=user.pk, liked=False)
    run_flush()
    assert not services.get_like(video_id=video.pk, user_id=user.pk).liked

    call_command("loaddata", str(out), verbosity=0)
    run_flush()

    assert services.get_like(video_id=video.pk, user_id=user.pk)[1:3] == (LIKE, Totals(1))
    assert services.set_like(video_id=video.pk, user_id=user.pk, liked=False).likes == 0
    run_flush()
    assert not VideoLike.objects.exists()
    assert reconcile().differences == []


def test_a_video_of_a_fixture_is_not_taken_for_the_one_before(video: Video, tmp_path: Path) -> None:
    reason(video, "v")
    row = {"title": "t", "url": "https://example.com", "owner": make_user("other").pk, "duration": 10}
    out = tmp_path / "rows.json"
    out.write_text(json.dumps([{"model": "videos.video", "pk": video.pk, "fields": row}]))
    call_command("loaddata", str(out), verbosity=0)
    run_flush()
    assert reason(video, "w", 6) == "new"
    assert shown(video.pk).views == 2  # the view of the fixture's row and the one that was pending


@pytest.mark.parametrize("there", [True, False])
def test_a_watermark_does_not_come_with_a_fixture(video: Video, user: User, tmp_path: Path, there: bool) -> None:
    for viewer in "abc":
        reason(video, viewer)
        run_flush()
    own = Video.objects.get().flushed_batch
    row = {"title": "t", "url": "https://example.com", "owner": user.pk, "view_count": 3, "flushed_batch": 1000}
    out = tmp_path / "rows.json"
    out.write_text(json.dumps([{"model": "videos.video", "pk": video.pk if there else 987654, "fields": row}]))
    call_command("loaddata", str(out), verbosity=0)
    loaded = Video.objects.get(pk=video.pk if there else 987654)
    assert (loaded.view_count, loaded.flushed_batch) == (3, own if there else 0)
    reason(loaded, "d")
    run_flush()
    loaded.refresh_from_db()
    assert (loaded.view_count, shown(loaded.pk).views) == (4, 4)


# Views with a time of their own


def dated(video: Video, viewer: str, hours: float) -> ViewEvent:
    return ViewEvent(video.pk, viewer, None, None, counters.now_ms() - int(hours * HOUR_MS))


def test_views_of_a_viewer_at_other_times_count_each(video: Video, redis_client: redis.Redis) -> None:
    events = [dated(video, "tv", hours) for hours in (30, 6, 24, 12, 18)]
    assert services.record_views(events=events).counted == 5
    for key in redis_client.scan_iter("*:seen:*"):
        redis_client.delete(key)  # half an hour later
    assert services.record_views(events=events) == (0, {"seen": 5}, False)
    near = [dated(video, "tv", hours) for hours in (11.6, 12.4)]
    assert services.record_views(events=near) == (0, {"seen": 2}, False)
    assert services.record_views(events=[dated(video, "tv", 12.6)]).counted == 1


def test_a_view_of_a_few_minutes_ago_opens_the_window_of_now(video: Video) -> None:
    assert services.record_views(events=[dated(video, "tv", 0.1)]).counted == 1
    assert reason(video, "tv") == "seen"
    assert reason(video, "phone") == "new"
    assert services.record_views(events=[dated(video, "phone", 0.1)]) == (0, {"seen": 1}, False)


def test_videos_are_apart_and_the_memory_of_times_ends(redis_client: redis.Redis) -> None:
    videos = [make_video(title="a"), make_video(title="b")]
    assert services.record_views(events=[dated(video, "tv", 5) for video in videos]).counted == 2
    keys = list(redis_client.scan_iter("*:dated:*"))
    assert len(keys) == 2
    most = conf.VIEW_MAX_AGE_SECONDS + conf.VIEW_WINDOW_SECONDS
    assert all(most - 60 < redis_client.ttl(key) <= most for key in keys)
