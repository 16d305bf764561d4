"""The functions that AWS Lambda calls with a scheduled event, through Zappa.

Zappa calls a function that raised TypeError again with fewer arguments. So each function takes exactly
`(event, context)` and raises no TypeError. Each line of the log is one JSON object, for CloudWatch: one for each batch,
and one for each run, with its metrics in the Embedded Metric Format.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import contextlib
import gc
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import django
from django.apps import apps

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "streaming.settings")
if not apps.ready:  # Zappa has set up Django, other callers may not have
    django.setup()

from django import db

from videos import flush as flushing
from videos import ledger
from videos.changes import VideosError
from videos.conf import conf
from videos.counters import CountersUnavailable, memory_share

gc.freeze()  # loaded modules are never freed: see flush_counters

NAMESPACE = "Streaming/Flush"
REPORT_SECONDS = 5.0
RECONCILE_VIDEOS = 5000  # between two checks of the time
SHOWN_DIFFERENCES = 100  # because an answer of Lambda holds 6 MB
COUNTED = ("Moved", "Dropped", "Rejected", "Rewound", "Failures", "Incomplete", "Waiting", "Full")
UNITS = {"Lag": "Seconds", **dict.fromkeys(COUNTED, "Count"), "Duration": "Seconds"}


class Context(Protocol):
    """The part of Lambda's context that is used here."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda kills the process."""


class FlushFailed(VideosError):
    """A shard failed. The next run finishes its batch."""


def flush(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Flush the shards of `event["kwargs"]["shards"]`, all by default, within Lambda's remaining time less a margin.

    Returns the sums of the run. Raises FlushFailed when a shard failed, so that Lambda counts an error and retries the
    event, and ValueError for invalid arguments.
    """
    with _type_error_as_runtime_error():
        shards = _shards(_arguments(event, {"shards"}))
        log = _Log(context)
        db.close_old_connections()  # Lambda may have frozen this process for minutes
        lag, _ = _lag_and_waiting()
        report = flushing.run_flush(
            shards=shards,
            max_seconds=_budget_seconds(context),
            on_batch=lambda batch: log.write("batch", **batch._asdict()),
        )
        failures = {str(shard): reason for shard, reason in report.failures.items()}
        sums = report.as_dict() | {"failures": failures}
        metrics = {
            "Lag": lag,
            "Moved": report.applied,
            "Dropped": report.dropped,
            "Rejected": report.rejected,
            "Rewound": report.rewound,
            "Failures": len(report.failures),
            "Incomplete": int(not report.complete),
            "Waiting": _lag_and_waiting()[1],
            "Full": _full(),
            "Duration": report.seconds,
        }
        log.write_metrics("flush", metrics, shards=shards, **sums)
        if report.failed:
            raise FlushFailed(json.dumps(failures))
        return sums


def reconcile(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Recount like rows against `like_count`; `event["kwargs"]["repair"]` corrects them, else they are only reported.

    Out of time it stops and returns the last recounted video as `after`. An event with that in its kwargs continues
    there. Raises ValueError for invalid arguments, CountersUnavailable for a repair while Redis is away.
    """
    with _type_error_as_runtime_error():
        arguments = _arguments(event, {"repair", "after"})
        repair, after = arguments.get("repair", False), arguments.get("after", 0)
        if not isinstance(repair, bool) or isinstance(after, bool) or not isinstance(after, int) or after < 0:
            raise ValueError(f'"repair" is true or false and "after" a video\'s id, not {repair!r} and {after!r}.')
        log = _Log(context)
        db.close_old_connections()
        limit = time.monotonic() + _budget_seconds(context)
        total = flushing.ReconcileReport()
        while part := ledger.video_ids(after, RECONCILE_VIDEOS):
            report = flushing.reconcile(video_ids=part, repair=repair, forget=total.videos == 0)
            total.videos += report.videos
            total.repaired += report.repaired
            total.differences += report.differences
            after = part[-1]
            if time.monotonic() > limit:
                break
        outcome = {
            "videos": total.videos,
            "different": len(total.differences),
            "repaired": total.repaired,
            "differences": total.differences[:SHOWN_DIFFERENCES],
            "complete": not part,
            "after": after,
        }
        log.write("reconcile", **outcome)
        return outcome


@contextlib.contextmanager
def _type_error_as_runtime_error() -> Iterator[None]:
    try:
        yield
    except TypeError as error:
        raise RuntimeError(f"A bug in the flush, not in how it was called: {error}") from error


def _arguments(event: Mapping[str, Any], known: set[str]) -> Mapping[str, Any]:
    arguments = event.get("kwargs") or {}
    if not isinstance(arguments, Mapping) or not known.issuperset(arguments):
        raise ValueError(f'"kwargs" of the event may hold {", ".join(sorted(known))}, not {arguments!r}.')
    return arguments


def _shards(arguments: Mapping[str, Any]) -> list[int] | None:
    """None is all, among them those left from a larger VIDEOS_SHARDS."""
    shards = arguments.get("shards")
    if shards is None:
        return None
    if not isinstance(shards, list) or not shards or not all(_is_shard(shard) for shard in shards):
        raise ValueError(f'"shards" must list numbers from 0 to {conf.SHARDS - 1}, not {shards!r}.')
    return sorted(set(shards))


def _is_shard(shard: object) -> bool:
    return isinstance(shard, int) and not isinstance(shard, bool) and 0 <= shard < conf.SHARDS


def _budget_seconds(context: Context) -> float:
    """Lambda's remaining time less the time for the current chunk, which may wait for row locks, and for the report."""
    remaining = context.get_remaining_time_in_millis() / 1000
    margin = ledger.TRIES * conf.FLUSH_LOCK_WAIT_SECONDS + REPORT_SECONDS
    return max(remaining - margin, remaining / 2)


def _lag_and_waiting() -> tuple[float | None, int | None]:
    """How far the rows are behind Redis, in seconds, and how many fields wait. None: a server is away."""
    try:
        status = flushing.read_status()
    except (CountersUnavailable, db.Error):
        return None, None  # the run reports the reason
    waiting = status.pending_fields + status.claimed_fields
    return status.last_finished_seconds if waiting else 0.0, waiting


def _full() -> int | None:
    """Whether Redis uses more than VIDEOS_ANONYMOUS_MEMORY_SHARE of its maxmemory. None: it is away."""
    try:
        return int(memory_share() > conf.ANONYMOUS_MEMORY_SHARE)
    except CountersUnavailable:
        return None


class _Log:
    """Lines of one invocation, on standard output, which Lambda sends to CloudWatch."""

    def __init__(self, context: Context) -> None:
        self.common = {
            "Function": os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "local"),
            "request": context.aws_request_id,
        }

    def write(self, event: str, **facts: Any) -> None:
        sys.stdout.write(json.dumps({"event": event, **self.common, **facts}) + "\n")
        sys.stdout.flush()

    def write_metrics(self, event: str, metrics: Mapping[str, float | None], **facts: Any) -> None:
        """Write one line with those metrics that are not None, in the form that CloudWatch reads."""
        known = {name: value for name, value in metrics.items() if value is not None}
        directive = {
            "Namespace": NAMESPACE,
            "Dimensions": [["Function"]],
            "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in known],
        }
        self.write(
            event, _aws={"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}, **known, **facts
        )
