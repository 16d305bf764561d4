"""AppSettings of the app, typed, each with its default; `override_settings` works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver

from videos.changes import DAY_SECONDS

T = TypeVar("T")


class Setting(Generic[T]):
    """A setting `VIDEOS_<name>` and its default.

    A value that was read stays in the dictionary of the instance until a setting changes. Django takes 2 µs to look up
    a setting that is not set, and a view reads nine of them.
    """

    def __init__(self, default: T) -> None:
        self.default = default

    def __set_name__(self, owner: type[AppSettings], name: str) -> None:
        self.name = name

    def __get__(self, conf: AppSettings, owner: type[AppSettings]) -> T:
        value: T = getattr(settings, f"VIDEOS_{self.name}", self.default)
        vars(conf)[self.name] = value
        return value


class Number(Setting[T]):
    """A setting from `least` to `most`; a whole number if its default is one."""

    def __init__(self, default: T, least: float, most: float) -> None:
        super().__init__(default)
        self.least = least
        self.most = most


class AppSettings:
    """The settings that operators may set, as `VIDEOS_<NAME>` in Django's settings."""

    COUNTERS_ALIAS = Setting("counters")  # the `CACHES` alias of the counters' Redis. No cache may use that database
    # How many parts the videos are spread over. To change it, stop web servers, flush everything, `adopt_counters`.
    SHARDS = Number(16, 1, 4096)
    VIEW_WINDOW_SECONDS = Number(1800, 1, 366 * DAY_SECONDS)  # a viewer counts once for each video in this time
    # A view that reports less time watched does not count; half of the duration is always enough.
    VIEW_MIN_WATCHED_SECONDS = Number(10.0, 0, DAY_SECONDS)
    VIEW_WATCHED_REQUIRED = Setting(False)  # whether a view that does not report its time watched is malformed
    # How many views of a video count for one address in a window; 0 is no limit. Signed-in viewers are exempt.
    VIEW_ADDRESS_LIMIT = Number(100, 0, 1_000_000_000)
    # How many views count for one address in a window over all videos, signed in or not; and for its network (an IPv6
    # /48); 0 is no limit.
    ADDRESS_VIEWS = Number(1000, 0, 1_000_000_000)
    NETWORK_VIEWS = Number(10_000, 0, 1_000_000_000)
    VIEW_MAX_AGE_SECONDS = Number(7 * DAY_SECONDS, 1, 366 * DAY_SECONDS)  # how old an event of a batch may be
    # How many proxies of the operator are before the service. Each adds one address to X-Forwarded-For.
    TRUSTED_PROXY_HOPS = Number(0, 0, 32)
    # Where probes come from: /health/ready and /metrics answer 404 to callers from elsewhere.
    PRIVATE_NETWORKS = Setting(
        ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10",
         "169.254.0.0/16", "fc00::/7", "fe80::/10")
    )  # fmt: skip
    # Requests allowed per scope, in the notation of the `limits` package; None is no limit.
    THROTTLE_RATES = Setting[Mapping[str, str | None]](
        {
            "token": "60/minute",  # sign-ins and refreshed tokens of an address  # nosec B105
            "account": "20/10 minutes",  # sign-ins to an account, from anywhere
            "like": "600/minute",
            "view": "6000/minute",
            "write": "120/minute",
            "search": "120/minute",
            "stats": "120/minute",
        }
    )
    # Where throttles count: `counters://` is the counters' Redis, for all processes; `process://` each worker process;
    # else the URL of a storage of `limits`.
    THROTTLE_STORAGE = Setting("counters://")
    SIGN_INS_AT_ONCE = Number(2, 1, 64)  # how many passwords a process checks at a time; as many more wait
    # Whether the express lane answers usual requests; if False, all requests go through Django's handler.
    EXPRESS = Setting(True)
    TOKEN_MINUTES = Number(60.0, 0.1, 60 * 24 * 366)  # how long an access token is valid
    REFRESH_TOKEN_DAYS = Number(14.0, 0.001, 3660)  # how long a refresh token is valid
    # Signs access and refresh tokens; "" is SECRET_KEY. What the fallbacks signed stays valid.
    JWT_SIGNING_KEY = Setting("")
    JWT_SIGNING_KEY_FALLBACKS = Setting[Sequence[str]](())
    # Who sees who likes a video: `everyone`; the `owner` of the video; `nobody`. Users with the permission
    # videos.view_videolike always do.
    LIKERS = Setting("owner")
    DISLIKES = Setting(True)  # whether videos can be disliked: turns the calls and the fields of answers on or off
    # How long Redis remembers whether a user likes a video. It must be far longer than a request takes.
    LIKED_SECONDS = Number(900, 60, 366 * DAY_SECONDS)
    LIVE_SECONDS = Number(7 * DAY_SECONDS, 3600, 366 * DAY_SECONDS)  # how long a live key stays after its last write
    # How long a live key stays once nothing of it is pending.
    LIVE_SETTLED_SECONDS = Number(3600, 1, 366 * DAY_SECONDS)
    # How often the flush is run; health reports it as late after three intervals.
    FLUSH_INTERVAL_SECONDS = Number(60, 1, DAY_SECONDS)
    # About how many fields one transaction of the flush applies; a video's fields are never split.
    FLUSH_CHUNK_FIELDS = Number(1000, 1, 100_000)
    # How many shards a run of the flush takes at a time, each in a thread with its own database connection.
    FLUSH_THREADS = Number(2, 1, 64)
    FLUSH_ISOLATION_LEVEL = Setting("read uncommitted")  # isolation level of the flush's session on MySQL and MariaDB
    FLUSH_LOCK_WAIT_SECONDS = Number(
        1, 1, 3600
    )  # how long the flush waits for a locked row before it leaves it to later
    # How long a claim may take to be on disk and on the replicas; then its shard fails.
    FLUSH_DURABLE_SECONDS = Number(5.0, 0.1, 600)
    # How long Redis keeps confirmed batches, to apply them again if the database turns out to have lost them.
    REPLAY_SECONDS = Number(600, 0, 7 * DAY_SECONDS)
    # Above this share of its maxmemory Redis keeps none: it must be able to take likes and views.
    REPLAY_MEMORY_SHARE = Number(0.8, 0, 1)
    # Above this share of Redis' maxmemory views of anonymous callers are not counted; 1 is no limit.
    ANONYMOUS_MEMORY_SHARE = Number(0.7, 0, 1)
    BATCHES_DAYS = Number(14, 1, 3660)  # how long finished batches are kept; each shard's newest is never deleted
    HOURS_DAYS = Number(30, 1, 3660)  # how long hours are kept separately, before they are merged into days
    # How long a request waits for the database, and for a lock in it.
    DATABASE_WAIT_SECONDS = Number(0.6, 0.3, 60)
    SEARCH_SECONDS = Number(0.5, 0.01, 60)  # how long a search may take before it is answered with 503
    REDIS_PAUSE_SECONDS = Number(1.0, 0, 60)  # how long a process does not call Redis after a failure
    RETRY_AFTER_SECONDS = Number(2, 1, 3600)  # what a 503 tells the client to wait

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"There is no setting VIDEOS_{name}")


conf = AppSettings()


@receiver(setting_changed, dispatch_uid="videos.conf")
def _forget(**_: Any) -> None:
    vars(conf).clear()
