"""Reconcile: the recount of like rows against the counts of marks, in parts. A command, Lambda, the admin call it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from videos import counters, ledger, meeting
from videos.conf import conf
from videos.counters import connection
from videos.ledger.reads import read_facts

RECONCILE_VIDEOS: Final = 500  # rows locked at a time


@dataclass(slots=True)
class ReconcileReport:
    """What a recount found. Each difference is `{video, column, stored, counted, repaired}`."""

    videos: int = 0
    differences: list[dict[str, Any]] = field(default_factory=list)
    repaired: int = 0
    absent: list[int] = field(default_factory=list)  # requested videos that do not exist


def reconcile(
    *,
    video_ids: Iterable[int] | None = None,
    repair: bool = False,
    forget: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> ReconcileReport:
    """Recount like rows against the counts of marks under the lock of each video's row, all videos by default.

    Needed after changes outside the service: SQL by hand, a restored backup. After a repair the next flush sets the
    live totals. A repair also lets Redis `forget` who likes which video, also where the counts are right: rows may have
    been deleted and others added. Raises CountersUnavailable, and repairs nothing, where Redis does not answer.
    """
    if repair and forget:
        _forget()
    report = ReconcileReport()
    chosen = None if video_ids is None else sorted(set(video_ids))
    total = ledger.video_total() if chosen is None else len(chosen)
    done = 0
    for part in _parts(chosen):
        known = part if chosen is None else sorted(read_facts(part))
        report.absent += sorted(set(part) - set(known))
        for difference in ledger.recount(known, repair=repair):
            video_id, column, stored, counted = difference
            report.differences.append(
                {"video": video_id, "column": column, "stored": stored, "counted": counted, "repaired": repair}
            )
            report.repaired += repair
        report.videos += len(known)
        done += len(part)
        if progress is not None:
            progress(min(done, total), total)
    return report


def _forget() -> None:
    try:
        connection.send([("PING",)])  # as a request, which gives up earlier than a flush
        meeting.meet_again(range(conf.SHARDS), forget=True)
    except counters.CountersUnavailable as error:
        raise counters.CountersUnavailable(
            "Nothing was repaired, because Redis does not answer and would go on to show likes whose rows are gone. "
            f"Repair again once it answers. {error}"
        ) from error


def _parts(chosen: list[int] | None) -> Iterator[list[int]]:
    if chosen is not None:
        for first in range(0, len(chosen), RECONCILE_VIDEOS):
            yield chosen[first : first + RECONCILE_VIDEOS]
        return
    after = 0
    while part := ledger.video_ids(after, RECONCILE_VIDEOS):
        yield part
        after = part[-1]
