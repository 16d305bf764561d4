"""History over HTTP: sums that hold at every moment, CSV, an owner's and the site's overview, what trends."""

import csv
import io
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from tests.support.doors import Call
from tests.support.factories import allow, make_user, make_users, make_video, make_videos
from tests.support.faults import failing, install_ticks, redis_refusing
from videos import counters, ledger, services
from videos.changes import COUNTS, HOUR_MS, HOUR_SECONDS, Changes, TallyChange
from videos.counters import Batch, CountersUnavailable, waiting
from videos.counters.keys import keys_of
from videos.flush import run_flush
from videos.flush.culprits import Mover
from videos.models import Video, VideoHour

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

NAMES = [count.name for count in COUNTS]
HOURS = 200  # of history in these tests


def now_hour() -> int:
    return counters.now_ms() // HOUR_MS


def write_views(video_id: int, amounts: dict[int, int]) -> None:
    """Views of a video by hours ago, written to the rows."""
    now = now_hour()
    tallies = [TallyChange("views", now - ago, amount) for ago, amount in amounts.items()]
    ledger.write_direct({video_id: Changes(tallies=tallies)})


def of_rows(video_id: int, begin: int, end: int) -> list[int]:
    """The sums of a video's hour rows."""
    sums = [0] * len(NAMES)
    for hour, *gains in VideoHour.objects.filter(video=video_id).values_list("hour", *NAMES):
        if begin <= hour.timestamp() // HOUR_SECONDS < end:
            sums = [*map(sum, zip(sums, gains, strict=True))]
    return sums


