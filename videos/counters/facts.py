"""Owners and durations in live keys: a flush compares them with the rows, because SQL by hand tells nobody."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from videos.changes import VideoFacts
from videos.counters import scripts
from videos.counters.connection import flush_calls
from videos.counters.keys import keys_of


def live_videos(shards: Iterable[int], at_once: int) -> Iterator[dict[int, list[int]]]:
    """Yield about `at_once` videos of each shard that may have a live key; a video may come twice."""
    cursors: dict[int, bytes | int] = dict.fromkeys(shards, 0)
    while cursors:
        scans = [("SSCAN", keys_of(shard).lives, cursor, "COUNT", at_once) for shard, cursor in cursors.items()]
        replies = dict(zip(cursors, flush_calls(scans), strict=True))
        found = {shard: [int(video_id) for video_id in names] for shard, (_, names) in replies.items() if names}
        if found:
            yield found
        cursors = {shard: cursor for shard, (cursor, _) in replies.items() if cursor not in {b"0", 0}}


def set_facts(found: Mapping[int, Sequence[int]], facts: Mapping[int, VideoFacts]) -> list[int]:
    """Write the owners and durations of these videos, by shard, to their live keys. Without `facts` one has no row.

    Returns the videos that have a live key and no row.
    """
    commands = [_facts_command(shard, video_ids, facts) for shard, video_ids in found.items()]
    return [int(video_id) for gone in flush_calls(commands) for video_id in gone]


def _facts_command(shard: int, video_ids: Sequence[int], facts: Mapping[int, VideoFacts]) -> tuple[Any, ...]:
    names = keys_of(shard)
    args: list[int | str] = []
    for video_id in video_ids:
        row = facts.get(video_id)
        args += (video_id, "", "") if row is None else (video_id, row.owner_id, row.duration)
    return scripts.FACTS.command([names.lives, *map(names.live, video_ids)], *args)
