"""The history of counts: steps of a span, what waits for the flush included; what an owner and the site gained.

Rows and Redis know hours of UTC. A bound that is not the beginning of one is moved to the next: so spans that meet
have no hour in common and leave none out. In a zone with half hours, a day begins within such an hour.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from videos import counters, ledger
from videos.changes import EPOCH, HOUR_SECONDS, zeros
from videos.ledger.retry import again
from videos.services.database import SCRIPT_TRIES, database
from videos.services.outcomes import Unavailable, VideoNotFound

MOST_OWN_VIDEOS: Final = 20_000  # of which what waits is read

Progress = Callable[[int, int], None]
Gains = Mapping[int, Sequence[int]]  # hour since 1970, or a video -> gains, in the order of COUNTS


class Step(NamedTuple):
    """What was gained from one hour to another, in the order of COUNTS."""

    begin: int  # hours since 1970
    gains: list[int]


class History(NamedTuple):
    """Steps of a span. `stored`: without what waits in Redis, because that is away or too much."""

    steps: Sequence[Step]
    stored: bool

    @property
    def sums(self) -> list[int]:
        """The gains of all steps."""
        return [*map(sum, zip(*(step.gains for step in self.steps), strict=True))]


def hour_at(at: datetime) -> int:
    """The first hour since 1970 that begins at this time or after it."""
    return -int((EPOCH - at).total_seconds() // HOUR_SECONDS)


def hours_kept_since() -> datetime:
    """Hours before this time are, or will be, merged into the first hour of their day (UTC)."""
    return ledger.loose_since(datetime.now(UTC))


def video_history(*, video_id: int, bounds: Sequence[int]) -> History:
    """What a video gained between each two of these hours. Raises VideoNotFound, Unavailable."""
    for _ in range(SCRIPT_TRIES):
        waiting = None
        with contextlib.suppress(counters.CountersUnavailable):
            waiting = counters.read_waiting(video_id)
        with database():
            found = ledger.read_video_history(video_id, bounds[0], bounds[-1])
        if found is None:
            raise VideoNotFound
        try:
            if waiting is None or not waiting.whole:
                return History(_steps(bounds, found.hours), True)
            if counters.is_current(video_id, waiting.version):
                return History(_steps(bounds, _hours_with(waiting, found)), False)
        except counters.CountersUnavailable:
            return History(_steps(bounds, found.hours), True)
    raise Unavailable


def _hours_with(waiting: counters.Waiting, found: ledger.VideoHistory) -> Gains:
    hours = {hour: [*gains] for hour, gains in found.hours.items()}
    claimed = waiting.claimed if found.watermark < waiting.number else ()
    for hour, place, amount, batch in (*waiting.pending, *claimed):
        if batch == 0 or batch > found.watermark:
            hours.setdefault(hour, zeros())[place] += amount
    return hours


def _steps(bounds: Sequence[int], hours: Gains) -> list[Step]:
    steps = [Step(begin, zeros()) for begin in bounds[:-1]]
    ordered = sorted(hour for hour in hours if bounds[0] <= hour < bounds[-1])
    place = 0
    for hour in ordered:
        while hour >= bounds[place + 1]:
            place += 1
        for count, gained in enumerate(hours[hour]):
            steps[place].gains[count] += gained
    return steps


class OwnHistory(NamedTuple):
    """What many videos gained: in all, in the period before, and each."""

    history: History
    before: Sequence[int]
    by_video: Gains


def owner_history(*, owner_id: int, bounds: Sequence[int]) -> OwnHistory:
    """What all videos of an owner gained between each two of these hours, and in as many hours before.

    What waits in Redis counts in the step of this hour, because its own hours would have to be searched for.
    Raises Unavailable.
    """
    begin, end = bounds[0], bounds[-1]
    with database():
        video_ids = ledger.newest_own_videos(owner_id, MOST_OWN_VIDEOS)
    waiting, stored = _waiting_sums(video_ids)
    with database(patient=True):
        rows = ledger.read_owner_history(owner_id, begin, end)
    by_video = {video_id: [*gains] for video_id, (_, gains) in rows.by_video.items()}
    hours = {hour: [*gains] for hour, gains in rows.hours.items()}
    now = int(datetime.now(UTC).timestamp()) // HOUR_SECONDS
    if begin <= now < end:
        for video_id, (watermark, _) in rows.by_video.items():
            sums = waiting.get(video_id)
            # A row with a newer batch than the one that was claimed then has all that waited.
            if sums is None or watermark > sums.number:
                continue
            for place, gained in enumerate(sums.pending):
                more = gained if watermark == sums.number else gained + sums.claimed[place]
                by_video[video_id][place] += more
                hours.setdefault(now, zeros())[place] += more
    return OwnHistory(History(_steps(bounds, hours), stored), rows.before, by_video)


def _waiting_sums(video_ids: Sequence[int]) -> tuple[Mapping[int, counters.WaitingSums], bool]:
    """What waits, and True if it is unknown, because Redis is away. Raises Unavailable."""
    try:
        for _ in range(SCRIPT_TRIES):
            found = counters.read_waiting_sums(video_ids)
            if found is not None:
                return found, False
    except counters.CountersUnavailable:
        return {}, True
    raise Unavailable


def site_history(*, bounds: Sequence[int]) -> tuple[History, Sequence[int]]:
    """What all videos gained as of the last flush, and in as many hours before. Raises Unavailable."""
    begin, end = bounds[0], bounds[-1]
    with database(patient=True):
        hours = ledger.read_site_hours(2 * begin - end, end)
    before = History(_steps([2 * begin - end, begin], hours), True)
    return History(_steps(bounds, hours), True), before.sums


def recompute_trends(
    *,
    using: str | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Progress = lambda done, total: None,
) -> int:
    """Compute what trends from the hours of all videos; returns of how many. `using`: where a migration runs."""
    done = 0
    if using in {None, ledger.alias()}:
        total = ledger.video_total()
        for number in ledger.recompute_all_trends():
            done += number
            progress(done, max(done, total))
            if should_stop():
                break
    return done


def merge_history(*, should_stop: Callable[[], bool], progress: Progress) -> int:
    """Merge all old hours into days, and rows of the site's hours; returns how many rows of videos were merged."""
    now = datetime.now(UTC)
    ledger.merge_site_hours()
    return _repeat(lambda: ledger.roll_up(now), ledger.loose_total(now), should_stop, progress)


def delete_history(*, before: datetime, should_stop: Callable[[], bool], progress: Progress) -> int:
    """Delete the hours before a time; returns how many rows were deleted. Counts stay as they are."""
    return _repeat(lambda: ledger.delete_history(before), ledger.history_total(before), should_stop, progress)


def _repeat(act: Callable[[], int], total: int, should_stop: Callable[[], bool], progress: Progress) -> int:
    done = 0
    while not should_stop() and (number := again(act)):
        done += number
        progress(done, max(done, total))
    return done
