"""Owners and durations in live keys: a flush compares them with the rows, because SQL by hand tells nobody."""

from collections.abc import Iterator, Mapping, Sequence

from videos.changes import VideoFacts
from videos.counters import scripts
from videos.counters.connection import flush_call
from videos.counters.keys import keys_of


def live_videos(shard: int, at_once: int) -> Iterator[list[int]]:
    """Yield lists of about `at_once` videos of a shard that may have a live key; a video may come twice."""
    cursor: bytes | int = 0
    while True:
        cursor, found = flush_call("SSCAN", keys_of(shard).lives, cursor, "COUNT", at_once)
        if found:
            yield [int(video_id) for video_id in found]
        if cursor in {b"0", 0}:
            return


def set_facts(shard: int, video_ids: Sequence[int], facts: Mapping[int, VideoFacts]) -> list[int]:
    """Write the owners and durations of these videos to their live keys. A video without `facts` has no row.

    Returns the videos that have a live key and no row.
    """
    names = keys_of(shard)
    args: list[int | str] = []
    for video_id in video_ids:
        row = facts.get(video_id)
        args += (video_id, "", "") if row is None else (video_id, row.owner_id, row.duration)
    script = scripts.FACTS.command([names.lives, *map(names.live, video_ids)], *args)
    gone: list[int] = flush_call(*script)
    return gone
