"""What trends, computed by brute force from the hour rows."""

from __future__ import annotations

import math
import time

from videos.changes import COUNTS
from videos.ledger.trending import GONE, HALF_LIVES, UNIT
from videos.models import SiteHour, TrendingVideo, Video, VideoHour

TOLERANCE = 1e-7  # of a score: rows are rounded at each addition


def brute_force(window: str, at_hour: float) -> dict[int, float]:
    """Each video's `sum of gained * 0.5 ** (age / half-life)` at an hour since 1970."""
    scores: dict[int, float] = {}
    for video_id, hour, views in VideoHour.objects.filter(views__gt=0).values_list("video_id", "hour", "views"):
        age = at_hour - hour.timestamp() / 3600
        scores[video_id] = scores.get(video_id, 0.0) + views * 0.5 ** (age / HALF_LIVES[window])
    return scores


def stored(window: str, at_hour: float) -> dict[int, float]:
    """The same, as the rows of trending videos say it."""
    rows = TrendingVideo.objects.values_list("video_id", f"by_{window}")
    return {video_id: 2.0 ** (score / UNIT - at_hour / HALF_LIVES[window]) for video_id, score in rows}


def wrong_trends() -> list[tuple[str, int, float | None, float | None]]:
    """Where rows of trending videos and brute force differ: window, video, what the row says, what is right."""
    newest = VideoHour.objects.order_by("-hour").values_list("hour", flat=True).first()
    at_hour = 0.0 if newest is None else newest.timestamp() / 3600
    wrong: list[tuple[str, int, float | None, float | None]] = []
    videos = set(Video.objects.values_list("id", flat=True))  # SQL by hand may have deleted some
    now = brute_force("week", time.time() / 3600)
    forgotten = {video_id for video_id, value in now.items() if value < 2.0**-GONE * 1.01} - set(
        TrendingVideo.objects.values_list("video_id", flat=True)
    )
    for window in HALF_LIVES:
        right, found = brute_force(window, at_hour), stored(window, at_hour)
        for video_id in videos & (right.keys() | found.keys()) - forgotten:
            values = found.get(video_id), right.get(video_id)
            if None in values or not math.isclose(*values, rel_tol=TOLERANCE):  # type: ignore[arg-type]
                wrong.append((window, video_id, *values))
    return wrong


def wrong_site_hours() -> set[tuple[object, tuple[int, ...]]]:
    """Where the site's hours and the sums of the hours of videos differ; a deleted video's stay in the former."""
    return _sums(SiteHour) ^ _sums(VideoHour)


def _sums(model: type[SiteHour | VideoHour]) -> set[tuple[object, tuple[int, ...]]]:
    sums: dict[object, tuple[int, ...]] = {}
    for hour, *gains in model.objects.values_list("hour", *(count.name for count in COUNTS)):
        sums[hour] = tuple(map(sum, zip(gains, sums.get(hour, (0,) * len(gains)), strict=True)))
    return {(hour, gains) for hour, gains in sums.items() if any(gains)}
