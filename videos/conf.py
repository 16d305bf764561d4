"""Settings of the app, typed, each with its default; `override_settings` works."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver

from videos.changes import DAY_SECONDS

T = TypeVar("T")


class Setting(Generic[T]):
    """A setting `VIDEOS_<name>`, its default, and what it means.

    A value that was read stays in the dictionary of the instance until a setting changes. Django takes 2 µs to look up
    a setting that is not set, and a view reads nine of them.
    """

    def __init__(self, default: T, about: str) -> None:
        self.default = default
        self.about = about

    def __set_name__(self, owner: type[Conf], name: str) -> None:
        self.name = name

    def __get__(self, conf: Conf, owner: type[Conf]) -> T:
        value: T = getattr(settings, f"VIDEOS_{self.name}", self.default)
        vars(conf)[self.name] = value
        return value


class Conf:
    """The settings that operators may set, as `VIDEOS_<NAME>` in Django's settings."""

    COUNTERS_ALIAS = Setting(
        "counters",
        "The `CACHES` alias of the counters' Redis. No cache may use that database.",
    )
    SHARDS = Setting(
        16,
        "How many parts the videos are spread over. Stop web servers, flush everything, change it everywhere.",
    )
    VIEW_WINDOW_SECONDS = Setting(1800, "A viewer counts once for each video in this time.")
    VIEW_MIN_WATCHED_SECONDS = Setting[float](
        30,
        "A view that reports less time watched does not count; half of the duration is always enough.",
    )
    VIEW_ADDRESS_LIMIT = Setting(
        100,
        "How many views of a video count for one address in a window; 0 is no limit. Signed-in viewers are exempt.",
    )
    VIEW_MAX_AGE_SECONDS = Setting(7 * DAY_SECONDS, "How old an event of a batch may be.")
    TRUSTED_PROXY_HOPS = Setting(
        0,
        "How many proxies of the operator are before the service. Each adds one address to X-Forwarded-For.",
    )
    THROTTLE_RATES = Setting[Mapping[str, str | None]](
        {"token": "60/minute", "like": "600/minute", "view": "6000/minute", "write": "120/minute"},
        "Requests allowed per scope, in the notation of the `limits` package; None is no limit.",
    )
    THROTTLE_STORAGE = Setting(
        "process://",
        "Where throttles count: `process://` is each worker process; else the URL of a storage of `limits`.",
    )
    EXPRESS = Setting(
        True,
        "Whether the express lane answers usual requests; if False, all requests go through Django's handler.",
    )
    TOKEN_MINUTES = Setting[float](60, "How long an access token is valid.")
    REFRESH_TOKEN_DAYS = Setting[float](14, "How long a refresh token is valid.")
    LIKED_SECONDS = Setting(
        900,
        "How long Redis remembers whether a user likes a video. It must be far longer than a request takes.",
    )
    LIVE_SECONDS = Setting(7 * DAY_SECONDS, "How long a live key stays after its last write.")
    LIVE_SETTLED_SECONDS = Setting(3600, "How long a live key stays once nothing of it is pending.")
    FLUSH_INTERVAL_SECONDS = Setting(60, "How often the flush is run; health reports it as late after three intervals.")
    FLUSH_CHUNK_FIELDS = Setting(
        1000,
        "About how many fields one transaction of the flush applies; a video's fields are never split.",
    )
    FLUSH_THREADS = Setting(
        2,
        "How many shards a run of the flush takes at a time, each in a thread with its own database connection.",
    )
    FLUSH_ISOLATION_LEVEL = Setting("read uncommitted", "Isolation level of the flush's session on MySQL and MariaDB.")
    FLUSH_LOCK_WAIT_SECONDS = Setting(5, "How long the flush waits for a row lock before it retries.")
    FLUSH_DURABLE_SECONDS = Setting[float](
        5.0,
        "How long a claim may take to be on disk and on the replicas; then its shard fails.",
    )
    BATCHES_DAYS = Setting(14, "How long finished batches are kept; each shard's newest is never deleted.")
    HOURS_DAYS = Setting(30, "How long hours are kept separately, before they are merged into days.")
    REDIS_PAUSE_SECONDS = Setting[float](1.0, "How long a process does not call Redis after a failure.")
    RETRY_AFTER_SECONDS = Setting(2, "What a 503 tells the client to wait.")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"There is no setting VIDEOS_{name}")


conf = Conf()


@receiver(setting_changed, dispatch_uid="videos.conf")
def _forget(**_: Any) -> None:
    vars(conf).clear()
