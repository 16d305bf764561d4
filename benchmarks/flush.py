"""What a flush costs: everything changed, 1 % of 1,000,000 changed, and its memory."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.contenders import OURS, RECIPE, Contender, prepare
from benchmarks.results import Column, Result, Run, Table
from servers import PYTHON, Servers, StartFailed, call

CHANGED = 100_000
USERS = 30_000
MANY_VIDEOS = 1_000_000
MANY_FIELDS = 1_000_000
MEBIBYTE = 1024 * 1024
PIPELINE = 5_000

_COLUMNS = (
    Column("seconds", "seconds", "{:.2f}", spread=True),
    Column("per_second", "changes/s"),
)
TABLES = (
    Table("views", "flush of views on 100,000 videos", _COLUMNS),
    Table("likes", "flush of likes on 100,000 videos, one each", _COLUMNS),
    Table("one_percent", "1,000,000 videos, views on 10,000 of them", _COLUMNS),
    Table("memory", "flush of 1,000,000 pending fields", (*_COLUMNS, Column("peak_mb", "peak MiB"))),
)
LABELS = {
    "recipe": "recipe's loop, a commit for each key",
    "recipe_one": "recipe's loop, one transaction",
    "ours_one_video": "this service, all of it likes of one video",
}


def measure(run: Run) -> Result:
    """Each case in rounds; memory once."""
    result = Result("flush", "The flush")
    prepare(run.servers, [OURS, RECIPE])
    changed = run.size(CHANGED, 500)
    for kind in ("views", "likes"):
        _everything_changed(run, result, kind, changed)
    _one_percent(run, result, run.size(MANY_VIDEOS, 2_000))
    _memory(run, result, run.size(MANY_FIELDS, 5_000))
    judge(result, changed)
    return result


def judge(result: Result, changed: int) -> None:
    """The promises: against the recipe's loop as it stands, and against one that commits once."""
    for kind in ("views", "likes"):
        what = f"flush of {changed:,} changed {kind}, the time of the recipe's loop"
        result.claim(f"{what} over ours", result.ratios(kind, "recipe", "ours", "seconds"), 5)
        result.claim(f"{what} in one transaction over ours", result.ratios(kind, "recipe_one", "ours", "seconds"), 5)
    (recipe,) = result.series("one_percent", "recipe_one", "seconds")
    ratios = [recipe / seconds for seconds in result.series("one_percent", "ours", "seconds")]
    result.claim("flush when 1 % changed, the recipe's time over ours", ratios, 100)
    peak = result.series("memory", "ours", "peak_mb")
    result.claim("peak MiB of flushing 1,000,000 fields", peak, 400, at_least=False)


def _everything_changed(run: Run, result: Result, kind: str, changed: int) -> None:
    servers = run.servers

    def one(name: str, number: int) -> None:
        if name == "ours":
            OURS.fill(servers, users=USERS, videos=changed)
            gather(servers, videos=changed, users=USERS, **{kind: changed})
            _note(run, result, kind, name, number, changed, flush_ours(servers, kind, changed))
        else:
            RECIPE.fill(servers, users=10, videos=changed)
            set_recipe(servers, kind, range(1, changed + 1), 1)
            _note(run, result, kind, name, number, changed, flush_recipe(servers, changed, one=name == "recipe_one"))

    run.alternate(result, ["ours", "recipe_one", "recipe"], one)


def _one_percent(run: Run, result: Result, videos: int) -> None:
    """Every video has been counted before; since the last flush one in a hundred has changed."""
    servers, changed = run.servers, videos // 100
    RECIPE.fill(servers, users=10, videos=videos)
    set_recipe(servers, "views", range(1, videos + 1), 1)
    servers.sql("UPDATE recipe_video SET views = 1", database=RECIPE.database)  # as a flush would, but in seconds
    OURS.fill(servers, users=10, videos=videos)

    def one(name: str, number: int) -> None:
        if name == "ours":
            OURS.forget_counts(servers)
            gather(servers, videos=changed, views=changed)
            seconds = flush_ours(servers, "views", changed)
        else:
            set_recipe(servers, "views", range(number, videos + 1, 100), number + 1)
            seconds = flush_recipe(servers, videos, one=True)
        _note(run, result, "one_percent", name, number, changed, seconds)

    run.alternate(result, ["ours"], one)
    run.alternate(result, ["recipe_one"], one, at_most=1)  # four minutes


def _note(run: Run, result: Result, table: str, name: str, number: int, changed: int, seconds: float) -> None:
    result.add(table, name, number, seconds=seconds, per_second=changed / seconds)
    run.say(f"  {number} {table} {name}: {seconds:.2f} s")


