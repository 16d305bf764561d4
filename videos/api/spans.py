"""Spans of time in queries: `?step=day&start=2026-01-01&end=2026-02-01&tz=Asia/Seoul`, and the steps that they have.

Counts are kept by hours of UTC, so each bound is the beginning of one: of the hour that begins at the time in question,
or next after it. In a zone with half hours, a day therefore begins at 00:30.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from rest_framework.exceptions import ValidationError

from videos import services
from videos.changes import EPOCH

DEFAULT_STEPS: Final = {"hour": 24, "day": 30, "month": 12}
MAX_STEPS: Final = 1000
YEARS: Final = range(1970, 2200)
_PLUS_AS_SPACE: Final = re.compile(r" (?=\d\d:?\d\d\Z)")  # "+09:00" in a query that was not percent-encoded


class Span(NamedTuple):
    """A span of time, as steps: each goes from one of the bounds to the next."""

    step: str
    zone: ZoneInfo
    bounds: list[int]  # hours since 1970

    def time_at(self, hour: int) -> str:
        """An hour as text, in the zone of the span."""
        text = (EPOCH + timedelta(hours=hour)).astimezone(self.zone).isoformat()
        return f"{text[:-6]}Z" if self.zone.key == "UTC" else text


def parse_span(query: Mapping[str, str]) -> Span:
    """The span of a query. Raises ValidationError."""
    step = query.get("step", "day")
    if step not in DEFAULT_STEPS:
        raise ValidationError({"step": [f"Must be one of {', '.join(DEFAULT_STEPS)}."]})
    name = query.get("tz", "UTC")
    if name not in _zones():
        raise ValidationError({"tz": ["Must be the IANA name of a time zone, like Asia/Seoul."]})
    zone = ZoneInfo(name)
    end = _parse_time("end", query["end"], zone) if "end" in query else datetime.now(UTC)
    start = _parse_time("start", query["start"], zone) if "start" in query else _default_start(step, end, zone)
    first, last = services.hour_at(start), services.hour_at(end)
    if first >= last:
        raise ValidationError({"start": ["No hour begins between start and end."]})
    bounds = [first]
    for bound in _bounds(step, first, zone):
        if bound >= last:
            break
        if bound > bounds[-1]:  # a zone may leave out a day, as Samoa did
            bounds.append(bound)
        if len(bounds) > MAX_STEPS:
            raise ValidationError({"step": [f"These are more than {MAX_STEPS} steps: take longer ones."]})
    return Span(step, zone, [*bounds, last])


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _parse_time(name: str, text: str, zone: ZoneInfo) -> datetime:
    try:
        at = datetime.fromisoformat(_PLUS_AS_SPACE.sub("+", text))
        at = (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValidationError({name: ["Must be a date or a time, like 2026-01-31 or 2026-01-31T12:00:00Z."]}) from error
    if at.year not in YEARS:
        raise ValidationError({name: [f"Must be from {YEARS[0]} to {YEARS[-1]}."]})
    return at


def _default_start(step: str, end: datetime, zone: ZoneInfo) -> datetime:
    """The beginning of the step that `end` ends, and as many steps before it as are shown by default."""
    before = DEFAULT_STEPS[step] - 1
    if step == "hour":
        return end - timedelta(hours=before + 1)
    day = (end - timedelta(microseconds=1)).astimezone(zone).date()
    if step == "day":
        return _midnight(day - timedelta(days=before), zone)
    return _midnight(_month_after(day.replace(day=1), -before), zone)


def _bounds(step: str, first: int, zone: ZoneInfo) -> Iterator[int]:
    """The hours at which steps begin, after the first; without an end."""
    if step == "hour":
        while True:
            first += 1
            yield first
    day = (EPOCH + timedelta(hours=first)).astimezone(zone).date()
    while True:
        day = day + timedelta(days=1) if step == "day" else _month_after(day.replace(day=1), 1)
        yield services.hour_at(_midnight(day, zone))


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """The moment at which a day begins. Where clocks leave out midnight, it is the moment at which they are set."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _month_after(month: date, number: int) -> date:
    years, place = divmod(month.month - 1 + number, 12)
    return month.replace(year=month.year + years, month=place + 1)
