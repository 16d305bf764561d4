"""Liveness, readiness, metrics. Each part is checked by its own thread: a server that hangs cannot block the answer."""

import contextlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import wraps
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import Error as DatabaseError
from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseNotFound, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from videos import counters, flush, ledger, meeting
from videos.api import viewers
from videos.conf import conf

DEADLINE_SECONDS = 0.9  # for the checks of all parts


class Part:
    """A part of the service, and the thread that checks it. A check that hangs is joined, not started again."""

    def __init__(self, name: str, check: Callable[[], Mapping[str, Any] | None]) -> None:
        self.name = name
        self._check = check
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"health-{name}")
        self._running: Future[Mapping[str, Any]] | None = None

    def start_check(self) -> Future[Mapping[str, Any]]:
        """Start the check, or join the one that is running."""
        if self._running is None or self._running.done():
            self._running = self._thread.submit(self._run)
        return self._running

    def _run(self) -> Mapping[str, Any]:
        started = time.perf_counter()
        try:
            with ledger.limited(patient=True):
                state = {"ok": True, **(self._check() or {})}
        except Exception as error:  # noqa: BLE001  any error means that this part does not work
            state = {"ok": False, "error": getattr(error, "code", "") or type(error).__name__}
        finally:
            connections.close_all()  # this thread's
        return {**state, "milliseconds": round((time.perf_counter() - started) * 1000, 1)}


def check_redis() -> Mapping[str, Any]:
    """The counters' Redis answers, takes writes and belongs to this database.

    Not ok if it may lose writes, or if the database may be a copy, unless check W012 or W018 is silenced; nor while it
    has no memory for views of anonymous callers.
    """
    state: dict[str, Any] = {}
    fault = moved = None
    with contextlib.suppress(DatabaseError):  # the database has a check of its own
        pair = meeting.read_pair()
        fault, moved = pair.fault(), pair.moved()
    if fault is None:
        silenced = settings.SILENCED_SYSTEM_CHECKS
        unsafe, full = counters.find_fault(), counters.is_full()
        state = {"ok": not full, "memory_share": round(counters.known_share(), 3), "full": full}
        fault = (unsafe if "videos.W012" not in silenced else None) or (
            moved if "videos.W018" not in silenced else None
        )
    return state if fault is None else {**state, "ok": False, "fault": fault}


def check_flush() -> Mapping[str, Any]:
    """Where the flush stands, and the sums of its batches of the last hour.

    Not ok once it is late, and while Redis has no memory to keep batches for a replay.
    """
    status = flush.read_status()
    shards = [shard._asdict() for shard in status.shards]
    return {
        "ok": not (status.late or status.unkept),
        **status._asdict(),
        "shards": shards,
        "last_hour": ledger.last_hour_sums(),
    }


PARTS = [Part("database", ledger.ping), Part("redis", check_redis), Part("flush", check_flush)]


