"""Watch time: the seconds that a counted view was watched, kept as views are, by Redis and by the rows alike."""

from typing import Any

import pytest
import redis

from tests.support.factories import make_video
from tests.support.faults import redis_refusing
from videos import counters, services
from videos.changes import DAY_SECONDS, Totals
from videos.counters.keys import keys_of
from videos.flush import reconcile, run_flush
from videos.models import FlushBatch, Video, VideoHour
from videos.services import ViewEvent

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

WAYS = pytest.mark.parametrize("redis_is_away", [False, True], ids=["redis", "rows"])


def shown(video: Video) -> Totals:
    return services.read_counts(video_ids=[video.pk], user_id=None).by_video[video.pk].totals


@WAYS
@pytest.mark.parametrize(
    ("watched", "duration", "seconds"),
    [
        (None, 100, 0),
        (60, 100, 60),
        (60.5, 100, 61),
        (60.49, 100, 60),
        (0.4, 0.5, 0),  # rounded to nothing: no pending field
        (101, 100, 100),
        (1e300, 100, 100),
        (5000, 0, 5000),  # the duration is not known
        (1e300, 0, DAY_SECONDS),
        (1e300, DAY_SECONDS + 1, DAY_SECONDS),
    ],
)
def test_a_view_adds_the_seconds_watched_up_to_the_duration(
    watched: float | None, duration: float, seconds: int, redis_is_away: bool, settings: Any
) -> None:
    settings.VIDEOS_VIEW_MIN_WATCHED_SECONDS = 0
    video = make_video(duration=int(duration))
    with redis_refusing(refuses=redis_is_away):
        view = services.record_view(event=ViewEvent(video.pk, "a", watched=watched))
    assert (view.counted, shown(video).watched) == (True, seconds)
    run_flush()
    video.refresh_from_db()
    assert (video.view_count, video.watch_seconds, shown(video)) == (1, seconds, Totals(0, 1, seconds))
    assert VideoHour.objects.values_list("views", "watched").get() == (1, seconds)
    assert sum(FlushBatch.objects.values_list("watched", flat=True)) == (0 if redis_is_away else seconds)
    assert reconcile().differences == []


@WAYS
def test_events_of_a_batch_add_theirs_each_in_its_hour(redis_is_away: bool) -> None:
    short, long = make_video(duration=50), make_video(duration=0)
    before = counters.now_ms() - 7_200_000
    events = [ViewEvent(short.pk, f"v{number}", watched=40.4) for number in range(3)]
    events += [ViewEvent(short.pk, "w", watched=70, at_ms=before), ViewEvent(long.pk, "v", watched=600)]
    events += [ViewEvent(long.pk, "x", watched=0.1), ViewEvent(long.pk, "y")]
    with redis_refusing(refuses=redis_is_away):
        assert services.record_views(events=events) == (6, {"short": 1}, redis_is_away)
    run_flush()
    assert [row.totals for row in Video.objects.order_by("id")] == [Totals(0, 4, 170), Totals(0, 2, 600)]
    hours = VideoHour.objects.filter(video=short).order_by("hour").values_list("views", "watched")
    assert list(hours) == [(1, 50), (3, 120)]


def test_a_view_that_does_not_count_adds_no_time() -> None:
    video = make_video(duration=100)
    events = [ViewEvent(video.pk, "a", watched=watched) for watched in (40, 50, 1)]
    events += [ViewEvent(video.pk, "b", watched=60, bot=True), ViewEvent(video.pk, "c", video.owner_id, 60)]
    reasons = [services.record_view(event=event).reason for event in events]
    assert (reasons, shown(video)) == (["new", "seen", "short", "bot", "owner"], Totals(0, 1, 40))


def test_a_pending_field_that_holds_no_number_loses_no_later_time(redis_client: redis.Redis) -> None:
    video = make_video()
    pending = keys_of(counters.shard_of(video.pk)).pending
    field = f"w:{video.pk}:{counters.now_ms() // 3_600_000}"
    redis_client.hset(pending, field, "many")
    services.record_view(event=ViewEvent(video.pk, "a", watched=60))
    run_flush()
    assert (Video.objects.get().watch_seconds, FlushBatch.objects.get().rejected) == (60, 1)


def test_watch_time_of_another_system_is_imported() -> None:
    video = make_video()
    services.record_view(event=ViewEvent(video.pk, "a", watched=60))
    assert services.import_counts(column="watch_seconds", values={video.pk: 1000}, add=True) == []
    run_flush()
    assert shown(video) == Totals(0, 1, 1060)
