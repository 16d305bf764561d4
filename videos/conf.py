"""Settings of the app, typed, each with its default; `override_settings` just works."""

from collections.abc import Mapping
from typing import Any, cast

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver

DAY_SECONDS = 86_400

_read: dict[str, Any] = {}


def _setting(name: str, default: Any) -> Any:
    # Django remembers the settings that it finds, and looks for those left to their defaults at 2 µs each: a view reads
    # nine of them.
    try:
        return _read[name]
    except KeyError:
        return _read.setdefault(name, getattr(settings, name, default))


@receiver(setting_changed, dispatch_uid="videos.conf")
def _forget(**_: Any) -> None:
    _read.clear()


class Conf:
    """What operators may set, as `VIDEOS_<NAME>` in Django's settings."""

    @property
    def COUNTERS_ALIAS(self) -> str:
        """The `CACHES` alias of the counters' Redis; it must be a database apart from any cache."""
        return cast(str, _setting("VIDEOS_COUNTERS_ALIAS", "counters"))

    @property
    def SHARDS(self) -> int:
        """How many parts the videos are spread over. To change it, stop flush and web servers, change it everywhere."""
        return cast(int, _setting("VIDEOS_SHARDS", 16))

    @property
    def VIEW_WINDOW_SECONDS(self) -> int:
        """A viewer counts once for a video in this time."""
        return cast(int, _setting("VIDEOS_VIEW_WINDOW_SECONDS", 1800))

    @property
    def VIEW_MIN_WATCHED_SECONDS(self) -> float:
        """A view that reports a shorter time watched does not count; for a short video half of it is enough."""
        return cast(float, _setting("VIDEOS_VIEW_MIN_WATCHED_SECONDS", 30))

    @property
    def VIEW_ADDRESS_LIMIT(self) -> int:
        """Views of one video that count from one address in a window, signed-in viewers apart; 0 is no limit."""
        return cast(int, _setting("VIDEOS_VIEW_ADDRESS_LIMIT", 100))

    @property
    def VIEW_MAX_AGE_SECONDS(self) -> int:
        """How old an event of a batch may be."""
        return cast(int, _setting("VIDEOS_VIEW_MAX_AGE_SECONDS", 7 * DAY_SECONDS))

    @property
    def TRUSTED_PROXY_HOPS(self) -> int:
        """How many proxies of ours stand before the service, each adding one address to X-Forwarded-For."""
        return cast(int, _setting("VIDEOS_TRUSTED_PROXY_HOPS", 0))

    @property
    def THROTTLE_RATES(self) -> Mapping[str, str | None]:
        """Requests allowed per scope, in the notation of the `limits` package; None is no limit."""
        return cast(
            Mapping[str, str | None],
            _setting(
                "VIDEOS_THROTTLE_RATES",
                {"token": "60/minute", "like": "600/minute", "view": "6000/minute", "write": "120/minute"},
            ),
        )

    @property
    def THROTTLE_STORAGE(self) -> str:
        """Where throttles count: each worker process for itself, or the URL of a storage of the `limits` package."""
        return cast(str, _setting("VIDEOS_THROTTLE_STORAGE", "process://"))

    @property
    def EXPRESS(self) -> bool:
        """Whether usual requests are answered before Django's handler; turn it off to have all go through it."""
        return cast(bool, _setting("VIDEOS_EXPRESS", True))

    @property
    def TOKEN_MINUTES(self) -> float:
        """How long an access token is valid."""
        return cast(float, _setting("VIDEOS_TOKEN_MINUTES", 60))

    @property
    def REFRESH_TOKEN_DAYS(self) -> float:
        """How long a refresh token is valid."""
        return cast(float, _setting("VIDEOS_REFRESH_TOKEN_DAYS", 14))

    @property
    def LIKED_SECONDS(self) -> int:
        """How long Redis remembers whether a user likes a video; minutes, far longer than a request takes."""
        return cast(int, _setting("VIDEOS_LIKED_SECONDS", 900))

    @property
    def LIVE_SECONDS(self) -> int:
        """How long a live count stays after its last write."""
        return cast(int, _setting("VIDEOS_LIVE_SECONDS", 7 * DAY_SECONDS))

    @property
    def LIVE_SETTLED_SECONDS(self) -> int:
        """How long a live count stays once nothing of it is pending."""
        return cast(int, _setting("VIDEOS_LIVE_SETTLED_SECONDS", 3600))

    @property
    def FLUSH_INTERVAL_SECONDS(self) -> int:
        """How often the clock runs the flush; health turns red after three of them."""
        return cast(int, _setting("VIDEOS_FLUSH_INTERVAL_SECONDS", 60))

    @property
    def FLUSH_CHUNK_FIELDS(self) -> int:
        """About how many pending fields one transaction of the flush takes; a video's fields are never split."""
        return cast(int, _setting("VIDEOS_FLUSH_CHUNK_FIELDS", 1000))

    @property
    def FLUSH_THREADS(self) -> int:
        """How many shards a run of the flush takes at a time; each thread has a connection to the database."""
        return cast(int, _setting("VIDEOS_FLUSH_THREADS", 2))

    @property
    def FLUSH_ISOLATION_LEVEL(self) -> str:
        """Isolation level of the flush's session on MySQL and MariaDB."""
        return cast(str, _setting("VIDEOS_FLUSH_ISOLATION_LEVEL", "read uncommitted"))

    @property
    def FLUSH_LOCK_WAIT_SECONDS(self) -> int:
        """How long the flush waits for a row lock before it tries again."""
        return cast(int, _setting("VIDEOS_FLUSH_LOCK_WAIT_SECONDS", 5))

    @property
    def FLUSH_DURABLE_SECONDS(self) -> float:
        """How long a claim may take to be durable, on disk and on the replicas, before its shard fails."""
        return cast(float, _setting("VIDEOS_FLUSH_DURABLE_SECONDS", 5.0))

    @property
    def BATCHES_DAYS(self) -> int:
        """How long finished batches are kept; the newest of each shard stays."""
        return cast(int, _setting("VIDEOS_BATCHES_DAYS", 14))

    @property
    def HOURS_DAYS(self) -> int:
        """How long hours are kept one by one, before they roll up into days."""
        return cast(int, _setting("VIDEOS_HOURS_DAYS", 30))

    @property
    def REDIS_PAUSE_SECONDS(self) -> float:
        """How long a process leaves Redis alone after a failure."""
        return cast(float, _setting("VIDEOS_REDIS_PAUSE_SECONDS", 1.0))

    @property
    def RETRY_AFTER_SECONDS(self) -> int:
        """What a 503 tells the client to wait."""
        return cast(int, _setting("VIDEOS_RETRY_AFTER_SECONDS", 2))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"There is no setting VIDEOS_{name}")


conf = Conf()
