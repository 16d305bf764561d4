"""Throttles. VIDEOS_THROTTLE_RATES holds the rates, in the notation of the `limits` package.

By default each worker process counts for itself, in memory: a request costs no round trip, and a rate holds for one
worker. VIDEOS_THROTTLE_STORAGE names a storage that all workers share; then a request costs one round trip.
"""

import logging
import math
import threading
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import Storage, storage_from_string
from limits.strategies import FixedWindowRateLimiter
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from videos.api import viewers
from videos.conf import conf

STORAGE_TIMEOUT_SECONDS = 0.25
SWEEP_KEYS = 50_000  # windows that are kept before ended ones are removed

logger = logging.getLogger(__name__)


class ProcessStorage(Storage):
    """Counters of fixed windows in this process' memory.

    `limits`' own MemoryStorage starts a thread a hundred times a second, which looks at every key: it cost a request 15
    to 40 µs. This storage removes ended windows only when it has grown.
    """

    STORAGE_SCHEME = ["process"]  # noqa: RUF012  as its base declares it

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **options: float | str | bool) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions, **options)
        self._windows: dict[str, tuple[float, int]] = {}  # key -> (when it ends in Unix seconds, hits)
        self._lock = threading.Lock()
        self._sweep_at = SWEEP_KEYS

    @property
    def base_exceptions(self) -> type[Exception]:
        """Required by the base. This storage raises no errors."""
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count hits, in a window of `expiry` seconds that begins with the first of them; return all of its hits."""
        now = time.time()
        with self._lock:
            ends, hits = self._windows.get(key, (0.0, 0))
            if ends <= now:
                ends, hits = now + expiry, 0
                if len(self._windows) >= self._sweep_at:
                    self._sweep(now)
            self._windows[key] = (ends, hits + amount)
        return hits + amount

    def _sweep(self, now: float) -> None:
        self._windows = {key: window for key, window in self._windows.items() if window[0] > now}
        self._sweep_at = max(SWEEP_KEYS, 2 * len(self._windows))

    def get(self, key: str) -> int:
        ends, hits = self._windows.get(key, (0.0, 0))
        return hits if ends > time.time() else 0

    def get_expiry(self, key: str) -> float:
        """When the key's window ends, in Unix seconds."""
        return self._windows.get(key, (time.time(), 0))[0]

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        """Forget everything; return how many keys there were."""
        with self._lock:
            keys = len(self._windows)
            self._windows.clear()
        return keys

    def clear(self, key: str) -> None:
        with self._lock:
            self._windows.pop(key, None)


class Limits:
    """The limiter on one storage. After the storage failed, every request passes for VIDEOS_REDIS_PAUSE_SECONDS."""

    def __init__(self, storage: Storage) -> None:
        self.limiter = FixedWindowRateLimiter(storage)
        self._away_until = 0.0

    def wait_seconds(self, rate: RateLimitItem, scope: str, identity: str) -> float | None:
        """Count a hit; None when it is within the rate, else the seconds until the window ends."""
        if time.monotonic() < self._away_until:
            return None
        try:
            if self.limiter.hit(rate, scope, identity):
                return None
            return max(1.0, self.limiter.get_window_stats(rate, scope, identity).reset_time - time.time())
        except StorageError as error:
            self._away_until = time.monotonic() + conf.REDIS_PAUSE_SECONDS
            logger.warning("Throttling is off for a moment, its storage is away: %s", error)
            return None


@lru_cache(maxsize=4)
def limits_on(url: str) -> Limits:
    """The limiter on the storage of this URL. Raises limits.errors.ConfigurationError for an unknown kind."""
    if url.startswith("process:"):
        return Limits(ProcessStorage())
    options = {"socket_timeout": STORAGE_TIMEOUT_SECONDS, "socket_connect_timeout": STORAGE_TIMEOUT_SECONDS}
    return Limits(storage_from_string(url, wrap_exceptions=True, retry=None, retry_on_error=[], **options))  # type: ignore[arg-type]


parse_rate = lru_cache(maxsize=64)(parse)


def wait_seconds(scope: str, user_id: int | None, meta: Mapping[str, Any]) -> float | None:
    """Count a hit of a user, or of an anonymous caller's address. None within the rate, else seconds to wait."""
    rate = conf.THROTTLE_RATES.get(scope)
    if not rate:
        return None
    identity = viewers.client_site(meta) if user_id is None else f"@{user_id}"
    return limits_on(conf.THROTTLE_STORAGE).wait_seconds(parse_rate(rate), scope, identity)


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
