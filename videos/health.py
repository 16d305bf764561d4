"""Liveness, readiness, metrics. Nothing here hangs when a server does: every part has until the deadline to answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models import Count, Sum
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from videos import counters, flush, viewers
from videos.conf import conf
from videos.models import FlushBatch

DEADLINE_SECONDS = 2.0
BATCH_SUMS = ("fields", "applied", "repeated", "dropped", "rejected", "videos", "likes_added", "likes_removed", "views")


class Part:
    """Something that is looked after, by a thread of its own: a check that hangs holds up nobody, and is not repeated
    before it has ended."""

    def __init__(self, name: str, check: Callable[[], Mapping[str, Any]]) -> None:
        self.name = name
        self._check = check
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"health-{name}")
        self._running: Future[Mapping[str, Any]] | None = None

    def begin(self) -> Future[Mapping[str, Any]]:
        """Start the check, or join the one that is running."""
        if self._running is None or self._running.done():
            self._running = self._thread.submit(self._run)
        return self._running

    def _run(self) -> Mapping[str, Any]:
        begin = time.perf_counter()
        try:
            found = {"ok": True, **self._check()}
        except Exception as error:  # noqa: BLE001  whatever it is, this part does not work
            found = {"ok": False, "error": type(error).__name__}
        finally:
            connection.close()  # this thread's
        return {**found, "milliseconds": round((time.perf_counter() - begin) * 1000, 1)}


def check_database() -> Mapping[str, Any]:
    """The database answers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return {}


def check_redis() -> Mapping[str, Any]:
    """The counters' Redis answers."""
    counters.last_finished_run()
    return {}


def check_flush() -> Mapping[str, Any]:
    """Where the flush stands, and what its batches of the last hour moved. Not ok once it is late."""
    flushed = flush.flush_status()
    hour = FlushBatch.objects.filter(finished_at__gt=timezone.now() - timedelta(hours=1))
    sums = hour.aggregate(batches=Count("pk"), **{name: Sum(name, default=0) for name in BATCH_SUMS})
    return {"ok": not flushed.late, **asdict(flushed), "last_hour": sums}


PARTS = [Part("database", check_database), Part("redis", check_redis), Part("flush", check_flush)]


def look() -> dict[str, Mapping[str, Any]]:
    """The state of every part, after DEADLINE_SECONDS at most."""
    running = {part.name: part.begin() for part in PARTS}
    deadline = time.monotonic() + DEADLINE_SECONDS
    states: dict[str, Mapping[str, Any]] = {}
    for name, future in running.items():
        try:
            states[name] = future.result(timeout=max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            states[name] = {"ok": False, "error": f"no answer in {DEADLINE_SECONDS:g} seconds"}
    return states


@never_cache
@require_safe
def live(request: HttpRequest) -> HttpResponse:
    """The process answers; whether its servers do is not asked, since a restart would not help them."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """Each part's state, and how the caller is seen.

    `unavailable` and 503 when the database or Redis does not answer; `degraded` when the flush is late: then everything
    goes on, so it is 200, unless the caller asks for `?strict` to be told by the status, as an alarm would.
    """
    states = look()
    needed = all(states[name]["ok"] for name in ("database", "redis"))
    status = "ok" if all(state["ok"] for state in states.values()) else "degraded" if needed else "unavailable"
    healthy = needed and (status == "ok" or "strict" not in request.GET)
    you = {"address": viewers.client_address(request.META), "trusted_proxy_hops": conf.TRUSTED_PROXY_HOPS}
    response = JsonResponse({"status": status, **states, "you": you}, status=200 if healthy else 503)
    if not healthy:
        response.headers["Retry-After"] = str(conf.RETRY_AFTER_SECONDS)
    return response


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Gauges in Prometheus' text form, measured when asked for. They tell of the service, not of this process."""
    registry = CollectorRegistry()
    states = look()
    up = Gauge("videos_up", "Whether a part answers.", ["part"], registry=registry)
    for name in ("database", "redis"):
        up.labels(name).set(states[name]["ok"])
    _measure_flush(states["flush"], registry)
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _measure_flush(state: Mapping[str, Any], registry: CollectorRegistry) -> None:
    if "late" not in state:
        return  # not known: absent rather than wrong
    for name, about in {
        "pending_fields": "Changes that wait in Redis for the next flush.",
        "claimed_fields": "Changes of batches that are being flushed.",
        "rejected_fields": "Malformed changes, kept aside in Redis.",
        "stale_notes": "Videos whose rows changed outside of a batch, to be set live.",
        "rewound_batches": "Batches, of those kept, that found Redis rewound or replaced.",
        "late": "Whether nothing was flushed for three intervals although something waits.",
    }.items():
        Gauge(f"videos_flush_{name}", about, registry=registry).set(state[name])
    if state["last_finished_seconds"] is not None:
        age = Gauge("videos_flush_age_seconds", "Since the flush last finished.", registry=registry)
        age.set(state["last_finished_seconds"])
    moved = Gauge("videos_flush_last_hour", "Sums of the last hour's batches.", ["sum"], registry=registry)
    for name, value in state["last_hour"].items():
        moved.labels(name).set(value)
