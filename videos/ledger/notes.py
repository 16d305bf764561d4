"""Writes outside a batch: each leaves a note, and the flush settles it.

A note (`StaleLive`) says that a video's rows changed without Redis. The flush skips pending wishes that are older than
the note, and between batches it sets the video's live totals from the rows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from django.db import transaction

from videos.changes import HOUR_MS, LIKE, MARK_PLACES, NOTHING, Changes, MarkChange, VideoFacts, zeros
from videos.ledger import sql
from videos.ledger.batches import Outcome, take_in
from videos.ledger.reads import read_facts
from videos.ledger.retry import again
from videos.ledger.sql import STATEMENT_ROWS, parts
from videos.models import StaleLive, VideoLike


def write_direct(changes: Mapping[int, Changes]) -> dict[int, Outcome]:
    """Write changes to the rows while Redis is away. Leaves a note for each mark, and one for a video's tallies."""

    def write() -> dict[int, Outcome]:
        with transaction.atomic(durable=True):
            outcomes, _ = take_in(changes, None, look_for_users=True)
            there = {video_id: change for video_id, change in changes.items() if outcomes[video_id].totals is not None}
            # One note is enough for all tallies of a video: the row is locked here, so it is not settled meanwhile.
            tallied = [video_id for video_id, change in there.items() if change.tallies]
            noted = {
                video_id
                for part in parts(tallied)
                for video_id in StaleLive.objects.filter(video_id__in=part)
                .values_list("video_id", flat=True)
                .distinct()
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
    """Remove a user's likes from rows and totals, in the transaction that deletes the user."""
    with transaction.atomic():
        liked = VideoLike.objects.filter(user_id=user_id).order_by("video_id").values_list("video_id", flat=True)
        sql.lock_videos(list(liked))
        sql.lock_users([user_id])  # a flush that inserts such a like waits for this lock; then its foreign key fails
        video_ids = list(liked.all())
        VideoLike.objects.filter(user_id=user_id).delete()
        loss = zeros()
        loss[MARK_PLACES[LIKE]] = -1
        for part in parts(video_ids):
            sql.add_counts(dict.fromkeys(part, loss), None)
            sql.add_hours({(video_id, at_ms // HOUR_MS): loss for video_id in part})
        leave_notes(StaleLive(video_id=video_id, user=user_id, written_ms=at_ms) for video_id in video_ids)


def forget_video(video_id: int) -> None:
    """Lock a video and leave a note, in the transaction that deletes it."""
    with transaction.atomic():
        sql.lock_videos([video_id])  # before its like rows, in the order of the flush
        note_stale([video_id])


def note_stale(video_ids: Iterable[int]) -> None:
    """Leave notes: the rows of these videos changed, so their live keys must be set again."""
    leave_notes(StaleLive(video_id=video_id) for video_id in video_ids)


def stale_videos(shard: int, shards: int) -> list[int]:
    """Videos of a shard that have notes."""
    video_ids = StaleLive.objects.order_by("video_id").values_list("video_id", flat=True).distinct()
    return [video_id for video_id in video_ids if video_id % shards == shard]


def settle(video_id: int, set_live: Callable[[VideoFacts | None, Sequence[MarkChange]], bool]) -> bool:
    """Under the lock of a video's row, call `set_live(facts, marks)`, and delete the notes if it returns True.

    `facts` is None if the video is gone; `marks` are those that the notes name, with their values in the rows.
    """

    def settle_once() -> bool:
        with transaction.atomic(durable=True):
            sql.lock_videos([video_id])
            facts = read_facts([video_id]).get(video_id)
            notes = list(StaleLive.objects.filter(video_id=video_id).values_list("id", "user", "written_ms"))
            newest: dict[int, int] = {}
            for _, user_id, written_ms in notes:
                if user_id is not None:
                    newest[user_id] = max(written_ms, newest.get(user_id, 0))
            liked = {user_id for _, user_id in sql.existing_likes((video_id, user_id) for user_id in newest)}
            marks = [
                MarkChange(user_id, LIKE if user_id in liked else NOTHING, at_ms) for user_id, at_ms in newest.items()
            ]
            done = set_live(facts, marks)
            if done:
                sql.delete_notes(note[0] for note in notes)
        return done

    return again(settle_once)


def leave_notes(notes: Iterable[StaleLive]) -> None:
    """Write notes. Call it in the transaction that changes the rows."""
    StaleLive.objects.bulk_create(notes, batch_size=STATEMENT_ROWS)
