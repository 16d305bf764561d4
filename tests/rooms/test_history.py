"""Hours: those of UTC whatever the settings of Django say, merged into days once, and the site's."""

import os
import random
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.models import Sum

from tests.support.factories import make_user, make_video, make_videos
from tests.support.trends import wrong_site_hours, wrong_trends
from videos import counters, ledger, services
from videos.changes import COUNTS, HOUR_SECONDS, Changes, TallyChange
from videos.flush import run_flush
from videos.ledger import history
from videos.models import SiteHour, TrendingVideo, VideoHour

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

NAMES = [count.name for count in COUNTS]
ZONES = ["UTC", "Asia/Seoul", "Asia/Kolkata", "America/New_York"]


@pytest.fixture(params=[(zone, use_tz) for zone in ZONES for use_tz in (True, False)], ids=str)
def zone(request: pytest.FixtureRequest, settings: Any) -> Iterator[str]:
    """A TIME_ZONE, with USE_TZ and without."""
    settings.TIME_ZONE, settings.USE_TZ = request.param
    yield request.param[0]
    connection.close()


def write_views(video_id: int, amounts: dict[datetime, int]) -> None:
    """Views of a video in some hours, written to the rows."""
    tallies = [TallyChange("views", int(at.timestamp()) // HOUR_SECONDS, amount) for at, amount in amounts.items()]
    ledger.write_direct({video_id: Changes(tallies=tallies)})


def stored_views(video_id: int) -> list[tuple[str, int]]:
    """What the rows hold, as the database itself says it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT hour, views FROM videos_videohour WHERE video_id = %s ORDER BY hour", [video_id])
        return [(str(hour)[:19], int(views)) for hour, views in cursor.fetchall()]


def test_hours_are_those_of_utc_whatever_the_settings_say(zone: str) -> None:
    (video_id,) = make_videos(1)
    # In New York these two hours have the same local time.
    write_views(video_id, {datetime(2026, 11, 1, 5, tzinfo=UTC): 1, datetime(2026, 11, 1, 6, tzinfo=UTC): 2})
    assert stored_views(video_id) == [("2026-11-01 05:00:00", 1), ("2026-11-01 06:00:00", 2)]
    rows = VideoHour.objects.order_by("hour").values_list("hour", "views")
    assert list(rows) == [(datetime(2026, 11, 1, 5, tzinfo=UTC), 1), (datetime(2026, 11, 1, 6, tzinfo=UTC), 2)]
    assert VideoHour.objects.get(hour=datetime(2026, 11, 1, 6, tzinfo=UTC)).views == 2


def test_hours_are_merged_into_days_of_utc_once(zone: str) -> None:
    (video_id,) = make_videos(1)
    day = datetime(2024, 3, 10, tzinfo=UTC)  # in New York summer time begins
    hours = {day + timedelta(hours=hour): 2**place for place, hour in enumerate((0, 1, 7, 14, 15, 18, 19, 23, 24))}
    write_views(video_id, hours)
    merged = [ledger.roll_up(datetime.now(UTC)) for _ in range(3)]
    assert stored_views(video_id) == [("2024-03-10 00:00:00", 255), ("2024-03-11 00:00:00", 256)]
    assert merged == [7, 0, 0]


def test_a_view_of_a_request_counts_in_its_hour_of_utc(zone: str) -> None:
    (video_id,) = make_videos(1)
    services.record_view(event=services.ViewEvent(video_id, "a", watched=40))
    hour = datetime.fromtimestamp(counters.now_ms() // 1000 // HOUR_SECONDS * HOUR_SECONDS, UTC)
    run_flush()
    assert VideoHour.objects.get().hour in {hour, hour - timedelta(hours=1)}


def test_the_site_gains_what_its_videos_gain(redis_client: Any) -> None:
    videos, users = make_videos(20), [make_user(f"u{i}").pk for i in range(5)]
    choice = random.Random(5)
    for turn in range(4):
        for _ in range(40):
            video_id, user_id = choice.choice(videos), choice.choice(users)
            services.set_like(video_id=video_id, user_id=user_id, liked=choice.random() < 0.7)
            services.record_view(event=services.ViewEvent(video_id, f"v{choice.random()}", watched=40))
        run_flush()
        if turn == 2:
            ledger.merge_site_hours()
    write_views(videos[0], {datetime.now(UTC) - timedelta(days=3): 7})
    before = sums_by_hour()
    assert before == {
        hour: gains for hour, *gains in VideoHour.objects.values_list("hour").annotate(*map(Sum, NAMES)).order_by()
    }
    assert SiteHour.objects.count() > len(before)
    ledger.merge_site_hours()
    assert sums_by_hour() == before
    assert SiteHour.objects.count() == len(before)


def sums_by_hour() -> dict[datetime, list[int]]:
    """The sums of the site's hours."""
    found = SiteHour.objects.values_list("hour").annotate(*map(Sum, NAMES)).order_by()
    return {hour: gains for hour, *gains in found}


def test_deleted_history_is_gone_and_counts_stay() -> None:
    video = make_video()
    now = datetime.now(UTC)
    write_views(video.pk, {now - timedelta(days=90): 1, now - timedelta(days=3): 2, now: 4})
    before = now - timedelta(days=30)
    assert ledger.history_total(before) == 2
    assert [ledger.delete_history(before) for _ in range(3)] == [1, 1, 0]
    assert sorted(VideoHour.objects.values_list("views", flat=True)) == [2, 4]
    assert SiteHour.objects.aggregate(sum=Sum("views"))["sum"] == 6
    video.refresh_from_db()
    assert video.view_count == 7


def prune(*options: str) -> str:
    out = StringIO()
    call_command("prune_history", *options, stdout=out)
    return out.getvalue().strip()


def test_prune_history_merges_all_and_deletes_what_it_is_told_to(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "STATEMENT_ROWS", 3)
    video = make_video()
    now = datetime.now(UTC).replace(hour=12)
    write_views(video.pk, {now - timedelta(days=40 + day, hours=hour): 1 for day in range(4) for hour in range(4)})
    write_views(video.pk, {now: 5})
    assert prune() == "16 rows merged into days"
    assert prune() == "0 rows merged into days"
    assert VideoHour.objects.count() == 5
    # Two days of the video, and the eight hours of the site, which are not merged.
    assert prune("--delete-days", "42") == "10 rows deleted; 0 rows merged into days"
    assert VideoHour.objects.aggregate(sum=Sum("views"))["sum"] == 13
    TrendingVideo.objects.all().delete()
    assert prune("--trends") == "0 rows merged into days; trends of 1 videos computed"
    assert wrong_trends() == []


def test_prune_history_that_is_stopped_goes_on_when_it_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "STATEMENT_ROWS", 3)
    video = make_video()
    now = datetime.now(UTC).replace(hour=12)
    write_views(video.pk, {now - timedelta(days=40, hours=hour): 1 for hour in range(10)})
    roll_up = ledger.roll_up

    def stop_after_one(now: datetime) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return roll_up(now)

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "roll_up", stop_after_one)
        assert prune() == "3 rows merged into days; stopped early, run it again to go on"
    assert prune() == "7 rows merged into days"
    assert VideoHour.objects.get().views == 10


