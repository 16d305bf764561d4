"""Redis and the database meet: each new run of Redis, before anything that it remembers is used.

A restart, a failover and a restored file bring Redis back older, and they break every connection. So whoever connects
to a run of Redis that it does not know lets the two meet: Redis tells which batches it knows; one transaction notes the
run, mints a fence (a number that grows) and finds the newer batches of the database; one script for each shard acts on
them. The fence guards what was begun before. docs/adr/0022 has the rules, tests/protocol/model runs them.

Both carry the same random identity, made when two meet that have none. Where the two differ, or VIDEOS_SHARDS does,
Redis is not used: likes and views go to the rows, and a flush fails. `manage.py adopt_counters` joins them on purpose.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Iterable
from typing import NamedTuple

import django.db

from videos import counters, ledger
from videos.changes import VideosError
from videos.conf import conf
from videos.counters import CountersMismatch, CountersUnavailable, Pairing, connection

logger = logging.getLogger(__name__)

MOVED_HINT = "Give a copy a Redis of its own. If the database was moved, run manage.py adopt_counters."


class Pair(NamedTuple):
    """The identities and the numbers of shards of Redis and of the database."""

    redis: Pairing
    database: Pairing

    def fault(self) -> str | None:
        """Why the two do not belong together; None if they do, or have not met.

        A database without an identity, where that of Redis was, was set back to before they met.
        """
        redis, database = self
        restored = database.identity is None and redis.location == database.location
        if redis.identity not in {None, database.identity} and not restored:
            return (
                f"This Redis belongs to the database {redis.identity}, and DATABASE_URL leads to "
                f"{f'the database {database.identity}' if database.identity else 'a database that has met no Redis'}."
            )
        if redis.shards is not None and redis.shards != database.shards:
            return f"The keys of this Redis are in {redis.shards} shards, and VIDEOS_SHARDS is {database.shards}."
        return None

    def moved(self) -> str | None:
        """Why the database may be a copy; None if it is where it was when the two met.

        A copy carries the identity of its original. A move on purpose looks the same, so Redis is used meanwhile.
        """
        redis, database = self
        same = database.identity is not None and redis.identity == database.identity
        if not same or redis.location in {None, database.location}:
            return None
        return (
            "DATABASE_URL names another host, port or name than when this Redis and the database met: "
            "this may be a copy of that database."
        )


def read_pair() -> Pair:
    """Both identities. Raises CountersUnavailable, django.db errors."""
    return Pair(counters.read_pairing(), Pairing(ledger.identity(), conf.SHARDS, ledger.location()))


def meet(run: str) -> connection.Paired:
    """Let this run of Redis meet the database, unless they have; return the pairing of both.

    A run that has met may be older than what the database knows: it was away while another Redis served, or was given
    older data. Raises CountersMismatch, CountersUnavailable.
    """
    for_request = connection.asked_for_request()
    try:
        with ledger.limited() if for_request else contextlib.nullcontext():
            if for_request:
                ledger.drop_stale_connection()
            pairing = _pair()
            met, newest = ledger.met_runs(), ledger.newest_batches()
            known = counters.shard_runs(run=run)  # after the database: a flush may claim and open a batch meanwhile
            new = {
                shard: one
                for shard, one in known.items()
                if one.run != run or met.get(shard) != (run, one.fence) or one.last < newest.get(shard, 0)
            }
            if new:
                _meet(run, new)
            return pairing.identity, str(pairing.shards)
    except django.db.Error as error:
        raise CountersUnavailable(f"Redis has to meet the database, which is away: {error}") from error


def meet_again(shards: Iterable[int], *, forget: bool = False, abandon: bool = False) -> None:
    """Let shards meet the database again, because the database or Redis was set back.

    `forget`: what Redis remembers of likes and totals is invalid. `abandon`: the database has lost a batch for good.
    """
    _pair()
    known = counters.shard_runs(shards)
    run = next((shard.run for shard in known.values() if shard.run), None)
    if run is not None:
        _meet(run, known, forget=forget, abandon=abandon)


class NotEmpty(VideosError):
    """Redis holds changes of another database, or in other shards."""


def adopt(*, keep: bool = False, drop: bool = False) -> Pair:
    """Join this Redis and this database, whatever each belonged to; return what each belonged to.

    What Redis keeps for replays is dropped, and what it remembers is invalid: of viewers, if the database is another.
    The next batches are marked rewound if that can lose something. All other connections to Redis are closed, so that
    each process compares anew. Raises NotEmpty where it holds changes that are not flushed, unless they are to be
    dropped, or to be kept: that is possible if no batch is open and VIDEOS_SHARDS did not change.
    """
    before = read_pair()
    total = max(before.redis.shards or 0, conf.SHARDS)
    _check_empty(before, total, keep=keep, drop=drop)
    identity = before.database.identity or secrets.token_hex(8)
    counters.pair(identity, conf.SHARDS, ledger.location(), replace=True)
    if not counters.disconnect_others():
        logger.warning("Redis does not let this close other connections: start all web servers and flushes anew.")
    try:
        held = _check_empty(before, total, keep=keep, drop=drop)  # what others did until then
        is_other = before.redis.identity not in {None, before.database.identity}
        if is_other:
            counters.forget_views()
    except VideosError:
        counters.pair_as(before.redis)
        raise
    ledger.take_identity(identity)
    lost = is_other or (drop and held > 0) or _lacks_batches(range(total))
    counters.clear_shards(range(total), changes=drop)
    connection.meet_now()
    meet_again(range(conf.SHARDS), forget=True, abandon=lost)
    return before


def _check_empty(before: Pair, total: int, *, keep: bool, drop: bool) -> int:
    depths = counters.depths(total)
    held, is_open = sum(depth.pending + depth.claimed for depth in depths), any(depth.claimed for depth in depths)
    may_keep = not is_open and before.redis.shards in {None, conf.SHARDS}
    if held and not drop and not (keep and may_keep):
        raise NotEmpty(f"Redis holds {held} changes that are not flushed.")
    return held


def _lacks_batches(shards: Iterable[int]) -> bool:
    """Whether the database lacks batches, so that a replay would have been due."""
    compared = ledger.compare_batches({shard: {one.last} for shard, one in counters.shard_runs(shards).items()})
    return any(one.lacking for one in compared.values())


def _pair() -> Pairing:
    pair = read_pair()
    if pair.fault() is None and None in (pair.redis.identity, pair.redis.shards, pair.database.identity):
        wanted = pair.redis.identity or secrets.token_hex(8)
        wanted = ledger.take_identity(wanted, only_if_none=True)
        own = pair.database._replace(identity=wanted)
        pair = Pair(counters.pair(wanted, conf.SHARDS, ledger.location()), own)
    if fault := pair.fault():
        logger.error("%s Nothing of this Redis is used. `manage.py adopt_counters` joins the two on purpose.", fault)
        raise CountersMismatch(f"{fault} See manage.py adopt_counters.")
    if moved := pair.moved():
        logger.warning("%s %s", moved, MOVED_HINT)
    return pair.redis


def _meet(run: str, known: dict[int, counters.ShardRun], *, forget: bool = False, abandon: bool = False) -> None:
    found = ledger.meet(
        run, {shard: (one.last, one.fence, one.open) for shard, one in known.items()}, anew=forget or abandon
    )
    for shard in sorted(counters.take_fences(run, known, found, forget=forget, abandon=abandon)):
        logger.error(
            "Shard %s: Redis has come back without the batches from %s on. Lost is what it alone knew since.",
            *(shard, found[shard][1].first),
        )


connection.on_new_run(meet)
