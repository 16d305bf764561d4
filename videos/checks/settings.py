"""Checks of the app's own settings: VIDEOS_…, throttles, the isolation level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  Django's names
from limits import parse
from limits.errors import ConfigurationError

from videos.api import frames, throttling
from videos.changes import DAY_SECONDS
from videos.conf import Conf, conf

ISOLATION_LEVELS: Final = {"read uncommitted", "read committed", "repeatable read", "serializable"}
SCOPES: Final = {"token", "like", "view", "write"}


class Span(NamedTuple):
    """The valid range of a number."""

    least: float
    most: float
    whole: bool = True


NUMBERS: Final[Mapping[str, Span]] = {
    "SHARDS": Span(1, 4096),
    "VIEW_WINDOW_SECONDS": Span(1, 366 * DAY_SECONDS),
    "VIEW_MIN_WATCHED_SECONDS": Span(0, DAY_SECONDS, whole=False),
    "VIEW_ADDRESS_LIMIT": Span(0, 1_000_000_000),
    "VIEW_MAX_AGE_SECONDS": Span(1, 366 * DAY_SECONDS),
    "TRUSTED_PROXY_HOPS": Span(0, 32),
    "TOKEN_MINUTES": Span(0.1, 60 * 24 * 366, whole=False),
    "REFRESH_TOKEN_DAYS": Span(0.001, 3660, whole=False),
    "LIKED_SECONDS": Span(60, 366 * DAY_SECONDS),
    "LIVE_SECONDS": Span(3600, 366 * DAY_SECONDS),
    "LIVE_SETTLED_SECONDS": Span(1, 366 * DAY_SECONDS),
    "FLUSH_INTERVAL_SECONDS": Span(1, DAY_SECONDS),
    "FLUSH_CHUNK_FIELDS": Span(1, 100_000),
    "FLUSH_THREADS": Span(1, 64),
    "FLUSH_LOCK_WAIT_SECONDS": Span(1, 3600),
    "FLUSH_DURABLE_SECONDS": Span(0.1, 600, whole=False),
    "BATCHES_DAYS": Span(1, 3660),
    "HOURS_DAYS": Span(1, 3660),
    "REDIS_PAUSE_SECONDS": Span(0, 60, whole=False),
    "RETRY_AFTER_SECONDS": Span(1, 3600),
}
NAMES: Final = {name for name in vars(Conf) if name.isupper()}


@register("videos")
def check_numbers(**_: Any) -> list[CheckMessage]:
    """E001: a setting is no number, or out of its span."""
    found: list[CheckMessage] = []
    for name, span in NUMBERS.items():
        value = getattr(conf, name)
        kinds = (int,) if span.whole else (int, float)
        if type(value) not in kinds or not span.least <= value <= span.most:
            kind = "a whole number" if span.whole else "a number"
            found.append(
                Error(
                    f"VIDEOS_{name} is {value!r}.",
                    hint=f"Make it {kind} from {span.least:,} to {span.most:,}.",
                    id="videos.E001",
                )
            )
    return found


@register("videos")
def check_names(**_: Any) -> list[CheckMessage]:
    """W001: a setting named VIDEOS_… that this app does not have."""
    unknown = sorted(name for name in dir(settings) if name.startswith("VIDEOS_") and name[7:] not in NAMES)
    return [
        Warning(
            f"There is no setting {name}.",
            hint=f"Those there are: {', '.join(f'VIDEOS_{known}' for known in sorted(NAMES))}.",
            id="videos.W001",
        )
        for name in unknown
    ]


@register("videos")
def check_isolation_level(**_: Any) -> list[CheckMessage]:
    """E002: the isolation level does not exist."""
    level = conf.FLUSH_ISOLATION_LEVEL
    if level in ISOLATION_LEVELS:
        return []
    hint = f"Make it one of: {', '.join(sorted(ISOLATION_LEVELS))}."
    return [Error(f"VIDEOS_FLUSH_ISOLATION_LEVEL is {level!r}.", hint=hint, id="videos.E002")]


@register("videos")
def check_throttles(**_: Any) -> list[CheckMessage]:
    """E003: a rate cannot be parsed; E004: the storage of the rates cannot be used."""
    found: list[CheckMessage] = []
    rates: Any = conf.THROTTLE_RATES
    if not isinstance(rates, Mapping) or not set(rates) <= SCOPES:
        hint = f"Make it a dictionary with rates for {', '.join(sorted(SCOPES))}."
        return [Error(f"VIDEOS_THROTTLE_RATES is {rates!r}.", hint=hint, id="videos.E003")]
    for scope, rate in rates.items():
        try:
            if rate is not None:
                parse(rate)
        except (ValueError, TypeError, AttributeError):
            hint = 'Write it as the package limits does, like "600/minute"; None is no limit.'
            found.append(
                Error(f"The rate of {scope!r} in VIDEOS_THROTTLE_RATES is {rate!r}.", hint=hint, id="videos.E003")
            )
    try:
        throttling.limits_on(conf.THROTTLE_STORAGE)
    except (ConfigurationError, ValueError, TypeError, AttributeError) as error:
        hint = 'Make it "process://", or the URL of a storage of the package limits, like "redis://host:6379/1".'
        found.append(Error(f"VIDEOS_THROTTLE_STORAGE cannot be used: {error}", hint=hint, id="videos.E004"))
    return found


@register("videos")
def check_middleware(**_: Any) -> list[CheckMessage]:
    """W003: MIDDLEWARE that closes the express lane."""
    hint = (
        "All requests take Django's way, which runs all of MIDDLEWARE and is slower. Set VIDEOS_EXPRESS to False to "
        "agree, or change that setting."
    )
    closed = list(frames.obstacles()) if conf.EXPRESS else []
    return [Warning(f"The express lane is closed: {obstacle}.", hint=hint, id="videos.W003") for obstacle in closed]
