import inspect
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import redis
from zappa.handler import LambdaHandler

from servers import RedisServer
from streaming import schedule
from tests.support.factories import like_all, make_likes, make_users, make_videos
from tests.support.memory import set_share
from tests.support.runtime_api import scheduled_event
from videos import flush
from videos.models import FlushBatch, Video, VideoLike

pytestmark = pytest.mark.django_db(transaction=True)

# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html
CLOUDWATCH_UNITS = {"Seconds", "Milliseconds", "Count", "Percent", "Bytes", "None"}


class Context:
    """Lambda's context, with a clock that stands still."""

    aws_request_id = "request-1"

    def __init__(self, seconds: float = 300) -> None:
        self.seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, Any]]]:
    """What was logged since the last look."""
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """With which arguments the flush was run; it runs."""
    calls: list[dict[str, Any]] = []
    run = flush.run_flush

    def spy(**kwargs: Any) -> Any:
        calls.append(kwargs)
        return run(**kwargs)

    monkeypatch.setattr(flush, "run_flush", spy)
    return calls


@pytest.mark.parametrize("function", [schedule.flush, schedule.reconcile])
def test_function_takes_event_and_context_and_nothing_else(function: Callable[..., Any]) -> None:
    parameters = inspect.signature(function).parameters.values()
    assert [(one.name, one.default, one.kind) for one in parameters] == [
        (name, inspect.Parameter.empty, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("event", "context")
    ]


def test_type_error_of_ours_runs_once_under_zappa_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fault(**_: Any) -> None:
        calls.append(1)
        raise TypeError("a fault of ours")

    monkeypatch.setattr(flush, "run_flush", fault)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        LambdaHandler.run_function(schedule.flush, scheduled_event(), Context())
    assert calls == [1]


def test_flush_returns_sums_that_json_takes(redis_client: redis.Redis) -> None:
    make_likes(3, 2)
    sums = schedule.flush(scheduled_event(), Context())
    assert json.loads(json.dumps(sums)) == sums
    assert (sums["likes_added"], sums["applied"], sums["complete"], sums["failures"]) == (6, 6, True, {})


@pytest.mark.parametrize(("seconds", "budget"), [(300, 300 - 13), (20, 10)])
def test_budget_leaves_time_for_a_chunk_that_waits_for_locks_or_half_of_it_all(
    seen: list[dict[str, Any]], seconds: int, budget: int
) -> None:
    schedule.flush(scheduled_event(), Context(seconds))
    assert seen[0]["max_seconds"] == budget


def test_event_names_its_shards() -> None:
    make_likes(16)
    schedule.flush(scheduled_event(shards=[0, 5]), Context())
    assert {video % 16 for video in VideoLike.objects.values_list("video_id", flat=True)} == {0, 5}


@pytest.mark.parametrize(
    "kwargs",
    [
        {"shards": []}, {"shards": [16]}, {"shards": [-1]}, {"shards": "0-7"}, {"shards": [True]}, {"shards": 3},
        {"shards": [1.0]}, {"shard": [1]}, {"shards": [0], "max_seconds": 3},
    ],
)  # fmt: skip
def test_flush_refuses_arguments_that_make_no_sense(kwargs: dict[str, Any], seen: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="shards"):
        schedule.flush(scheduled_event(**kwargs), Context())
    assert seen == []


@pytest.mark.parametrize("kwargs", [{"repair": "yes"}, {"after": -1}, {"after": "7"}, {"videos": [1]}, [1]])
def test_reconcile_refuses_arguments_that_make_no_sense(kwargs: Any) -> None:
    with pytest.raises(ValueError, match="repair"):
        schedule.reconcile(scheduled_event() | {"kwargs": kwargs}, Context())


def test_event_without_kwargs_flushes_all_shards() -> None:
    make_likes(32)
    sums = schedule.flush({"command": "streaming.schedule.flush"}, Context())
    assert sums["likes_added"] == 32


def test_failed_shard_fails_the_invocation_and_is_in_the_log(
    own_redis: RedisServer, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    own_redis.kill()
    with pytest.raises(schedule.FlushFailed, match="CountersUnavailable"):
        schedule.flush(scheduled_event(), Context())
    (line,) = lines()
    assert line["Failures"] == 16
    assert "Lag" not in line  # nobody can tell


def test_run_writes_a_line_a_batch_and_one_of_metrics(lines: Callable[[], list[dict[str, Any]]]) -> None:
    videos, _ = make_likes(2, 3)
    schedule.flush(scheduled_event(), Context())
    *batches, run = lines()
    assert {(line["shard"], line["applied"], line["rewound"]) for line in batches} == {
        (video % 16, 3, False) for video in videos
    }
    assert (run["event"], run["request"], run["Moved"], run["Duration"] > 0) == ("flush", "request-1", 6, True)


def test_metrics_are_in_the_embedded_format(lines: Callable[[], list[dict[str, Any]]]) -> None:
    schedule.flush(scheduled_event(), Context())
    (line,) = lines()
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert set(line["_aws"]) == {"Timestamp", "CloudWatchMetrics"}
    assert len(str(line["_aws"]["Timestamp"])) == 13  # milliseconds
    assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
    assert all(isinstance(line[name], str) for names in directive["Dimensions"] for name in names)
    assert all(re.fullmatch(r"[A-Z][a-z]+", metric["Name"]) for metric in directive["Metrics"])
    assert {metric["Unit"] for metric in directive["Metrics"]} <= CLOUDWATCH_UNITS
    assert all(isinstance(line[metric["Name"]], int | float) for metric in directive["Metrics"])
    assert {"Lag", "Moved", "Dropped", "Rejected", "Rewound", "Duration"} <= {
        metric["Name"] for metric in directive["Metrics"]
    }


def test_lag_is_the_age_of_the_last_flush_while_something_waits(lines: Callable[[], list[dict[str, Any]]]) -> None:
    schedule.flush(scheduled_event(), Context())
    assert lines()[-1]["Lag"] == 0
    make_likes(1, 2)
    schedule.flush(scheduled_event(), Context())
    assert 0 < lines()[-1]["Lag"] < 60


def test_emptied_redis_is_told_as_rewound(redis_client: redis.Redis, lines: Callable[[], list[dict[str, Any]]]) -> None:
    videos, _ = make_likes()
    schedule.flush(scheduled_event(), Context())
    redis_client.flushdb()
    like_all(videos, make_users(1, prefix="other"))
    schedule.flush(scheduled_event(), Context())
    assert lines()[-1]["Rewound"] == 1
    assert FlushBatch.objects.filter(rewound=True).count() == 1


def test_dropped_and_rejected_fields_are_told(
    redis_client: redis.Redis, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    videos, _ = make_likes(2)
    Video.objects.filter(pk=videos[0])._raw_delete("default")
    redis_client.hset(f"{{videos:{videos[1] % 16}}}:pending", "nonsense", "x")
    schedule.flush(scheduled_event(), Context())
    run = lines()[-1]
    assert (run["Moved"], run["Dropped"], run["Rejected"]) == (1, 1, 1)


def test_run_out_of_time_says_so_and_what_still_waits(lines: Callable[[], list[dict[str, Any]]]) -> None:
    make_likes(20, 2)
    sums = schedule.flush(scheduled_event(), Context(0))
    run = lines()[-1]
    assert sums["complete"] is False
    assert run["Incomplete"] == 1
    assert (run["Moved"] > 0, run["Moved"] + run["Waiting"]) == (True, 40)


def test_reconcile_tells_by_default_and_repairs_when_asked() -> None:
    videos, _ = make_likes(2, 2)
    schedule.flush(scheduled_event(), Context())
    Video.objects.filter(pk=videos[1]).update(like_count=7)
    told = schedule.reconcile(scheduled_event(), Context())
    assert (told["different"], told["repaired"], Video.objects.get(pk=videos[1]).like_count) == (1, 0, 7)
    repaired = schedule.reconcile(scheduled_event(repair=True), Context())
    assert (repaired["repaired"], Video.objects.get(pk=videos[1]).like_count) == (1, 2)


def test_reconcile_out_of_time_says_where_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "RECONCILE_VIDEOS", 2)
    videos = sorted(make_videos(5))
    first = schedule.reconcile(scheduled_event(), Context(0))
    assert (first["complete"], first["after"], first["videos"]) == (False, videos[1], 2)
    rest = schedule.reconcile(scheduled_event(after=first["after"]), Context())
    assert (rest["complete"], rest["videos"]) == (True, 3)


@pytest.mark.parametrize(("share", "full"), [(0.8, 1), (0.5, 0)])
def test_a_run_tells_whether_redis_is_nearly_full(
    own_redis: RedisServer, lines: Callable[[], list[dict[str, Any]]], share: float, full: int
) -> None:
    set_share(own_redis, share)
    schedule.flush(scheduled_event(), Context())
    assert lines()[-1]["Full"] == full