@pytest.mark.parametrize("days", ["0", "-1", "x", "1.5", ""])
def test_prune_history_refuses_what_is_no_number_of_days(days: str) -> None:
    with pytest.raises(CommandError):
        prune(f"--delete-days={days}")


def test_the_migration_writes_the_hours_of_another_zone_in_utc(settings: Any) -> None:
    settings.TIME_ZONE, settings.USE_TZ = "Asia/Kolkata", False
    (video_id,) = make_videos(1)
    with connection.cursor() as cursor:
        for hour in ("05:30:00", "06:30:00", "07:30:00"):
            names, places = ", ".join(NAMES), ", ".join("1" for _ in NAMES)
            cursor.execute(
                f"INSERT INTO videos_videohour (video_id, hour, {names}) VALUES (%s, %s, {places})",  # noqa: S608
                [video_id, f"2026-01-01 {hour}"],
            )
    apps = MigrationLoader(connection).project_state(("videos", "0012_history")).apps
    import_module("videos.migrations.0013_hours_in_utc").write_in_utc(apps, connection.schema_editor())
    assert [hour for hour, _ in stored_views(video_id)] == [f"2026-01-01 0{hour}:00:00" for hour in range(3)]
    import_module("videos.migrations.0014_fill_history").fill(apps, connection.schema_editor())
    assert wrong_site_hours() == set()
    assert wrong_trends() == []
