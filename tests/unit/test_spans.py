"""Spans of time: steps of local days and months, daylight saving time, half-hour zones, and what is refused."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from rest_framework.exceptions import ValidationError

from videos.api.spans import DEFAULT_STEPS, MAX_STEPS, parse_span
from videos.changes import EPOCH

pytestmark = pytest.mark.once


def starts(**query: str) -> list[str]:
    """When the steps of a query start, and when the last one ends."""
    span = parse_span(query)
    return [span.time_at(bound) for bound in span.bounds]


def lengths(**query: str) -> list[int]:
    """How many hours each step has."""
    bounds = parse_span(query).bounds
    return [after - before for before, after in pairwise(bounds)]


def test_days_are_those_of_the_zone() -> None:
    assert starts(start="2026-01-30", end="2026-02-02", tz="Asia/Seoul") == [
        *("2026-01-30T00:00:00+09:00", "2026-01-31T00:00:00+09:00", "2026-02-01T00:00:00+09:00"),
        "2026-02-02T00:00:00+09:00",
    ]
    assert starts(start="2026-01-30", end="2026-01-31") == ["2026-01-30T00:00:00Z", "2026-01-31T00:00:00Z"]


@pytest.mark.parametrize(
    ("zone", "start", "right"),
    [
        ("Europe/Berlin", "2026-03-28", [24, 23, 24]),
        ("Europe/Berlin", "2026-10-24", [24, 25, 24]),
        ("America/New_York", "2026-10-31", [24, 25, 24]),
        ("America/Santiago", "2026-09-05", [24, 23, 24]),  # clocks leave out midnight
        ("America/Havana", "2026-10-31", [24, 25, 24]),  # midnight comes twice
        ("Australia/Lord_Howe", "2026-10-03", [24, 23, 24]),  # by half an hour: from 13:30 of UTC to 13:00
        ("Pacific/Apia", "2011-12-29", [24, 24]),  # 30 December was left out
        ("Asia/Kolkata", "2026-05-01", [24, 24, 24]),
    ],
)
def test_days_have_as_many_hours_as_the_zone_gives_them(zone: str, start: str, right: list[int]) -> None:
    end = (datetime.fromisoformat(start) + timedelta(days=3)).date().isoformat()
    assert lengths(start=start, end=end, tz=zone) == right


def test_a_half_hour_zone_shows_that_its_days_begin_within_an_hour() -> None:
    found = starts(start="2026-05-01", end="2026-05-03", tz="Asia/Kolkata")
    assert found == [f"2026-05-0{day}T00:30:00+05:30" for day in (1, 2, 3)]
    found = starts(step="hour", start="2026-05-01T10:00", end="2026-05-01T12:00", tz="Asia/Kolkata")
    assert found == [f"2026-05-01T{hour}:30:00+05:30" for hour in (10, 11, 12)]


def test_hours_of_the_day_when_clocks_are_set_back_differ_by_their_offset() -> None:
    found = starts(step="hour", start="2026-10-25T02:00+02:00", end="2026-10-25T03:00+01:00", tz="Europe/Berlin")
    assert found == ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"]


def test_months_have_their_days() -> None:
    assert lengths(step="month", start="2027-12-15", end="2028-03-10") == [17 * 24, 31 * 24, 29 * 24, 9 * 24]
    found = starts(step="month", start="2026-03-01", end="2026-05-01", tz="Europe/Berlin")
    assert found == ["2026-03-01T00:00:00+01:00", "2026-04-01T00:00:00+02:00", "2026-05-01T00:00:00+02:00"]


def test_spans_that_meet_share_no_hour_and_leave_none_out() -> None:
    cut = "2026-05-01T10:20:30"
    before = parse_span({"start": "2026-04-30", "end": cut, "tz": "Asia/Kolkata"})
    after = parse_span({"start": cut, "end": "2026-05-03", "tz": "Asia/Kolkata"})
    assert before.bounds[-1] == after.bounds[0]


@pytest.mark.parametrize("step", DEFAULT_STEPS)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/Santiago"])
def test_by_default_the_last_steps_are_shown_until_now(step: str, zone: str) -> None:
    span = parse_span({"step": step, "tz": zone})
    assert len(span.bounds) - 1 in {DEFAULT_STEPS[step], DEFAULT_STEPS[step] + 1}
    assert timedelta(0) <= EPOCH + timedelta(hours=span.bounds[-1]) - datetime.now(UTC) <= timedelta(hours=1)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        *(({"step": step}, "step") for step in ("", "week", "Day")),
        *(({"tz": zone}, "tz") for zone in ("", "KST+9", "Asia/Nowhere", "../etc/passwd", "Asia", "\0", "a" * 999)),
        *(({"start": at}, "start") for at in ("", "now", "2026-13-01", "1", "1969-12-31", "2200-01-01", "\0")),
        *(({"end": at}, "end") for at in ("0001-01-01T00:00+23:59", "9999-12-31T23:59-23:59", "2026-01-01T25:00")),
        ({"start": "2026-01-02", "end": "2026-01-01"}, "start"),
        ({"start": "2026-01-01T10:10", "end": "2026-01-01T10:50"}, "start"),
        ({"step": "hour", "start": "2026-01-01", "end": "2026-03-01"}, "step"),
        ({"start": "1970-01-01", "end": "2199-12-31"}, "step"),
        ({"start": "2026-01-01", "end": "2199-12-31"}, "step"),
    ],
    ids=str,
)
def test_what_is_no_span_is_refused_by_name(query: Mapping[str, str], name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        parse_span(query)
    assert list(refused.value.detail) == [name]


def test_the_largest_span_is_taken() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    end = start + timedelta(hours=MAX_STEPS)
    assert len(lengths(step="hour", start=start.isoformat(), end=end.isoformat())) == MAX_STEPS
    with pytest.raises(ValidationError):
        parse_span({"step": "hour", "start": start.isoformat(), "end": (end + timedelta(hours=1)).isoformat()})


def test_an_offset_whose_plus_became_a_space_is_read() -> None:
    assert starts(start="2026-01-01T09:00 09:00", end="2026-01-02", tz="UTC")[0] == "2026-01-01T00:00:00Z"
