"""Writes outside a batch: each leaves a note, and the flush settles it.

A note (`StaleLive`) says that a video's rows changed without Redis. The flush skips pending wishes that are older than
the note, and between batches it sets the video's live totals from the rows.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from django.db import OperationalError
from django.db.models import Count, F

from videos.changes import HOUR_MS, MARK_PLACES, Changes, MarkChange, StaleVideo, zeros
from videos.ledger import sql
from videos.ledger.batches import Outcome, take_in
from videos.ledger.forgotten import note_forgotten
from videos.ledger.history import add_gains
from videos.ledger.reads import read_facts
from videos.ledger.retry import again, is_lock_timeout
from videos.ledger.sql import STATEMENT_ROWS, parts
from videos.ledger.writer import atomic, in_transaction, rows
from videos.models import StaleLive, VideoLike

SETTLE_NOTES: Final = 500  # of one transaction and one call to Redis


def write_direct(changes: Mapping[int, Changes]) -> dict[int, Outcome]:
    """Write changes to the rows while Redis is away. Leaves a note for each mark, and one for a video's tallies.

    Within a transaction of the caller, the changes and their notes are committed or rolled back with it.
    """
    nested = in_transaction()

    def write() -> dict[int, Outcome]:
        with atomic():
            outcomes, _ = take_in(changes, None, look_for_users=True, old_snapshot=nested)
            there = {video_id: change for video_id, change in changes.items() if outcomes[video_id].totals is not None}
            # One note is enough for all tallies of a video: the row is locked here, so it is not settled meanwhile.
            tallied = [video_id for video_id, change in there.items() if change.tallies]
            noted = {
                video_id
                for part in parts(tallied)
                for video_id in rows(StaleLive).filter(video_id__in=part).values_list("video_id", flat=True).distinct()
            }
            leave_notes(StaleLive(video_id=video_id) for video_id in tallied if video_id not in noted)
            leave_notes(
                StaleLive(video_id=video_id, user=mark.user_id, written_ms=mark.at_ms)
                for video_id, change in there.items()
                for mark in change.marks
                if mark.user_id not in outcomes[video_id].dropped
            )
        return outcomes

    return again(write)


def forget_user(user_id: int, *, at_ms: int) -> None:
    """Remove a user's marks from rows and totals, in the transaction that deletes the user."""
    with atomic():
        marked = rows(VideoLike).filter(user_id=user_id).order_by("video_id")
        locked = sql.lock_videos(list(marked.values_list("video_id", flat=True)))
        sql.lock_users([user_id])  # a flush that inserts such a like waits for this lock; then its foreign key fails
        # A locking read: the transaction of the caller may read from an older snapshot.
        values = dict(marked.select_for_update().values_list("video_id", "value"))
        rows(VideoLike).filter(user_id=user_id).delete()
        for part in parts(values):
            gains, hours = {}, {}
            for video_id in part:
                value, loss = values[video_id], zeros()
                place = MARK_PLACES[value]
                loss[place] = -1
                gains[video_id] = hours[video_id, at_ms // HOUR_MS] = loss
                stored = locked[video_id].totals[place] if video_id in locked else 1
                if stored < 1:  # the mark was made outside the service: the row does not count it
                    gains[video_id] = zeros()
                    gains[video_id][place] = sql.count_marks(video_id, value) - stored
            sql.add_counts(gains, None)
            add_gains(hours)
        leave_notes(StaleLive(video_id=video_id, user=user_id, written_ms=at_ms) for video_id in values)
        note_forgotten(user_id)


def forget_video(video_id: int) -> None:
    """Lock a video and leave a note, in the transaction that deletes it."""
    with atomic():
        sql.lock_videos([video_id])  # before its like rows, in the order of the flush
        note_stale([video_id])


def note_stale(video_ids: Iterable[int]) -> None:
    """Leave notes: the rows of these videos changed, so their live keys must be set again."""
    leave_notes(StaleLive(video_id=video_id) for video_id in video_ids)


def note_edit(video_id: int, *, at_ms: int) -> None:
    """Leave a note: this video was edited, which changes nobody's mark."""
    leave_notes([StaleLive(video_id=video_id, written_ms=at_ms)])


def note_like(video_id: int, user_id: int, *, at_ms: int) -> None:
    """Leave a note: this like was written to the rows, or removed, so what Redis knows of it must be set again."""
    leave_notes([StaleLive(video_id=video_id, user=user_id, written_ms=at_ms)])


class Settled(NamedTuple):
    """What one transaction settled."""

    videos: int
    notes: int
    refused: bool  # for one of the videos, `set_live` did nothing
    more: bool  # the videos may have more notes


def note_total() -> int:
    """How many notes there are."""
    return rows(StaleLive).count()


def shards_with_notes(shards: int) -> set[int]:
    """The shards that have notes."""
    notes = rows(StaleLive).annotate(shard=F("video_id") % shards).order_by()
    return set(notes.values_list("shard", flat=True).distinct())


def stale_videos(shard: int, shards: int) -> Iterator[list[int]]:
    """Yield lists of videos of a shard that together have about SETTLE_NOTES notes; a video with more stands alone."""
    notes = rows(StaleLive).annotate(shard=F("video_id") % shards).filter(shard=shard)
    chunk: list[int] = []
    size = 0
    for video_id, count in notes.values_list("video_id").annotate(Count("id")).order_by("video_id"):
        if chunk and size + count > SETTLE_NOTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(video_id)
        size += count
    if chunk:
        yield chunk


def settle(
    video_ids: Collection[int],
    set_live: Callable[[Mapping[int, StaleVideo]], Collection[int]],
) -> Settled:
    """Under the locks of the videos' rows, call `set_live`, and delete the notes of those videos that it returns.

    Takes SETTLE_NOTES notes at most, the newest first. Leaves out a video whose row another transaction holds.
    """

    def settle_once() -> Settled:
        with atomic(durable=True):
            _, held = sql.lock_free_videos(video_ids)
            chosen = [video_id for video_id in video_ids if video_id not in held]
            facts = read_facts(chosen)
            found = rows(StaleLive).filter(video_id__in=chosen).order_by("-id")
            notes = list(found.values_list("id", "video_id", "user", "written_ms")[:SETTLE_NOTES])
            newest: dict[int, dict[int, int]] = {video_id: {} for _, video_id, _, _ in notes}
            for _, video_id, user_id, written_ms in notes:
                if user_id is not None:
                    known = newest[video_id]
                    known[user_id] = max(written_ms, known.get(user_id, 0))
            changed = {video_id for _, video_id, user_id, written_ms in notes if user_id is not None or not written_ms}
            marked = sql.existing_likes((video_id, user_id) for video_id, users in newest.items() for user_id in users)
            stale = {
                video_id: StaleVideo(
                    facts.get(video_id),
                    [
                        MarkChange(user_id, marked.get((video_id, user_id), sql.UNMARKED).value, at_ms)
                        for user_id, at_ms in users.items()
                    ],
                    edited=video_id not in changed,
                )
                for video_id, users in newest.items()
            }
            done = set(set_live(stale)) if stale else set()
            gone = [note_id for note_id, video_id, _, _ in notes if video_id in done]
            sql.delete_notes(gone)
        return Settled(len(done), len(gone), len(done) < len(stale), len(notes) == SETTLE_NOTES)

    try:
        return again(settle_once, after_timeouts=False)
    except OperationalError as error:
        if not is_lock_timeout(error):
            raise
        return Settled(0, 0, False, False)  # the next run goes on with these notes


def leave_notes(notes: Iterable[StaleLive]) -> None:
    """Write notes. Call it in the transaction that changes the rows."""
    rows(StaleLive).bulk_create(notes, batch_size=STATEMENT_ROWS)
