"""The function's zip as Lambda runs it: frozen between events, killed at its deadline, on real databases.

Over 250 lines: all tests run the same unpacked zip, and judge it by the same rows.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from django.db import connection, connections
from moto.cloudformation.models import Stack

from deploy import aws as deployment
from servers import MariaDBServer, RedisServer, wait_until
from tests.support.factories import like_all, make_users, make_videos
from tests.support.load import Load
from tests.support.runtime_api import LambdaFunction, make_image, scheduled_event
from videos import services
from videos.flush import read_status, reconcile
from videos.models import FlushBatch, Video, VideoLike

# Lambda has no SQLite file to share.
pytestmark = [pytest.mark.slow, pytest.mark.only("mariadb", "mysql"), pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What AWS's runtime has beside the zip."""
    return make_image(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def amazon() -> Iterator[HTTPServer]:
    """Whatever the function asks of AWS would come here."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_error(403)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    asked: list[str] = []
    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
    assert asked == []  # the function's policy grants it nothing


@pytest.fixture
def make_function(
    service_env: dict[str, str], task: Path, image: Path, amazon: HTTPServer, tmp_path: Path
) -> Iterator[Callable[..., LambdaFunction]]:
    """`make_function(DATABASE_URL=...)` is one more place where the function runs, with the settings of the stage."""
    made: list[LambdaFunction] = []

    def make(**environment: str) -> LambdaFunction:
        values = {name: service_env[name] for name in ("SECRET_KEY", "DATABASE_URL", "REDIS_URL")} | environment
        stage = deployment.read_stage("production").settings["aws_environment_variables"]
        variables = {name: values.get(name, value) for name, value in stage.items()} | environment
        variables["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{amazon.server_address[1]}"
        # Each start would compile the zip's code again. So it is kept, outside of the task folder, which is read-only.
        variables |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": f"{task}-bytecode"}
        made.append(LambdaFunction(task, image, tmp_path, environment=variables))
        return made[-1]

    yield make
    for function in made:
        function.close()


@pytest.fixture
def function(make_function: Callable[..., LambdaFunction]) -> LambdaFunction:
    """The function, not started yet."""
    return make_function()


def gather(videos: list[int], users: list[int]) -> None:
    """Every user likes, and watches, every video."""
    like_all(videos, users)
    for video in videos:
        services.record_views(events=[services.ViewEvent(video, viewer=f"viewer-{user}") for user in users])


@contextlib.contextmanager
def locked(*values: int, table: str = "videos_video", key: str = "id") -> Iterator[None]:
    """Hold rows. A run leaves a locked video to later, but waits for a locked meeting, with its batch claimed."""
    other = connections.create_connection("default")
    other.set_autocommit(False)
    try:
        with other.cursor() as cursor:
            cursor.execute(f"SELECT id FROM {table} WHERE {key} IN %s FOR UPDATE", [values])  # noqa: S608
        yield
    finally:
        other.close()


def counts() -> list[tuple[int, int, int]]:
    """Likes, like rows and views, of all videos."""
    return [
        (video.like_count, VideoLike.objects.filter(video=video).count(), video.view_count)
        for video in Video.objects.order_by("id")
    ]


@pytest.mark.database
def test_scheduled_event_moves_what_has_gathered(function: LambdaFunction) -> None:
    videos, users = make_videos(5), make_users(4)
    gather(videos, users)
    outcome = function.invoke(scheduled_event())
    assert outcome.error is None, outcome.log
    assert counts() == [(4, 4, 4)] * 5
    assert (outcome.payload["likes_added"], outcome.payload["views"], outcome.payload["failures"]) == (20, 20, {})


def test_warm_function_moves_what_gathered_since_and_an_event_delivered_twice_counts_once(
    function: LambdaFunction,
) -> None:
    videos, event = make_videos(3), scheduled_event()
    first = function.invoke(event)
    gather(videos, make_users(3))
    later = [function.invoke(event), function.invoke(event)]
    gather(videos, make_users(1, prefix="more"))
    later.append(function.invoke({"command": "streaming.schedule.flush"}))  # zappa invoke production ...
    assert [outcome.cold for outcome in (first, *later)] == [True, False, False, False]
    assert [outcome.payload["likes_added"] for outcome in (first, *later)] == [0, 9, 0, 3]
    assert counts() == [(4, 4, 4)] * 3


@pytest.mark.database
def test_concurrent_invocations_under_load_are_exact(make_function: Callable[..., LambdaFunction]) -> None:
    functions = [make_function(), make_function()]
    with Load(make_videos(30), make_users(40), rest=0.001) as load, ThreadPoolExecutor(2) as pool:
        for _ in range(4):
            outcomes = [future.result() for future in [pool.submit(f.invoke, scheduled_event()) for f in functions]]
            assert [outcome.error for outcome in outcomes] == [None, None], [outcome.log for outcome in outcomes]
    assert functions[0].invoke(scheduled_event()).error is None
    load.check()


@pytest.mark.database
def test_run_that_is_killed_at_its_deadline_in_the_middle_is_finished_by_the_next(function: LambdaFunction) -> None:
    videos, users = make_videos(32), make_users(3)
    gather(videos, users)
    function.invoke(scheduled_event())
    gather(videos, make_users(4, prefix="more"))
    with locked(videos[7] % 16, table="videos_meeting", key="shard"):
        killed = function.invoke(scheduled_event(), timeout_seconds=4)
        assert killed.timed_out
    claimed = read_status().claimed_fields
    moved = VideoLike.objects.count() - 32 * 3
    finished = function.invoke(scheduled_event())
    assert claimed > 0
    assert moved < 32 * 4
    assert (finished.cold, finished.error) == (True, None)
    assert counts() == [(7, 7, 7)] * 32
    assert reconcile().differences == []


def test_runs_that_are_killed_anywhere_leave_every_number_exact(function: LambdaFunction) -> None:
    with Load(make_videos(40), make_users(60), threads=2, rest=0.0005) as load:
        for deadline in (0.03, 0.06, 0.1, 0.15):
            function.invoke(scheduled_event())
            time.sleep(0.5)
            function.invoke(scheduled_event(), timeout_seconds=deadline)
    assert function.invoke(scheduled_event()).error is None
    load.check()


def test_run_ends_by_itself_before_its_deadline_and_the_next_goes_on(function: LambdaFunction) -> None:
    videos = make_videos(64)
    gather(videos, make_users(5))
    with ThreadPoolExecutor(1) as pool:
        with locked(*videos[:16]):  # one in each shard: the run begins anywhere
            running = pool.submit(function.invoke, scheduled_event(), timeout_seconds=8)
            wait_until(lambda: read_status().claimed_fields > 0, what="the run is in the middle")
            time.sleep(4.5)  # more than half of its time, which is its budget
        early = running.result()
    assert (early.timed_out, early.payload["complete"]) == (False, False)
    assert early.lines[-1]["Incomplete"] == 1
    later = function.invoke(scheduled_event())
    assert later.payload["complete"]
    assert counts() == [(5, 5, 5)] * 64


def test_next_minutes_run_beside_one_that_takes_longer_is_exact(make_function: Callable[..., LambdaFunction]) -> None:
    slow, next_one = make_function(), make_function()
    videos, users, late = make_videos(32), make_users(3), make_users(2, prefix="late")
    gather(videos, users)
    with ThreadPoolExecutor(1) as pool:
        with locked(videos[3]):
            running = pool.submit(slow.invoke, scheduled_event())
            wait_until(lambda: read_status().claimed_fields > 0, what="the run is in the middle")
            gather(videos[8:], late)
            beside = next_one.invoke(scheduled_event(shards=[n for n in range(16) if n != videos[3] % 16]))
        assert beside.error is None, beside.log
        assert running.result().error is None, running.result().log
    assert next_one.invoke(scheduled_event()).error is None
    assert sorted(counts()) == sorted([(3, 3, 3)] * 8 + [(5, 5, 5)] * 24)


def test_events_that_share_the_shards_move_everything_once(make_function: Callable[..., LambdaFunction]) -> None:
    gather(make_videos(32), make_users(3))
    events = [scheduled_event(shards=list(range(8))), scheduled_event(shards=list(range(8, 16)))]
    functions = [make_function(), make_function()]
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(LambdaFunction.invoke, functions, events))
    assert sorted(outcome.payload["likes_added"] for outcome in outcomes) == [48, 48]
    assert counts() == [(3, 3, 3)] * 32


def test_away_database_fails_the_invocation_and_the_next_is_exact(
    make_function: Callable[..., LambdaFunction], own_database: MariaDBServer
) -> None:
    function = make_function(DATABASE_URL=own_database.url)
    videos, users = make_videos(16), make_users(5)
    gather(videos, users)
    assert function.invoke(scheduled_event()).error is None
    gather(videos, make_users(3, prefix="more"))
    connection.close()
    own_database.kill()
    failed = function.invoke(scheduled_event())
    own_database.restart()
    assert failed.error is not None
    assert failed.error["errorType"] == "FlushFailed"
    assert failed.lines[-1]["Failures"] == 16
    assert failed.log.count("Shard 5 failed") == 1
    recovered = function.invoke(scheduled_event())
    assert (recovered.cold, recovered.error) == (False, None), recovered.log
    assert counts() == [(8, 8, 8)] * 16


@pytest.mark.database
def test_database_that_dies_during_the_run_leaves_every_number_exact(
    make_function: Callable[..., LambdaFunction], own_database: MariaDBServer
) -> None:
    function = make_function(DATABASE_URL=own_database.url)
    videos = make_videos(32)
    function.invoke(scheduled_event())
    gather(videos, make_users(4))
    with ThreadPoolExecutor(1) as pool, locked(videos[9]):
        running = pool.submit(function.invoke, scheduled_event())
        wait_until(lambda: read_status().claimed_fields > 0, what="the run is in the middle")
        own_database.kill()
        assert running.result().error is not None
    connection.close()
    own_database.restart()
    assert function.invoke(scheduled_event()).error is None
    assert counts() == [(4, 4, 4)] * 32
    assert reconcile().differences == []


def test_redis_that_restarts_while_the_function_is_frozen_is_found_again_and_an_away_one_fails_the_invocation(
    make_function: Callable[..., LambdaFunction], own_redis: RedisServer
) -> None:
    function = make_function(REDIS_URL=own_redis.url)
    videos = make_videos(4)
    gather(videos, make_users(3))
    function.invoke(scheduled_event())
    gather(videos, make_users(2, prefix="more"))
    own_redis.kill()
    own_redis.restart()
    outcome = function.invoke(scheduled_event())
    assert (outcome.cold, outcome.error) == (False, None), outcome.log
    assert counts() == [(5, 5, 5)] * 4
    gather(videos, make_users(1, prefix="late"))
    own_redis.kill()
    failed = function.invoke(scheduled_event())
    own_redis.restart()
    assert failed.error is not None
    assert failed.error["errorType"] == "FlushFailed"
    assert function.invoke(scheduled_event()).error is None
    assert counts() == [(6, 6, 6)] * 4


def test_each_batch_has_a_line_in_the_log(function: LambdaFunction) -> None:
    gather(make_videos(8), make_users(2))
    lines = [line for line in function.invoke(scheduled_event()).lines if line["event"] == "batch"]
    assert sorted((line["shard"], line["number"], line["applied"]) for line in lines) == sorted(
        FlushBatch.objects.values_list("shard", "number", "applied")
    )


def test_metrics_are_what_the_alarms_watch(function: LambdaFunction) -> None:
    videos = make_videos(2)
    function.invoke(scheduled_event())
    gather(videos, make_users(2))
    line = function.invoke(scheduled_event()).lines[-1]
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    written = {metric["Name"] for metric in directive["Metrics"]}
    template = Stack.parse_template(deployment.TEMPLATE.read_text())
    watched = [
        resource["Properties"]
        for resource in template["Resources"].values()
        if resource["Properties"].get("Namespace") == directive["Namespace"]
    ]
    assert {alarm["MetricName"] for alarm in watched} == {
        "Duration",
        "Lag",
        "Incomplete",
        "Rewound",
        "Rejected",
        "Full",
    }
    assert {alarm["MetricName"] for alarm in watched} <= written
    assert directive["Dimensions"] == [["Function"]]
    assert all(alarm["Dimensions"] == [{"Name": "Function", "Value": {"Ref": "Function"}}] for alarm in watched)
    assert line["Function"] == deployment.read_stage("production").function
    assert [line[name] for name in ("Moved", "Dropped", "Rejected", "Rewound", "Full")] == [6, 0, 0, 0, 0]


def test_reconcile_repairs_what_was_done_by_hand(function: LambdaFunction) -> None:
    videos, users = make_videos(3), make_users(2)
    gather(videos, users)
    function.invoke(scheduled_event())
    Video.objects.filter(pk=videos[0]).update(like_count=99)
    event = scheduled_event(repair=True)
    event["resources"] = [
        event["resources"][0].replace("flush-streaming.schedule.flush", "streaming.schedule.reconcile")
    ]
    outcome = function.invoke(event)
    assert (outcome.payload["different"], outcome.payload["repaired"], outcome.payload["complete"]) == (1, 1, True)
    assert counts() == [(2, 2, 2)] * 3


def test_wrong_arguments_fail_and_say_what_is_expected(function: LambdaFunction) -> None:
    outcome = function.invoke(scheduled_event(shards=[16]))
    assert outcome.error is not None
    assert outcome.error["errorType"] == "ValueError"
    assert "0 to 15" in outcome.error["errorMessage"]


@pytest.mark.database
def test_first_migration_runs_from_the_zip(
    make_function: Callable[..., LambdaFunction], private_database: MariaDBServer
) -> None:
    function = make_function(DATABASE_URL=private_database.url)
    outcome = function.invoke({"manage": "migrate --verbosity 0"})  # zappa manage production migrate
    assert outcome.error is None, outcome.log
    assert private_database.query("SELECT COUNT(*) FROM videos_video", database="streaming") == [(0,)]
    assert function.invoke(scheduled_event()).error is None


def test_web_service_answers_a_request_of_the_gateway(make_function: Callable[..., LambdaFunction]) -> None:
    variables = deployment.read_stage("production_api").settings["aws_environment_variables"]
    fixed = {name: value for name, value in variables.items() if not value.startswith("$")}
    function = make_function(ALLOWED_HOSTS=".amazonaws.com", **fixed)
    videos = make_videos(2)
    headers = {"Host": "a1b2.execute-api.eu-central-1.amazonaws.com", "X-Forwarded-Proto": "https"}
    headers |= {"X-Forwarded-For": "203.0.113.7", "Content-Type": "application/json"}
    headers |= {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
    request = {
        "httpMethod": "POST", "path": f"/api/videos/{videos[0]}/view/", "headers": headers, "body": "{}",
        "multiValueHeaders": {name: [value] for name, value in headers.items()}, "queryStringParameters": None,
        "requestContext": {"stage": "production", "identity": {}}, "isBase64Encoded": False,
    }  # fmt: skip
    viewed = function.invoke(request)
    assert json.loads(viewed.payload["body"])["counted"], viewed.payload
    page = function.invoke(request | {"httpMethod": "GET", "path": "/api/videos/", "body": None})
    shown = {video["id"]: video["view_count"] for video in json.loads(page.payload["body"])["results"]}
    assert shown == {videos[0]: 1, videos[1]: 0}
