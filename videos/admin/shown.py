"""How the admin writes numbers, times and charts."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from django.utils import formats
from django.utils.timezone import is_aware, localtime
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from videos.changes import CountName

WIDTH: Final = 640  # of a chart, in units of its own
HEIGHT: Final = 120
NAMES: Final = {"likes": _("likes"), "dislikes": _("dislikes"), "views": _("views"), "watched": _("watch time (s)")}
GAP: Final = 0.25  # of a bar's place that stays empty


def number(value: float | None) -> str:
    """A number with separators: 1,234,567."""
    return "–" if value is None else str(formats.number_format(value, use_l10n=True, force_grouping=True))


def moment(at: datetime | None) -> str:
    """A time with seconds and zone."""
    if at is None:
        return "–"
    local = localtime(at) if is_aware(at) else at
    return f"{local:%Y-%m-%d %H:%M:%S} {local.tzname() or ''}".strip()


def duration(seconds: float | None) -> str:
    """Seconds, minutes or hours, whichever is read best."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.2f} s" if seconds < 10 and seconds % 1 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{number(round(seconds / 3600))} h"


class Bar(NamedTuple):
    """A bar of a chart, and the row of the table behind it."""

    x: str  # texts: a template would write numbers as the language does
    y: str
    width: str
    height: str
    label: str
    value: str


class Chart(NamedTuple):
    """A bar chart as SVG draws it."""

    title: str
    unit: str
    total: str
    top: str  # the largest value
    zero: str  # where the bars begin
    bars: Sequence[Bar]
    width: int = WIDTH
    height: int = HEIGHT


def chart(title: str, unit: str, points: Sequence[tuple[str, int]]) -> Chart:
    """A chart of labels and their values, which may be below zero."""
    values = [value for _, value in points]
    high, low = max([0, *values]), min([0, *values])
    scale = HEIGHT / ((high - low) or 1)
    place = WIDTH / (len(points) or 1)
    bars = []
    for at, (label, value) in enumerate(points):
        places = (
            at * place + place * GAP / 2,
            (high - max(value, 0)) * scale,
            place * (1 - GAP),
            max(abs(value) * scale, 1.0 if value else 0.0),
        )
        x, y, width, height = (f"{each:.1f}" for each in places)
        bars.append(Bar(x, y, width, height, label, number(value)))
    return Chart(title, unit, number(sum(values)), number(high), f"{high * scale:.1f}", bars)


def gains(row: Any, count: CountName) -> int:
    """What a batch added to a count."""
    if count.kind == "mark":
        return int(getattr(row, f"{count.name}_added") - getattr(row, f"{count.name}_removed"))
    return int(getattr(row, count.name))


def name_of(count: CountName) -> str:
    """The name of a count in the language of the page."""
    return str(NAMES.get(count.name, count.name))


def unit_of(count: CountName) -> str:
    """What a count counts, after a number."""
    return gettext("seconds") if count.name == "watched" else name_of(count)
