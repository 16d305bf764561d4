"""Deletions and edits through Django: keeps counts right, and updates Redis."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.db import InterfaceError, OperationalError, transaction

from videos import counters, ledger
from videos.ledger import reads

logger = logging.getLogger(__name__)


def forget_user(*, user_id: int) -> None:
    """Remove the likes of a user who is being deleted from all counts. Call it in the deleting transaction."""
    ledger.forget_user(user_id, at_ms=counters.now_ms())


def forget_video(*, video_id: int) -> None:
    """Remove the live key of a video that is being deleted. Call it in the deleting transaction."""
    ledger.forget_video(video_id)
    transaction.on_commit(lambda: _try_at_once(lambda: counters.forget(video_id)))


def refresh_video(*, video_id: int) -> None:
    """Pass an edited owner or duration to the rules of views. Call it in the editing transaction."""
    ledger.note_stale([video_id])

    def refresh() -> None:
        facts = reads.read_facts([video_id]).get(video_id)
        if facts is not None:
            counters.refresh(video_id=video_id, owner_id=facts.owner_id, duration=facts.duration)

    transaction.on_commit(lambda: _try_at_once(refresh))


def _try_at_once(act: Callable[[], None]) -> None:
    """Do now what the flush will do when it settles the note; an outage is therefore only logged."""
    try:
        act()
    except (counters.CountersUnavailable, InterfaceError, OperationalError) as error:
        logger.warning("Left to the next flush: %s", error)
