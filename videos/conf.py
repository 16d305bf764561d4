"""Settings of the app, typed, each with its default; `override_settings` just works."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver

DAY_SECONDS = 86_400

T = TypeVar("T")


class Setting(Generic[T]):
    """A setting `VIDEOS_<name>`, its default, and what it means.

    What was read stays in the instance's dictionary until a setting changes: Django takes 2 µs each time for a setting
    that was left to its default, and a view reads nine of them.
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
    """What operators may set, as `VIDEOS_<NAME>` in Django's settings."""

    COUNTERS_ALIAS = Setting(
        "counters",
        "The `CACHES` alias of the counters' Redis; it must be a database apart from any cache.",
    )
    SHARDS = Setting(
        16,
        "How many parts the videos are spread over. To change it, stop flush and web servers, change it everywhere.",
    )
    VIEW_WINDOW_SECONDS = Setting(1800, "A viewer counts once for a video in this time.")
    VIEW_MIN_WATCHED_SECONDS = Setting[float](
        30,
        "A view that reports a shorter time watched does not count; for a short video half of it is enough.",
    )
    VIEW_ADDRESS_LIMIT = Setting(
        100,
        "Views of one video that count from one address in a window, signed-in viewers apart; 0 is no limit.",
    )
    VIEW_MAX_AGE_SECONDS = Setting(7 * DAY_SECONDS, "How old an event of a batch may be.")
    TRUSTED_PROXY_HOPS = Setting(
        0,
        "How many proxies of ours stand before the service, each adding one address to X-Forwarded-For.",
    )
    THROTTLE_RATES = Setting[Mapping[str, str | None]](
        {"token": "60/minute", "like": "600/minute", "view": "6000/minute", "write": "120/minute"},
        "Requests allowed per scope, in the notation of the `limits` package; None is no limit.",
    )
    THROTTLE_STORAGE = Setting(
        "process://",
        "Where throttles count: each worker process for itself, or the URL of a storage of the `limits` package.",
    )
    EXPRESS = Setting(
        True,
        "Whether usual requests are answered before Django's handler; turn it off to have all go through it.",
    )
    TOKEN_MINUTES = Setting[float](60, "How long an access token is valid.")
    REFRESH_TOKEN_DAYS = Setting[float](14, "How long a refresh token is valid.")
    LIKED_SECONDS = Setting(
        900,
        "How long Redis remembers whether a user likes a video; minutes, far longer than a request takes.",
    )
    LIVE_SECONDS = Setting(7 * DAY_SECONDS, "How long a live count stays after its last write.")
    LIVE_SETTLED_SECONDS = Setting(3600, "How long a live count stays once nothing of it is pending.")
    FLUSH_INTERVAL_SECONDS = Setting(60, "How often the clock runs the flush; health turns red after three of them.")
    FLUSH_CHUNK_FIELDS = Setting(
        1000,
        "About how many pending fields one transaction of the flush takes; a video's fields are never split.",
    )
    FLUSH_THREADS = Setting(
        2,
        "How many shards a run of the flush takes at a time; each thread has a connection to the database.",
    )
    FLUSH_ISOLATION_LEVEL = Setting("read uncommitted", "Isolation level of the flush's session on MySQL and MariaDB.")
    FLUSH_LOCK_WAIT_SECONDS = Setting(5, "How long the flush waits for a row lock before it tries again.")
    FLUSH_DURABLE_SECONDS = Setting[float](
        5.0,
        "How long a claim may take to be durable, on disk and on the replicas, before its shard fails.",
    )
    BATCHES_DAYS = Setting(14, "How long finished batches are kept; the newest of each shard stays.")
    HOURS_DAYS = Setting(30, "How long hours are kept one by one, before they roll up into days.")
    REDIS_PAUSE_SECONDS = Setting[float](1.0, "How long a process leaves Redis alone after a failure.")
    RETRY_AFTER_SECONDS = Setting(2, "What a 503 tells the client to wait.")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"There is no setting VIDEOS_{name}")


conf = Conf()


@receiver(setting_changed, dispatch_uid="videos.conf")
def _forget(**_: Any) -> None:
    vars(conf).clear()
