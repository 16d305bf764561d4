"""The states of the two stores: what a mark remembers, and how a store is set back to it."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.db import connection, transaction

from tests.protocol.simulator.network import Network
from videos.changes import MarkChange
from videos.conf import conf
from videos.counters.keys import keys_of
from videos.fields import parse
from videos.models import (
    CountersIdentity,
    DoubtfulView,
    FlushBatch,
    ForgottenUser,
    Meeting,
    SiteHour,
    StaleLive,
    TrendingVideo,
    Video,
    VideoHour,
    VideoLike,
)

TABLES = [
    model._meta.db_table
    for model in (
        *(User, Video, VideoLike, VideoHour, SiteHour, TrendingVideo),
        *(FlushBatch, StaleLive, DoubtfulView, ForgottenUser, Meeting, CountersIdentity),
    )
]
Rows = dict[str, list[tuple[Any, ...]]]


def read_rows() -> Rows:
    """All rows of the database."""
    found: Rows = {}
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"SELECT * FROM {table}")  # noqa: S608
            found[table] = list(cursor.fetchall())
    return found


def write_rows(rows: Rows) -> None:
    """Set the database back to these rows."""
    mysql = connection.vendor == "mysql"
    with transaction.atomic(), connection.cursor() as cursor:
        if mysql:
            cursor.execute("SET foreign_key_checks = 0")
        for table, values in rows.items():
            cursor.execute(f"DELETE FROM {table}")  # noqa: S608
            if values:
                places = ", ".join(["%s"] * len(values[0]))
                cursor.executemany(f"INSERT INTO {table} VALUES ({places})", values)  # noqa: S608
        if mysql:
            cursor.execute("SET foreign_key_checks = 1")


def read_keys(network: Network) -> list[tuple[bytes, bytes, int]]:
    """All keys of Redis, with their values and the times at which they expire (Unix ms)."""
    text = (
        "local all = {} for _, key in ipairs(redis.call('KEYS', '*')) do all[#all + 1] = "
        "{key, redis.call('DUMP', key), math.max(redis.call('PEXPIRETIME', key), 0)} end return all"
    )
    return sorted(map(tuple, network.ask("EVAL", text, 0)))


def read_waiting(network: Network) -> dict[tuple[int, int], int]:
    """The times (Unix ms) of the wishes that wait in Redis for a batch, by video and user."""
    found: dict[tuple[int, int], int] = {}
    for names in map(keys_of, range(conf.SHARDS)):
        flat = [*network.ask("HGETALL", names.claimed), *network.ask("HGETALL", names.pending)]  # the newer ones last
        for field, value in zip(flat[::2], flat[1::2], strict=True):
            if (parsed := parse(field, value)) and isinstance(parsed[1], MarkChange):
                found[parsed[0], parsed[1].user_id] = parsed[1].at_ms
    return found


def write_keys(network: Network, keys: list[tuple[bytes, bytes, int]]) -> None:
    """Set Redis back to these keys. Those that have expired meanwhile are gone."""
    network.ask("FLUSHDB", "SYNC")
    for key, value, expires_ms in keys:
        network.ask("RESTORE", key, expires_ms, value, "ABSTTL")
