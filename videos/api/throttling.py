"""Throttles. VIDEOS_THROTTLE_RATES holds the rates, in the notation of the `limits` package.

Each process counts in its memory and reports to the counters' Redis: not each hit, but each 32nd part of a rate. So a
caller who stays far below the rate costs no round trip, all processes together let at most a 32nd part too much through
for each of them, and each process goes on alone while Redis is away. docs/adr/0010-a-throttle-storage-of-our-own.md.
"""

import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol

from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import Storage, storage_from_string
from limits.strategies import FixedWindowRateLimiter
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from videos import services
from videos.api import viewers
from videos.conf import conf

STORAGE_TIMEOUT_SECONDS: Final = 0.25
SHARES: Final = 32  # of a rate; a process reports when it has counted one
SWEEP_WINDOWS: Final = 50_000  # windows that are kept before ended ones are removed
MOST_WINDOWS: Final = 200_000  # then the oldest half is forgotten: strangers may send from any number of addresses

logger = logging.getLogger(__name__)


class Hit(NamedTuple):
    """A request, as one throttle sees it."""

    rate: RateLimitItem
    scope: str
    identity: str


class Limiter(Protocol):
    """Counts hits."""

    def wait_seconds(self, hits: Sequence[Hit]) -> float | None:
        """Count them; None if each is within its rate, else the seconds until the window of another one ends."""


class Window:
    """The hits of one identity."""

    __slots__ = ("ends", "others", "own", "unreported")

    def __init__(self, ends: float) -> None:
        self.ends = ends  # Unix seconds
        self.own = 0  # of this process
        self.unreported = 0  # of them
        self.others = 0  # of the other processes, as far as known


class Windows:
    """Fixed windows in this process' memory; `shared`: those of all processes, while Redis is there."""

    def __init__(self, *, shared: bool) -> None:
        self._shared = shared
        self._windows: dict[tuple[str, str], Window] = {}
        self._lock = threading.Lock()
        self._sweep_at = SWEEP_WINDOWS

    def __len__(self) -> int:
        return len(self._windows)

    def wait_seconds(self, hits: Sequence[Hit]) -> float | None:
        """As Limiter says, with one round trip at most."""
        now = time.time()
        due: list[tuple[Hit, Window, int]] = []
        with self._lock:
            windows: list[Window] = []
            for hit in hits:
                window = self._window_of(hit, now)
                if window.own + window.others >= hit.rate.amount:
                    return max(1.0, window.ends - now)  # what is refused opens no further windows
                windows.append(window)
            for hit, window in zip(hits, windows, strict=True):
                window.own += 1
                window.unreported += 1
                if self._shared and window.unreported * SHARES >= hit.rate.amount:
                    due.append((hit, window, window.unreported))
                    window.unreported = 0
        waits = self._report(due, now) if due else []
        return max(1.0, *waits) if waits else None

    def _window_of(self, hit: Hit, now: float) -> Window:
        key = hit.scope, hit.identity
        window = self._windows.get(key)
        if window is None or window.ends <= now:
            if len(self._windows) >= self._sweep_at:
                self._sweep(now)
            window = self._windows[key] = Window(now + hit.rate.get_expiry())
        return window

    def _report(self, due: Sequence[tuple[Hit, Window, int]], now: float) -> list[float]:
        """Tell Redis, and learn what the other processes have counted; the seconds to wait for what is too much."""
        told = services.count_hits([
            services.Hits(f"{scope}:{viewers.lasting_hash(identity)}", number, rate.get_expiry())
            for (rate, scope, identity), _, number in due
        ])  # fmt: skip
        waits = []
        with self._lock:
            if told is None:
                for _, window, number in due:
                    window.unreported += number
                return []
            for (hit, window, _), (total, left) in zip(due, told, strict=True):
                window.ends = now + left
                window.others = max(0, total - (window.own - window.unreported))
                if window.own + window.others > hit.rate.amount:
                    waits.append(left)
        return waits

    def _sweep(self, now: float) -> None:
        current = {key: window for key, window in self._windows.items() if window.ends > now}
        if len(current) >= MOST_WINDOWS:
            current = dict(list(current.items())[len(current) // 2 :])
        self._windows = current
        self._sweep_at = min(max(SWEEP_WINDOWS, 2 * len(current)), MOST_WINDOWS)


class Stored:
    """A storage of the package `limits`, at a round trip for each hit; this process' windows while it is away."""

    def __init__(self, storage: Storage) -> None:
        self._limiter = FixedWindowRateLimiter(storage)
        self._meanwhile = Windows(shared=False)
        self._away_until = 0.0

    def wait_seconds(self, hits: Sequence[Hit]) -> float | None:
        """As Limiter says."""
        if time.monotonic() < self._away_until:
            return self._meanwhile.wait_seconds(hits)
        try:
            ends = [self._limiter.get_window_stats(*hit).reset_time for hit in hits if not self._limiter.hit(*hit)]
        except StorageError as error:
            self._away_until = time.monotonic() + conf.REDIS_PAUSE_SECONDS
            logger.warning("Each process throttles alone, the storage of throttles is away: %s", error)
            return self._meanwhile.wait_seconds(hits)
        return max(1.0, *(end - time.time() for end in ends)) if ends else None


@lru_cache(maxsize=4)
def limiter_on(url: str) -> Limiter:
    """The limiter on the storage of this URL. Raises limits.errors.ConfigurationError for an unknown kind."""
    if url.startswith(("counters:", "process:")):
        return Windows(shared=url.startswith("counters:"))
    options = {"socket_timeout": STORAGE_TIMEOUT_SECONDS, "socket_connect_timeout": STORAGE_TIMEOUT_SECONDS}
    return Stored(storage_from_string(url, wrap_exceptions=True, retry=None, retry_on_error=[], **options))  # type: ignore[arg-type]


parse_rate = lru_cache(maxsize=64)(parse)


def wait_seconds(scope: str, user_id: int | None, meta: Mapping[str, Any]) -> float | None:
    """Count a hit of a user, or of an anonymous caller's address. None within the rate, else seconds to wait."""
    return wait_seconds_of({scope: viewers.client_site(meta) if user_id is None else f"@{user_id}"})


def wait_seconds_of(identities: Mapping[str, str]) -> float | None:
    """Count a hit of the identity of each scope, at once. None within the rates, else seconds to wait."""
    rates = conf.THROTTLE_RATES
    hits = [
        Hit(parse_rate(rate), scope, identity) for scope, identity in identities.items() if (rate := rates.get(scope))
    ]
    return limiter_on(conf.THROTTLE_STORAGE).wait_seconds(hits) if hits else None


class ScopeThrottle(BaseThrottle):
    """Limits a user, or an anonymous caller's address, to the rate of the view's `throttle_scope`."""

    def __init__(self) -> None:
        self._seconds: float | None = None

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Count this request; whether it is within the rate. Reads are not counted."""
        if request.method in SAFE_METHODS:
            return True
        user: Any = request.user  # None if UNAUTHENTICATED_USER says so
        scope: str = view.throttle_scope  # type: ignore[attr-defined]
        self._seconds = wait_seconds(scope, user.pk if user and user.is_authenticated else None, request.META)
        return self._seconds is None

    def wait(self) -> float | None:
        """Seconds until the next request may come, rounded up, for Retry-After."""
        return None if self._seconds is None else math.ceil(self._seconds)