def check_parts() -> dict[str, Mapping[str, Any]]:
    """The state of every part, after at most DEADLINE_SECONDS."""
    checks = {part.name: part.start_check() for part in PARTS}
    deadline = time.monotonic() + DEADLINE_SECONDS
    states: dict[str, Mapping[str, Any]] = {}
    for name, check in checks.items():
        try:
            states[name] = check.result(timeout=max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            states[name] = {"ok": False, "error": f"no answer in {DEADLINE_SECONDS:g} seconds"}
    return states


def inside_only(view: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Answer 404 to callers outside of VIDEOS_PRIVATE_NETWORKS: there is nothing here for strangers."""

    @wraps(view)
    def check(request: HttpRequest) -> HttpResponse:
        return view(request) if viewers.is_inside(request.META) else HttpResponseNotFound()

    return check


@login_not_required
@never_cache
@require_safe
def live(request: HttpRequest) -> HttpResponse:
    """The process answers. Its servers are not asked: a restart of the process would not help them."""
    return JsonResponse({"status": "ok"})


@login_not_required
@never_cache
@require_safe
@inside_only
def ready(request: HttpRequest) -> HttpResponse:
    """Each part's state, and the caller's address as the service sees it.

    `unavailable` and 503 when the database or Redis does not answer or takes no writes, or a table is missing.
    `degraded` when the flush is late, Redis has no append-only file, no memory for replays or none for views of
    anonymous callers, or the database may be a copy: likes go on, so the status is 200, or 503 with `?strict`, which is
    for alarms.
    """
    states = check_parts()
    needed = not any("error" in states[name] for name in ("database", "redis"))
    status = "ok" if all(state["ok"] for state in states.values()) else "degraded" if needed else "unavailable"
    healthy = needed and (status == "ok" or "strict" not in request.GET)
    you = {
        "address": viewers.client_address(request.META),
        "trusted_proxy_hops": conf.TRUSTED_PROXY_HOPS,
        "forgotten_proxy": viewers.is_proxy_forgotten(request.META),
    }
    response = JsonResponse({"status": status, **states, "you": you}, status=200 if healthy else 503)
    if not healthy:
        response.headers["Retry-After"] = str(conf.RETRY_AFTER_SECONDS)
    return response


@login_not_required
@never_cache
@require_safe
@inside_only
def metrics(request: HttpRequest) -> HttpResponse:
    """Gauges in Prometheus' text format, measured at each request. They describe the service, not this process."""
    registry = CollectorRegistry()
    states = check_parts()
    up = Gauge("videos_up", "Whether a part answers.", ["part"], registry=registry)
    for name in ("database", "redis"):
        up.labels(name).set(not {"error", "fault"} & states[name].keys())
    if "full" in states["redis"]:  # else the check failed: a gauge is left out rather than wrong
        for gauge, description in {
            "memory_share": "How much of its maxmemory Redis uses; 0 without one.",
            "full": "Whether views of anonymous callers are not counted, because Redis uses too much of its maxmemory.",
        }.items():
            Gauge(f"videos_redis_{gauge}", description, registry=registry).set(states["redis"][gauge])
    _measure_flush(states["flush"], registry)
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _measure_flush(state: Mapping[str, Any], registry: CollectorRegistry) -> None:
    if "late" not in state:
        return  # the check failed: a gauge is left out rather than wrong
    for name, description in {
        "pending_fields": "Changes that wait in Redis for the next flush.",
        "claimed_fields": "Changes of batches that are being flushed.",
        "rejected_fields": "Malformed changes, kept aside in Redis.",
        "stale_notes": "Notes of rows that changed outside a batch; the flush sets their live totals.",
        "rewound_batches": "Kept batches that found Redis rewound or replaced, and that no one has acknowledged.",
        "unkept": "Whether Redis had no memory lately to keep batches for when the database is set back.",
        "late": "Whether changes wait and none was flushed for three intervals.",
    }.items():
        Gauge(f"videos_flush_{name}", description, registry=registry).set(state[name])
    for name, description in {
        "finished_seconds": "Since the flush last finished with a shard.",
        "pending_fields": "Changes of a shard that wait in Redis for the next flush.",
        "late": "Whether changes of a shard wait and none was flushed for three intervals.",
    }.items():
        gauge = Gauge(f"videos_flush_shard_{name}", description, ["shard"], registry=registry)
        for shard in state["shards"]:
            if shard[name] is not None:
                gauge.labels(shard["shard"]).set(shard[name])
    if state["last_finished_seconds"] is not None:
        age = Gauge("videos_flush_age_seconds", "Since the flush last finished.", registry=registry)
        age.set(state["last_finished_seconds"])
    last_hour = Gauge("videos_flush_last_hour", "Sums of the last hour's batches.", ["sum"], registry=registry)
    for name, value in state["last_hour"].items():
        last_hour.labels(name).set(value)


VIEWS: Final = (live, ready, metrics)
PATHS: Final = ("/health/live", "/health/ready", "/metrics")
