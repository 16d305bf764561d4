"""What trends: rows that the flush adds to equal brute force over the hours, and lists are ordered by them."""

import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.factories import make_video, make_videos
from tests.support.trends import brute_force, stored, wrong_trends
from videos import counters, ledger, services
from videos.changes import HOUR_SECONDS, Changes, TallyChange
from videos.flush import run_flush
from videos.flush.workers import keep_house
from videos.ledger import trending
from videos.models import TrendingVideo, Video, VideoHour

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


def view(video_id: int, hours_ago: float, choice: random.Random) -> None:
    """A view of somebody, as a trusted client reports it."""
    at_ms = counters.now_ms() - int(hours_ago * 3_600_000)
    event = services.ViewEvent(video_id, f"v{choice.random()}", watched=40, at_ms=at_ms)
    assert services.record_views(events=[event]).counted == 1


def test_scores_equal_brute_force_after_every_flush() -> None:
    videos, choice = make_videos(12), random.Random(7)
    for _ in range(6):
        for _ in range(60):
            view(choice.choice(videos), choice.choice((0, 0, 1, 5, 30, 160)) + choice.random(), choice)
        run_flush()
        assert TrendingVideo.objects.count() == len(set(VideoHour.objects.values_list("video_id", flat=True)))
        assert wrong_trends() == []
    now = time.time() / HOUR_SECONDS
    for window in trending.HALF_LIVES:
        right, found = brute_force(window, now), stored(window, now)
        assert sorted(right, key=right.__getitem__) == sorted(found, key=found.__getitem__)


def test_a_year_of_gains_is_added_without_loss() -> None:
    """Old gains are a tiny part of a score, and numbers neither overflow nor lose it."""
    (video_id,) = make_videos(1)
    now = int(time.time()) // HOUR_SECONDS
    for hour in range(now - 24 * 365, now + 1, 200):
        ledger.write_direct(
            {video_id: Changes(tallies=[TallyChange("views", hour, 10**6 if hour < now - 9000 else 1)])}
        )
    assert wrong_trends() == []


def test_likes_alone_do_not_trend(user: Any) -> None:
    (video_id,) = make_videos(1)
    services.set_like(video_id=video_id, user_id=user.pk, liked=True)
    run_flush()
    assert not TrendingVideo.objects.exists()


def test_merged_hours_and_deleted_ones_are_counted_anew(settings: Any) -> None:
    settings.VIDEOS_HOURS_DAYS = 1
    videos, now = make_videos(3), datetime.now(UTC)
    for place, video_id in enumerate(videos):
        hours = [int(now.timestamp()) // HOUR_SECONDS - 30 - 7 * step - place for step in range(8)]
        ledger.write_direct({video_id: Changes(tallies=[TallyChange("views", hour, 5 + place) for hour in hours])})
    before = dict(TrendingVideo.objects.values_list("video_id", "by_day"))
    assert ledger.roll_up(now) > 0
    assert wrong_trends() == []
    assert before != dict(TrendingVideo.objects.values_list("video_id", "by_day"))
    assert ledger.delete_history(now - timedelta(days=2, hours=12)) > 0
    assert wrong_trends() == []
    ledger.delete_history(now)
    assert not TrendingVideo.objects.exists()


def test_scores_that_fell_to_nothing_are_deleted() -> None:
    old, new = make_videos(2)
    now = int(time.time()) // HOUR_SECONDS
    lasts = trending.HALF_LIVES["week"] * trending.GONE
    ledger.write_direct({old: Changes(tallies=[TallyChange("views", now - lasts - 42, 1)])})
    ledger.write_direct({new: Changes(tallies=[TallyChange("views", now - lasts + 42, 1)])})
    keep_house()
    assert list(TrendingVideo.objects.values_list("video_id", flat=True)) == [new]


def test_a_deleted_video_trends_no_more() -> None:
    video = make_video()
    view(video.pk, 0, random.Random(1))
    run_flush()
    Video.objects.get().delete()
    assert not TrendingVideo.objects.exists()


def test_all_scores_can_be_computed_anew() -> None:
    videos, choice = make_videos(5), random.Random(2)
    for video_id in videos[:4]:
        view(video_id, choice.random() * 50, choice)
    run_flush()
    right = sorted(TrendingVideo.objects.values_list("video_id", "by_day", "by_week"))
    TrendingVideo.objects.update(by_day=1)
    TrendingVideo.objects.filter(video_id=videos[0]).delete()
    TrendingVideo.objects.create(video_id=videos[4], by_day=9, by_week=9)
    assert list(ledger.recompute_all_trends()) == [5]
    assert sorted(TrendingVideo.objects.values_list("video_id", "by_day", "by_week")) == right
