"""Brings owners and durations from the rows to the rules of views."""

from collections.abc import Callable, Sequence

from videos import counters, ledger
from videos.flush.run import Run
from videos.ledger.reads import read_facts


def refresh_facts(run: Run, shards: Sequence[int], pause_point: Callable[[], None]) -> None:
    """Compare the owner and the duration of each live video of these shards with its row.

    `QuerySet.update()` and SQL by hand send no signal. Such a change reaches the rules here, so with the next flush. A
    live video whose row is gone gets a note: settling it removes the live key.
    """
    for found in counters.live_videos(shards, -(-run.read_fields // max(1, len(shards)))):
        pause_point()
        run.check_time_to_settle()
        gone = counters.set_facts(found, read_facts(video_id for video_ids in found.values() for video_id in video_ids))
        if gone:
            ledger.note_stale(gone)
        run.rest()
