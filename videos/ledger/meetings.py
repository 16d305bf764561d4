"""What the database notes of meetings with Redis: an identity, and for each shard the run that was met and a fence."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from django.db.models import Q

from videos.changes import Newer, VideosError
from videos.ledger.retry import again
from videos.ledger.writer import atomic, connection, rows
from videos.models import CountersIdentity, FlushBatch, Meeting


class StaleFence(VideosError):
    """Another meeting of Redis and the database took place: what was begun before it does nothing."""


def identity() -> str | None:
    """The id that this database shares with its Redis; None before they met."""
    return rows(CountersIdentity).values_list("value", flat=True).filter(pk=1).first()


def location() -> str:
    """A hash of where the database is."""
    own = connection.settings_dict
    name = Path(own["NAME"]).resolve() if connection.vendor == "sqlite" else own["NAME"]
    return hashlib.sha256(f"{own['HOST']}:{own['PORT']}/{name}".encode()).hexdigest()[:16]


def take_identity(value: str, *, only_if_none: bool = False) -> str:
    """Write the identity; with `only_if_none`, unless there is one. Returns the one that is there."""
    if only_if_none:
        return rows(CountersIdentity).get_or_create(pk=1, defaults={"value": value})[0].value
    rows(CountersIdentity).update_or_create(pk=1, defaults={"value": value})
    return value


def meet(run: str, known: Mapping[int, tuple[int, int, int]], *, anew: bool = False) -> dict[int, tuple[int, Newer]]:
    """Note that shards of Redis, of this run, meet the database; `known` is each one's newest batch, fence, open batch.

    Returns each shard's fence and the batches that the shard does not know. A fence is minted where there are some,
    where the two do not remember the same meeting, or `anew`. It is above those that both remember, and above the
    clock, because both may have been set back.
    """

    def transact() -> dict[int, tuple[int, Newer]]:
        with atomic():
            known_rows = {
                row.shard: row for row in rows(Meeting).select_for_update().filter(shard__in=known).order_by("shard")
            }
            fences = {shard: fence for shard, (_, fence, _) in known.items()}
            newer = _newer(known)
            minted = [
                shard
                for shard, fence in fences.items()
                if anew
                or shard in newer
                or shard not in known_rows
                or (known_rows[shard].run, known_rows[shard].fence) != (run, fence)
            ]
            if minted:
                highest = max(
                    0, *fences.values(), *(row.fence for row in known_rows.values()), time.time_ns() // 1_000_000
                )
                fences |= dict.fromkeys(minted, highest + 1)
                rows(Meeting).filter(shard__in=minted).update(run=run, fence=highest + 1)
                rows(Meeting).bulk_create(
                    Meeting(shard=shard, run=run, fence=highest + 1) for shard in minted if shard not in known_rows
                )
                # No process of before this meeting adds to a batch any more.
                rows(FlushBatch).filter(shard__in=minted, finished_at=None).update(fence=highest + 1)
        return {shard: (fences[shard], newer.get(shard, Newer())) for shard in known}

    return again(transact)


def _newer(known: Mapping[int, tuple[int, int, int]]) -> dict[int, Newer]:
    found: dict[int, Newer] = {}
    wanted = Q()
    for shard, (last, _, _) in known.items():
        wanted |= Q(shard=shard, number__gt=last)
    batches = rows(FlushBatch).filter(wanted).order_by("shard", "number") if wanted else rows(FlushBatch).none()
    for shard, number, finished_at in batches.values_list("shard", "number", "finished_at"):
        found[shard] = found.get(shard, Newer(number, finished_at is not None))._replace(newest=number)
    for shard, newer in found.items():
        own = rows(FlushBatch).filter(shard=shard, number__in=[known[shard][2], newer.first])
        postponed = dict(own.values_list("number", "postponed"))
        found[shard] = newer._replace(
            postponed_by_open=postponed.get(known[shard][2], ()), postponed_by_first=postponed[newer.first]
        )
    return found


def lock_fence(shard: int, fence: int) -> None:
    """Lock the meeting of a shard until the transaction ends. Raises StaleFence if its fence is another."""
    found = rows(Meeting).select_for_update().filter(shard=shard).values_list("fence", flat=True).first()
    if found != fence:
        raise StaleFence


def met_runs() -> dict[int, tuple[str, int]]:
    """The run that each shard met, and its fence."""
    return {shard: (run, fence) for shard, run, fence in rows(Meeting).values_list("shard", "run", "fence")}


def fences(shards: Iterable[int]) -> dict[int, int]:
    """The fence of each shard."""
    return dict(rows(Meeting).filter(shard__in=list(shards)).values_list("shard", "fence"))