def _memory(run: Run, result: Result, fields: int) -> None:
    """Half of the fields likes, half views, over a fifth as many videos; then as many likes as 500,000 on one video."""
    servers, videos = run.servers, fields // 5
    now = int(time.time())
    wish = b"1:%d" % (now * 1000)
    OURS.fill(servers, users=USERS, videos=videos)
    _put_pending(servers, [
        *((video, b"l:%d:%d" % (video, user), wish)
          for video in range(1, videos // 2 + 1) for user in range(1, 6)),
        *((video, b"v:%d:%d" % (video, now // 3600 - hour), b"3")
          for video in range(videos // 2 + 1, videos + 1) for hour in range(5)),
    ])  # fmt: skip
    _memory_of(run, result, "ours", fields)
    likes = fields // 2
    OURS.fill(servers, users=likes, videos=10)
    _put_pending(servers, [(1, b"l:1:%d" % user, wish) for user in range(1, likes + 1)])
    _memory_of(run, result, "ours_one_video", likes)


def _memory_of(run: Run, result: Result, name: str, fields: int) -> None:
    report, peak = flush_with_usage(run.servers)
    if report["applied"] != fields:
        raise StartFailed(f"Of {fields} fields {report['applied']} were applied: {report}")
    seconds = report["seconds"]
    result.add("memory", name, 1, seconds=seconds, per_second=fields / seconds, peak_mb=peak / MEBIBYTE)
    run.say(f"  memory {name}: {peak / MEBIBYTE:.0f} MiB, {seconds:.1f} s")


# What the cases are made of


def gather(servers: Servers, contender: Contender = OURS, /, **told: Any) -> None:
    """Let changes gather in the service's Redis."""
    call([PYTHON, "-m", "benchmarks.gather"], contender.environment(servers), input=json.dumps(told))


def flush_ours(servers: Servers, kind: str, changed: int | None) -> float:
    """Flush once; the seconds that it took, its process' start left out. All must have arrived (None: not counted)."""
    report = json.loads(OURS.flush(servers, "--json").splitlines()[-1])
    arrived = report["likes_added"] if kind == "likes" else report["views"]
    if changed not in {None, arrived} or not report["complete"] or report["failures"]:
        raise StartFailed(f"Of {changed} changed {kind} {arrived} arrived: {report}")
    return float(report["seconds"])


def set_recipe(servers: Servers, kind: str, videos: Sequence[int], value: int) -> None:
    """The recipe's keys of these videos, as its cache writes them."""
    prefix = {"views": "VIDEO_VIEW", "likes": "VIDEO_LIKE"}[kind]
    client = servers.redis_client(RECIPE.redis_db)
    for i in range(0, len(videos), PIPELINE):
        client.mset({f":1:{prefix}::{video}": value for video in videos[i : i + PIPELINE]})


def flush_recipe(servers: Servers, keys: int | None, *, one: bool) -> float:
    """Run the recipe's loop once; its seconds. It must have seen so many keys (None: not counted)."""
    told = json.loads(RECIPE.flush(servers, *(["--one-transaction"] if one else [])).splitlines()[-1])
    if keys not in {None, told["keys"]}:
        raise StartFailed(f"The recipe saw {told['keys']} keys of {keys}.")
    return float(told["seconds"])


def _put_pending(servers: Servers, fields: Sequence[tuple[int, bytes, bytes]]) -> None:
    """Pending fields as the scripts write them, straight into their shards: through the scripts it takes minutes."""
    client = servers.redis_client(OURS.redis_db)
    shards: dict[int, dict[bytes, bytes]] = {}
    for video, name, value in fields:
        shards.setdefault(video % 16, {})[name] = value
    for shard, held in shards.items():
        names = list(held)
        for i in range(0, len(names), PIPELINE):
            client.hset(f"{{videos:{shard}}}:pending", mapping={name: held[name] for name in names[i : i + PIPELINE]})


# A process of its own between: a child's `ru_maxrss` begins with the size of the process that it was forked from.
_WITH_USAGE = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True)
print(json.dumps({"said": done.stdout, "peak_kib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}))
sys.exit(done.returncode)
"""


def flush_with_usage(servers: Servers) -> tuple[dict[str, Any], int]:
    """Flush in a process of its own; what it reported, and its peak memory in bytes (`ru_maxrss`)."""
    command = OURS.manage_command(*OURS.flush_command, "--json")
    told = json.loads(call([PYTHON, "-c", _WITH_USAGE, *command], OURS.environment(servers)).stdout)
    return json.loads(told["said"].splitlines()[-1]), told["peak_kib"] * 1024
