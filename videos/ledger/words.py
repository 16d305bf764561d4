"""Keeps the words of videos (VideoWord) in step with their titles and descriptions."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from videos.ledger.retry import again
from videos.ledger.sql import listed, parts
from videos.ledger.writer import atomic, connection
from videos.words import words_of

PART_VIDEOS: Final = 200  # rows locked at a time
_TEXTS: Final = "SELECT id, title, description FROM videos_video"
_INSERT: Final = {
    "mysql": "INSERT IGNORE INTO videos_videoword (word, video_id) VALUES (%s, %s)",
    "sqlite": "INSERT OR IGNORE INTO videos_videoword (word, video_id) VALUES (%s, %s)",
}


def index_videos(video_ids: Iterable[int]) -> int:
    """Write the words of these videos anew; returns how many videos had others."""
    changed = 0
    for part in parts(sorted(set(video_ids)), PART_VIDEOS):
        ids = listed(part)
        changed += again(partial(_index, f"id IN ({ids})", f"video_id IN ({ids})"))
    return changed


def index_range(after: int, last: int | None) -> int:
    """The same for all videos of ids above `after` up to `last`, and for rows of words whose video is gone."""
    until = "" if last is None else f" AND {{}} <= {int(last)}"
    condition = f"{{}} > {int(after)}{until}"
    return again(partial(_index, condition.replace("{}", "id"), condition.replace("{}", "video_id")))


def _index(of_video: str, of_word: str) -> int:
    """Compare the words of some videos with their texts, under the locks of their rows, and write the difference."""
    with atomic():
        lock = "FOR UPDATE" if connection.features.has_select_for_update else ""
        texts = _rows(f"{_TEXTS} WHERE {of_video} ORDER BY id {lock}")
        stored: dict[int, set[str]] = {}
        for video_id, word in _rows(f"SELECT video_id, word FROM videos_videoword WHERE {of_word}"):
            stored.setdefault(video_id, set()).add(word)
        wanted = {video_id: set(words_of(*text)) for video_id, *text in texts}
        none: set[str] = set()
        lost = {video_id: words - wanted.get(video_id, none) for video_id, words in stored.items()}
        new = {video_id: words - stored.get(video_id, none) for video_id, words in wanted.items()}
        _write(lost, new)
    return len({video_id for changes in (lost, new) for video_id, words in changes.items() if words})


def _write(lost: Mapping[int, set[str]], new: Mapping[int, set[str]]) -> None:
    rows = sorted((word, video_id) for video_id, words in new.items() for word in words)
    with connection.cursor() as cursor:
        for video_id, words in lost.items():
            if words:
                places = ", ".join(["%s"] * len(words))
                cursor.execute(
                    f"DELETE FROM videos_videoword WHERE video_id = %s AND word IN ({places})",
                    [video_id, *sorted(words)],
                )
        if rows:
            cursor.executemany(_INSERT[connection.vendor], rows)


def _rows(statement: str) -> Sequence[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        rows: Sequence[tuple[Any, ...]] = cursor.fetchall()
    return rows
