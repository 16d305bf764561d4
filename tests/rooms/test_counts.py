"""Every count of COUNTS is known everywhere. A place that was forgotten when a count was added fails here, by name."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import redis
import yaml
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from tests.support.factories import make_admin, make_videos
from videos import counters, ledger, services
from videos.changes import COUNTS, HOUR_MS, CountName, Totals
from videos.counters.keys import keys_of
from videos.fields import MARK_LETTER
from videos.flush import run_flush
from videos.models import CountField, FlushBatch, Video, VideoHour

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

GHOSTS = CountName("ghosts", "tally", "g", "ghost_count")  # invented: no place knows it
PLACES = [
    *("field of Video", "Totals", "prime.lua"),
    *("pending hash to batch", "pending hash to hour", "pending hash to video"),
    *("confirm.lua", "resync.lua", "counts", "video", "schema of counts", "schema of video"),
    *("stats", "stats as CSV", "stats of an owner", "stats of the site", "schema of stats", "pending in stats"),
    *("admin of videos", "admin of hours", "admin of batches", "health", "metrics"),
]


def places_without(count: CountName, redis_client: redis.Redis) -> list[str]:
    """Move a change of this count from the pending hash to the rows; return the places that do not show it."""
    user = make_admin()
    (video_id,) = make_videos(1, user)
    keys, now_ms = keys_of(counters.shard_of(video_id)), counters.now_ms()
    places: dict[str, tuple[Mapping[str, Any], Any]] = {}  # what each place should hold, and what it holds

    services.record_view(event=services.ViewEvent(video_id, "a", bot=True))  # makes the video live, counts nothing
    primed = {count.name: "0"}
    places["prime.lua"] = primed, redis_client.hgetall(keys.live(video_id))

    if count.kind == "mark":
        gain, sums = 1, {f"{count.name}_added": 1, f"{count.name}_removed": 0}
        redis_client.hset(keys.pending, f"{MARK_LETTER}:{video_id}:{user.pk}", f"{count.value}:{now_ms}")
    else:
        gain, sums = 7, {count.name: 7}
        redis_client.hset(keys.pending, f"{count.letter}:{video_id}:{now_ms // HOUR_MS}", gain)
    redis_client.hset(keys.sums, f"{count.name}:{video_id}", gain)
    waiting = services.video_history(video_id=video_id, bounds=[now_ms // HOUR_MS - 1, now_ms // HOUR_MS + 2]).sums
    places["pending in stats"] = {count.name: gain}, dict(zip(Totals._fields, waiting, strict=False))
    run_flush()
    live, column = {count.name: str(gain)}, {count.column: gain}
    places["confirm.lua"] = live, redis_client.hgetall(keys.live(video_id))
    places["pending hash to video"] = column, Video.objects.values().get()
    places["pending hash to hour"] = {count.name: gain}, VideoHour.objects.values().first() or {}
    places["pending hash to batch"] = sums, FlushBatch.objects.values().get()

    redis_client.hset(keys.live(video_id), count.name, 99)
    ledger.note_stale([video_id])
    run_flush()
    places["resync.lua"] = live, redis_client.hgetall(keys.live(video_id))

    places["field of Video"] = {count.column: CountField}, {field.name: type(field) for field in Video._meta.fields}
    order = {name: place for place, name in enumerate(Totals._fields)}
    places["Totals"] = {count.name: COUNTS.index(count) if count in COUNTS else None}, order

    client = Client()
    places["video"] = column, client.get(f"/api/videos/{video_id}/").json()
    places["counts"] = column, client.get(f"/api/videos/counts/?ids={video_id}").json()[0]
    schema = yaml.safe_load(client.get("/api/schema/").content)
    for name, path in {"video": "/api/videos/{video}/", "counts": "/api/videos/counts/"}.items():
        described = properties(schema, schema["paths"][path]["get"]["responses"]["200"])
        places[f"schema of {name}"] = {count.column: True}, dict.fromkeys(described, True)
    places["health"] = sums, client.get("/health/ready").json()["flush"]["last_hour"]
    families = text_string_to_metric_families(client.get("/metrics").content.decode())
    samples = [sample for family in families for sample in family.samples if family.name == "videos_flush_last_hour"]
    places["metrics"] = sums, {sample.labels["sum"]: sample.value for sample in samples}

    stats, names = f"/api/videos/{video_id}/stats/", [count.name]
    described = properties(schema, schema["paths"]["/api/videos/{video}/stats/"]["get"]["responses"]["200"])
    places["schema of stats"] = dict.fromkeys(names, True), dict.fromkeys(described, True)
    head, *lines = client.get(f"{stats}?format=csv").content.decode().splitlines()
    numbers = map(sum, zip(*(map(int, line.split(",")[1:]) for line in lines), strict=True))
    places["stats as CSV"] = {count.name: gain}, dict(zip(head.split(",")[1:], numbers, strict=True))
    client.force_login(user)
    for name, path in {"": stats, " of an owner": "/api/me/stats/", " of the site": "/api/stats/"}.items():
        places[f"stats{name}"] = {count.name: gain}, client.get(path).json()["sums"]
    for name, page, column_name in (
        ("videos", "video", f"counted_{count.name}"),
        ("hours", "videohour", f"gained_{count.name}"),
        ("batches", "flushbatch", f"gained_{count.name}"),
    ):
        columns = client.get(f"/admin/videos/{page}/").context["cl"].list_display
        names = [getattr(one, "__name__", one) for one in columns]
        places[f"admin of {name}"] = {column_name: True}, dict.fromkeys(names, True)

    assert set(places) == set(PLACES)
    return [place for place in PLACES if not places[place][0].items() <= places[place][1].items()]


def properties(schema: Any, node: Any) -> Iterator[str]:
    """The names of all properties in a part of the schema, and in the components that it refers to."""
    if isinstance(node, dict):
        yield from node.get("properties", ())
        if "$ref" in node:
            yield from properties(schema, schema["components"]["schemas"][node["$ref"].rpartition("/")[2]])
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from properties(schema, item)


@pytest.mark.parametrize("count", COUNTS, ids=lambda count: count.name)
def test_every_place_knows_the_count(count: CountName, redis_client: redis.Redis) -> None:
    assert places_without(count, redis_client) == []


def test_a_count_that_no_place_knows_is_missing_in_every_place(redis_client: redis.Redis) -> None:
    assert places_without(GHOSTS, redis_client) == PLACES
