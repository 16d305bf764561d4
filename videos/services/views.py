"""Views: counted in Redis, which recognises repeats by `seen`; or in the rows, while Redis refuses."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from videos import counters, ledger
from videos.changes import DAY_SECONDS, Changes, TallyChange, VideoFacts, moment
from videos.conf import conf
from videos.counters import ViewEvent
from videos.ledger import reads
from videos.ledger.reads import VideoRow
from videos.services import caps
from videos.services.database import SCRIPT_TRIES, database, write_direct
from videos.services.outcomes import Unavailable, VideoNotFound, View, ViewSums
from videos.services.reading import overlay_rows, read_video

FULL: Final = "OOM"  # the code with which Redis refuses to write for want of memory


def record_view(*, event: ViewEvent) -> View:
    """Count one view, or return the reason why it does not count. Raises VideoNotFound, Unavailable."""
    video_id = event.video_id
    try:
        ((reason, views),) = counters.view([event])
        for _ in range(SCRIPT_TRIES):
            if reason:
                break
            if _is_unwanted(event):
                return _unwritten(event)
            ((reason, views),) = counters.view([event], {video_id: _facts(video_id)._replace(version=views)})
        if reason:
            return View(video_id, reason == "new", reason, views)
    except counters.CountersUnavailable as error:
        if error.code == FULL and not error.uncertain and _is_unwanted(event):
            return _unwritten(event)
        _doubt([event], uncertain=error.uncertain, cause=error)
        facts = _facts(video_id)
        reason = _judge(event, facts)
        if reason == "new" and not caps.take(event):
            reason = "address"
        if reason != "new":
            return View(video_id, False, reason, facts.totals.views, stored=True)
        try:
            totals = write_direct(video_id, _changes([event], facts))
        except Unavailable:
            caps.give_back(event)
            raise
        return View(video_id, True, reason, totals.views, stored=True)
    raise Unavailable


def record_views(*, events: Sequence[ViewEvent]) -> ViewSums:
    """Count many views, in one round trip if all videos are warm.

    Raises Unavailable; some may have counted then, and are `seen` when the caller sends them again.
    """
    reasons: Counter[str] = Counter()
    left = list(events)
    try:
        facts: dict[int, VideoFacts] = {}
        for _ in range(SCRIPT_TRIES):
            results = counters.view(left, facts)
            reasons.update(reason for reason, _ in results if reason)
            told = {
                event.video_id: version for event, (reason, version) in zip(left, results, strict=True) if not reason
            }
            left = [event for event, (reason, _) in zip(left, results, strict=True) if not reason]
            if not left:
                break
            with database():
                rows = reads.read_facts(told)
            facts = {video_id: known._replace(version=told[video_id]) for video_id, known in rows.items()}
            reasons["absent"] += sum(event.video_id not in facts for event in left)
            left = [event for event in left if event.video_id in facts]
            if not left:
                break
        else:
            raise Unavailable
    except counters.CountersUnavailable as error:
        _doubt(events, uncertain=error.uncertain or len(left) < len(events), cause=error)
        return _record_direct(events, full=error.code == FULL)
    return _sums(reasons)


def _doubt(events: Sequence[ViewEvent], *, uncertain: bool, cause: Exception) -> None:
    """Raise Unavailable if Redis may have counted one of these views, now or when it was sent before.

    Such a view would count twice in the rows. When it is sent again to a Redis that answers, it is `seen` or counted.
    """
    views, now = [(event.video_id, event.viewer) for event in events], moment(counters.now_ms())
    with database():
        if uncertain:
            ledger.note_doubts(views, now=now)
        if uncertain or ledger.has_doubts(views, now=now):
            raise Unavailable from cause


def _record_direct(events: Sequence[ViewEvent], *, full: bool) -> ViewSums:
    """Count views in the rows, without those of anonymous viewers if Redis is `full`."""
    with database():
        rows = reads.read_facts({event.video_id for event in events})
        reasons: Counter[str] = Counter()
        counted: dict[int, list[ViewEvent]] = {}
        for event in events:
            facts = rows.get(event.video_id)
            reason = "absent" if facts is None else _judge(event, facts, full=full and _is_unwanted(event))
            reasons[reason] += 1
            if reason == "new":
                counted.setdefault(event.video_id, []).append(event)
        if counted:
            ledger.write_direct({video_id: _changes(views, rows[video_id]) for video_id, views in counted.items()})
    return _sums(reasons, stored=True)


def _changes(events: Sequence[ViewEvent], facts: VideoFacts) -> Changes:
    """What views of a video that count change."""
    gains: Counter[tuple[str, int]] = Counter()
    for event in events:
        gains["views", event.hour] += 1
        gains["watched", event.hour] += _seconds_of(event.watched or 0, facts.duration)
    return Changes(tallies=[TallyChange(name, hour, amount) for (name, hour), amount in gains.items() if amount])


def _seconds_of(watched: float, duration: int) -> int:
    """The whole seconds that count as watched, as in view.lua: up to the duration, and a day at most."""
    return int(min(watched, duration or DAY_SECONDS, DAY_SECONDS) + 0.5)


def _sums(reasons: Counter[str], *, stored: bool = False) -> ViewSums:
    counted = reasons.pop("new", 0)
    return ViewSums(counted, {reason: number for reason, number in sorted(reasons.items()) if number}, stored)


def _facts(video_id: int) -> VideoFacts:
    with database():
        facts = reads.read_facts([video_id]).get(video_id)
    if facts is None:
        raise VideoNotFound
    return facts


def _is_unwanted(event: ViewEvent) -> bool:
    """Whether Redis has no memory for this view, because its viewer is anonymous."""
    return event.user_id is None and counters.is_full()


def _unwritten(event: ViewEvent) -> View:
    """Why an unwanted view does not count. Its video gets no live key for it."""
    row = read_video(video_id=event.video_id)
    counts = overlay_rows(rows=[row], user_id=None)
    views = counts.by_video[row.id].totals.views
    return View(row.id, False, _judge(event, row, full=True), views, counts.stored)


def _judge(event: ViewEvent, facts: VideoFacts | VideoRow, *, full: bool = False) -> str:
    """The rules of view.lua that need no memory of earlier views. `full`: there is no memory for this one."""
    if event.bot:
        return "bot"
    if event.user_id is not None and event.user_id == facts.owner_id:
        return "owner"
    enough = conf.VIEW_MIN_WATCHED_SECONDS
    if facts.duration:
        enough = min(enough, facts.duration / 2)
    if event.watched is not None and event.watched < enough:
        return "short"
    return "full" if full else "new"
