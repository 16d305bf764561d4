"""Times as rows hold them: without a zone, in UTC unless the settings say otherwise.

With USE_TZ False they are in TIME_ZONE. With USE_TZ True they are in the TIME_ZONE of the database's entry in
DATABASES, which is UTC by default. In this app all times have a zone; hours and days are those of UTC, also in rows.
"""

from datetime import UTC, datetime, tzinfo
from functools import lru_cache

from django.conf import settings
from django.utils import timezone

from videos.changes import HOUR_SECONDS
from videos.ledger.writer import connection


def stored_zone() -> tzinfo:
    """The zone of the times in rows."""
    zone: tzinfo = connection.timezone if settings.USE_TZ else timezone.get_default_timezone()
    return zone


def to_stored(at: datetime) -> datetime:
    """A time as a query of Django takes it."""
    return at if settings.USE_TZ else at.astimezone(stored_zone()).replace(tzinfo=None)


def from_stored(at: datetime) -> datetime:
    """A time that was read, in UTC."""
    return (at if at.tzinfo else at.replace(tzinfo=stored_zone())).astimezone(UTC)


@lru_cache(maxsize=4096)
def second_text(unix_seconds: int, zone: tzinfo) -> str:
    """A second as rows of this zone hold it, in a form that all databases take: 2026-01-31 12:00:00."""
    return str(datetime.fromtimestamp(unix_seconds, zone).replace(tzinfo=None))


def hour_text(hour: int) -> str:
    """An hour since 1970 as rows of HourField hold it: in UTC, whatever the settings say."""
    return second_text(hour * HOUR_SECONDS, UTC)


def moment_text(unix_ms: int, zone: tzinfo) -> str:
    """A millisecond as rows of this zone hold it."""
    seconds, ms = divmod(unix_ms, 1000)
    return f"{second_text(seconds, zone)}.{ms:03}000" if ms else second_text(seconds, zone)


def parse_stored(text: str, zone: tzinfo) -> datetime:
    """The time in a text that rows of this zone hold, in UTC."""
    if zone is UTC:
        return datetime.fromisoformat(f"{text}+00:00")
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


def parse_hour(text: str) -> int:
    """The hour since 1970 in a text of `hour_text`, as a row gives it back."""
    return int(datetime.fromisoformat(f"{text[:19]}+00:00").timestamp()) // HOUR_SECONDS