class Load:
    """Random likes, unlikes and views of videos, at random times of the last days."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.videos, self.users = make_videos(3), make_users(4)
        self.likes: dict[tuple[int, int], bool] = {}
        self.views = dict.fromkeys(self.videos, 0)

    def act(self) -> None:
        choose = self.random
        video_id, at_ms = choose.choice(self.videos), counters.now_ms()
        if choose.random() < 0.5:
            user_id, liked = choose.choice(self.users), choose.random() < 0.6
            services.set_like(video_id=video_id, user_id=user_id, liked=liked)
            self.likes[video_id, user_id] = liked
        else:
            at_ms -= int(choose.random() * 160) * HOUR_MS
            event = services.ViewEvent(video_id, f"v{choose.random()}", watched=40, at_ms=at_ms)
            self.views[video_id] += services.record_views(events=[event]).counted

    def spans(self) -> list[list[int]]:
        """Spans of all that is there, and of a part."""
        end = now_hour() + 2
        parts = sorted(self.random.sample(range(end - HOURS, end), 5))
        return [[end - HOURS, end], parts]

    def seen(self, spans: list[list[int]]) -> dict[tuple[int, int], list[list[int]]]:
        return {
            (video_id, place): [step.gains for step in services.video_history(video_id=video_id, bounds=bounds).steps]
            for video_id in self.videos
            for place, bounds in enumerate(spans)
        }

    def check_totals(self, seen: dict[tuple[int, int], list[list[int]]]) -> None:
        for video_id in self.videos:
            likes = sum(liked for (on, _), liked in self.likes.items() if on == video_id)
            assert seen[video_id, 0][0][:2] == [likes, self.views[video_id]]


def die_at_confirm(patch: pytest.MonkeyPatch) -> None:
    """What was applied is not confirmed: rows and Redis have it."""
    patch.setattr(Batch, "confirm", failing(CountersUnavailable()))


def die_before_apply(patch: pytest.MonkeyPatch) -> None:
    """What was claimed is not applied."""
    patch.setattr(Mover, "move", failing(CountersUnavailable()))


def die_in_the_middle(patch: pytest.MonkeyPatch) -> None:
    """Of several chunks, one is applied."""
    confirm, calls = Batch.confirm, iter((True, False))

    def confirm_once(self: Any, *args: Any) -> Any:
        if next(calls, False):
            return confirm(self, *args)
        raise CountersUnavailable

    patch.setattr(Batch, "confirm", confirm_once)


def finish(patch: pytest.MonkeyPatch) -> None:
    """No fault."""


@pytest.mark.parametrize("seed", range(6))
def test_sums_equal_what_was_gained_also_between_the_steps_of_late_flushes(
    seed: int, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VIDEOS_FLUSH_CHUNK_FIELDS, settings.VIDEOS_SHARDS = 3, 16
    install_ticks(monkeypatch, first=-4 * HOUR_MS, step=41_000)  # so that likes are of several hours
    load = Load(seed)
    for _ in range(12):
        for _ in range(load.random.randrange(12)):
            load.act()
        fault = load.random.choice([finish, die_at_confirm, die_before_apply, die_in_the_middle])
        with monkeypatch.context() as patch:
            fault(patch)
            run_flush()
        spans = load.spans()
        seen = load.seen(spans)
        load.check_totals(seen)
        for _ in range(load.random.randrange(6)):
            load.act()
        seen = load.seen(spans)
        load.check_totals(seen)
        if load.random.random() < 0.3:
            run_flush()
            assert load.seen(spans) == seen
            for (video_id, place), steps in seen.items():
                bounds = spans[place]
                assert steps == [of_rows(video_id, begin, end) for begin, end in pairwise(bounds)]


def test_changes_of_a_locked_row_that_went_back_are_in_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    install_ticks(monkeypatch)
    load = Load(1)
    for _ in range(30):
        load.act()
    apply = ledger.apply
    monkeypatch.setattr(ledger, "apply", lambda batch, chunk, **_: apply(batch, chunk, postpone=True))
    monkeypatch.setattr("videos.flush.workers.POSTPONED_SECONDS", 0.0)
    assert run_flush().postponed == 3
    spans = load.spans()
    seen = load.seen(spans)
    load.check_totals(seen)
    for _ in range(10):
        load.act()
    seen = load.seen(spans)
    load.check_totals(seen)
    monkeypatch.undo()
    run_flush()
    assert load.seen(spans) == seen


@pytest.mark.parametrize(
    ("module", "name"),
    [(waiting, "_scan"), (ledger, "read_video_history"), (ledger, "read_owner_history")],
    ids=["between two scans", "before the rows", "before the rows of an owner"],
)
def test_a_flush_between_two_reads_is_noticed(module: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load, function, flushes = Load(2), getattr(module, name), iter([True])
    for _ in range(40):
        load.act()

    def flush_and_read(*args: Any) -> Any:
        if next(flushes, False):
            run_flush()
        return function(*args)

    monkeypatch.setattr(module, name, flush_and_read)
    bounds = load.spans()[0]
    if name == "read_owner_history":
        found = services.owner_history(owner_id=Video.objects.values_list("owner", flat=True)[0], bounds=bounds)
        assert {video_id: gains[1] for video_id, gains in found.by_video.items()} == load.views
    for video_id in load.videos:
        history = services.video_history(video_id=video_id, bounds=bounds)
        assert history.steps[0].gains == of_rows(video_id, *bounds)
    assert next(flushes, None) is None


def test_a_field_that_went_back_is_not_counted_beside_a_row_that_has_it(video: Video, redis_client: Any) -> None:
    """A database that was set back may have applied a batch to a row that had been postponed."""
    services.record_view(event=services.ViewEvent(video.pk, "a", watched=60))
    run_flush()
    number = Video.objects.get().flushed_batch
    keys = keys_of(counters.shard_of(video.pk))
    redis_client.hset(keys.pending, f"v:{video.pk}:{now_hour()}:{number}", 5)
    redis_client.hset(keys.pending, f"v:{video.pk}:{now_hour()}:{number + 1}", 3)
    redis_client.hset(keys.sums, f"views:{video.pk}", 8)
    history = services.video_history(video_id=video.pk, bounds=[now_hour() - 2, now_hour() + 1])
    assert history.sums[1] == 4


def test_while_redis_is_away_the_rows_are_shown_and_the_answer_says_so(call: Call, video: Video) -> None:
    write_views(video.pk, {0: 3})
    with redis_refusing():
        response = call("GET", f"/api/videos/{video.pk}/stats/")
    assert (response.json()["sums"]["views"], response.headers["X-Counts"]) == (3, "stored")


def test_too_much_that_waits_is_left_out_and_the_answer_says_so(
    call: Call, video: Video, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.record_view(event=services.ViewEvent(video.pk, "a", watched=60))
    assert call("GET", f"/api/videos/{video.pk}/stats/").json()["sums"]["views"] == 1
    monkeypatch.setattr(waiting, "MAX_SCANNED_FIELDS", 0)
    response = call("GET", f"/api/videos/{video.pk}/stats/")
    assert (response.json()["sums"]["views"], response.headers["X-Counts"]) == (0, "stored")


def test_steps_of_a_video(call: Call, video: Video, user: User) -> None:
    day = datetime(2026, 3, 1, tzinfo=UTC)
    hours = {int((day + timedelta(hours=hour)).timestamp()) // HOUR_SECONDS: 10**place for place, hour in
             enumerate((0, 14, 15, 24, 47))}  # fmt: skip
    ledger.write_direct({video.pk: Changes(tallies=[TallyChange("views", *pair) for pair in hours.items()])})
    path = f"/api/videos/{video.pk}/stats/?start=2026-03-01&end=2026-03-03"
    answer = call("GET", path).json()
    none = dict.fromkeys(NAMES, 0)
    assert answer | {"hours_since": ""} == {
        "step": "day",
        "tz": "UTC",
        "start": "2026-03-01T00:00:00Z",
        "end": "2026-03-03T00:00:00Z",
        "hours_since": "",
        "sums": none | {"views": 11111},
        "steps": [
            {"start": "2026-03-01T00:00:00Z", **none, "views": 111},
            {"start": "2026-03-02T00:00:00Z", **none, "views": 11000},
        ],
    }
    seoul = call("GET", f"{path}&tz=Asia/Seoul").json()  # from 15:00 of the day before, in UTC
    assert [(step["start"], step["views"]) for step in seoul["steps"]] == [
        ("2026-03-01T00:00:00+09:00", 11),
        ("2026-03-02T00:00:00+09:00", 1100),
    ]
    hour = call("GET", f"{path}&step=hour").json()
    assert len(hour["steps"]) == 48
    assert hour["sums"] == answer["sums"]
    month = call("GET", f"/api/videos/{video.pk}/stats/?step=month&start=2026-01-01&end=2026-05-01").json()
    assert [step["views"] for step in month["steps"]] == [0, 0, 11111, 0]


def test_merged_days_count_in_their_first_hour(call: Call, video: Video) -> None:
    day = datetime(2024, 3, 1, tzinfo=UTC)
    tallies = [TallyChange("views", int(day.timestamp()) // HOUR_SECONDS + hour, 1) for hour in (3, 9, 22)]
    ledger.write_direct({video.pk: Changes(tallies=tallies)})
    path = f"/api/videos/{video.pk}/stats/?start=2024-03-01&end=2024-03-03&step=hour"
    before = call("GET", path).json()
    ledger.prune(now=datetime.now(UTC))
    after = call("GET", path).json()
    assert [step["views"] for step in before["steps"] if step["views"]] == [1, 1, 1]
    assert after["steps"][0]["views"] == 3
    assert after["sums"] == before["sums"]
    kept = datetime.fromisoformat(after["hours_since"])
    assert timedelta(days=30) <= datetime.now(UTC) - kept < timedelta(days=31)


def test_csv_has_the_same_numbers(call: Call, video: Video) -> None:
    write_views(video.pk, {0: 2, 50: 3})
    path = f"/api/videos/{video.pk}/stats/?step=hour&start=2026-01-01T00:00&end=2026-01-03"
    for asked, accept in ((f"{path}&format=csv", "*/*"), (path, "text/csv")):
        response = call("GET", asked, accept=accept)
        lines = list(csv.reader(io.StringIO(response.content.decode())))
        assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert response.headers["Content-Disposition"] == f'attachment; filename="video-{video.pk}.csv"'
        assert lines[0] == ["start", *NAMES]
        steps = call("GET", path).json()["steps"]
        assert lines[1:] == [[step["start"], *(str(step[name]) for name in NAMES)] for step in steps]


@pytest.mark.parametrize(
    ("query", "name"),
    [("step=week", "step"), ("tz=nowhere", "tz"), ("start=x", "start"), ("end=x", "end"), ("format=xml", "format")],
)
def test_what_is_malformed_is_refused(call: Call, video: Video, query: str, name: str) -> None:
    response = call("GET", f"/api/videos/{video.pk}/stats/?{query}")
    assert (response.status_code, list(response.json()["errors"])) == (400, [name])
    assert response.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("video_id", [987654, 2**63, 0])
def test_no_such_video(call: Call, video_id: int) -> None:
    for query in ("", "?format=csv"):
        response = call("GET", f"/api/videos/{video_id}/stats/{query}")
        assert (response.status_code, response.headers["Content-Type"]) == (404, "application/json")


def test_reads_of_history_have_a_rate(call: Call, video: Video, settings: Any) -> None:
    settings.VIDEOS_THROTTLE_RATES = {"stats": "2/minute"}
    statuses = [call("GET", f"/api/videos/{video.pk}/stats/").status_code for _ in range(3)]
    assert statuses == [200, 200, 429]


def test_an_owner_sees_what_all_own_videos_gained(call: Call, owner: User, user: User) -> None:
    first, second, third, other = (make_video(who, title=f"t{i}") for i, who in enumerate([owner] * 3 + [user]))
    for video, amounts in ((first, {0: 1, 30: 20, 200: 5}), (second, {2: 40}), (other, {0: 99})):
        write_views(video.pk, amounts)
    run_flush()
    services.set_like(video_id=third.pk, user_id=user.pk, liked=True)
    services.record_view(event=services.ViewEvent(third.pk, "a", watched=40))
    end, start = now_hour() + 1, now_hour() - 119
    bounds = {name: datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y-%m-%dT%H:%M") for name, hour in
              (("start", start), ("end", end))}  # fmt: skip
    path = f"/api/me/stats/?start={bounds['start']}&end={bounds['end']}&step=hour"
    for _ in range(2):  # before the flush and after it
        answer = call("GET", path, user=owner).json()
        assert answer["sums"] == dict.fromkeys(NAMES, 0) | {"likes": 1, "views": 62, "watched": 40}
        assert answer["before"] == dict.fromkeys(NAMES, 0) | {"views": 5}
        assert [(one["id"], one["title"], one["views"]) for one in answer["top"]] == [
            (second.pk, "t1", 40),
            (first.pk, "t0", 21),
            (third.pk, "t2", 1),
        ]
        assert answer["steps"][-1]["likes"] == 1
        run_flush()
    liked = call("GET", f"{path}&by=likes", user=owner).json()
    assert [one["id"] for one in liked["top"]] == [third.pk]
    assert call("GET", f"{path}&by=owner", user=owner).status_code == 400
    assert call("GET", "/api/me/stats/", user=make_user("nobody")).json()["top"] == []
    lines = call("GET", f"{path}&format=csv", user=owner).content.decode().splitlines()
    assert len(lines) == 121


@pytest.mark.parametrize("fault", [finish, die_at_confirm, die_before_apply, die_in_the_middle])
@pytest.mark.parametrize("seed", range(3))
def test_an_owners_sums_hold_between_the_steps_of_a_flush(
    seed: int, fault: Callable[[pytest.MonkeyPatch], None], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VIDEOS_FLUSH_CHUNK_FIELDS = 3
    load = Load(seed)
    owner_id = Video.objects.values_list("owner", flat=True)[0]
    for _ in range(4):
        for _ in range(20):
            load.act()
        with monkeypatch.context() as patch:
            fault(patch)
            run_flush()
        load.act()
        end = now_hour() + 1
        found = services.owner_history(owner_id=owner_id, bounds=[end - HOURS, end])
        right = [sum(load.likes.values()), sum(load.views.values())]
        assert found.history.sums[:2] == right
        assert {video_id: gains[1] for video_id, gains in found.by_video.items()} == load.views


def test_an_owner_sees_the_rows_while_redis_is_away(call: Call, owner: User, video: Video) -> None:
    write_views(video.pk, {0: 3})
    with redis_refusing():
        response = call("GET", "/api/me/stats/", user=owner)
    assert (response.json()["sums"]["views"], response.headers["X-Counts"]) == (3, "stored")


def test_the_site_is_for_who_may_see_hours(call: Call, user: User) -> None:
    for video_id in make_videos(2):
        write_views(video_id, {0: 2, 2000: 5})
    assert call("GET", "/api/stats/").status_code == 401
    assert call("GET", "/api/stats/", user=user).status_code == 403
    allow(user, "view_videohour")
    answer = call("GET", "/api/stats/?step=month&start=2026-01-01", user=user).json()
    assert answer["sums"]["views"] == sum(step["views"] for step in answer["steps"])
    Video.objects.all().delete()
    again = call("GET", "/api/stats/?start=2026-11-01", user=user).json()
    assert again["sums"]["views"] >= 4
    start = (datetime.now(UTC) - timedelta(hours=1001)).strftime("%Y-%m-%dT%H:%M")
    period = call("GET", f"/api/stats/?step=day&start={start}", user=user).json()
    assert (period["sums"]["views"], period["before"]["views"]) == (4, 10)


def trending(call: Call, path: str) -> list[int]:
    """The ids of all pages."""
    found: list[int] = []
    url: str | None = path
    while url:
        page = call("GET", url.removeprefix("http://testserver")).json()
        found += [video["id"] for video in page["results"]]
        url = page["next"]
    return found


def test_what_trends_is_listed_in_the_order_of_its_scores(call: Call) -> None:
    fresh, lasting, old, _ = make_videos(4)
    write_views(fresh, {0: 50})
    write_views(lasting, dict.fromkeys(range(0, 144, 2), 10))
    write_views(old, {500: 100_000})
    assert trending(call, "/api/trending/") == [fresh, lasting, old]
    assert trending(call, "/api/trending/?window=week") == [lasting, fresh, old]
    assert trending(call, "/api/trending/?window=week&page_size=1") == [lasting, fresh, old]
    assert trending(call, "/api/videos/?ordering=trending&page_size=2") == [fresh, lasting, old]
    page = call("GET", "/api/videos/?ordering=trending&page_size=2").json()
    back = call("GET", call("GET", page["next"].removeprefix("http://testserver")).json()["previous"][17:]).json()
    assert back["results"] == page["results"]
    assert page["results"][0]["view_count"] == 50


def test_equal_scores_are_listed_once_each(call: Call) -> None:
    videos = make_videos(7)
    for video_id in videos:
        write_views(video_id, {3: 1})
    assert trending(call, "/api/trending/?page_size=2") == sorted(videos, reverse=True)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/trending/?window=month", "window"),
        ("/api/trending/?cursor=x", "cursor"),
        ("/api/videos/?ordering=-trending", "ordering"),
        ("/api/videos/?ordering=trending&search=kit", "ordering"),
    ],
)
def test_other_orders_are_refused(call: Call, path: str, name: str) -> None:
    response = call("GET", path)
    assert (response.status_code, list(response.json()["errors"])) == (400, [name])


def test_a_row_of_a_video_that_sql_deleted_is_left_out(call: Call) -> None:
    (video_id,) = make_videos(1)
    write_views(video_id, {0: 1})
    with connection.cursor() as cursor, suppress(StopIteration):
        cursor.execute("DELETE FROM videos_videohour")
        cursor.execute("DELETE FROM videos_stalelive")
        cursor.execute("DELETE FROM videos_videoword")
        cursor.execute("DELETE FROM videos_video")
    assert trending(call, "/api/trending/") == []
