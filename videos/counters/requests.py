"""What requests do in Redis: mark, view, read. Each takes one round trip if the video is warm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from videos.changes import COUNTS, DAY_SECONDS, HOUR_MS, MARKS, Totals, VideoFacts
from videos.conf import conf
from videos.counters import memory, scripts
from videos.counters.clock import now_ms
from videos.counters.connection import CountersUnavailable, is_cluster, send
from videos.counters.keys import address_key, keys_of, network_key, recent_key, shard_of
from videos.fields import State, mark_field, parse_state

RECENT_SECONDS: Final = 30 * DAY_SECONDS  # for marks that no flush takes: those that were refused
SCAN_FIELDS: Final = 1000  # of one call; all other clients of Redis wait meanwhile
MAX_SCANNED_FIELDS: Final = 100_000  # of a shard, to find the marks on a video: 25 ms
# How long a live key stays that was made from the row and not written to: the row may have been an old one.
PRIMED_SECONDS: Final = 300
REASONS: Final = ("new", "seen", "bot", "short", "owner", "address", "full")  # by the codes of view.lua


class Marked(NamedTuple):
    """The result of setting a mark."""

    changed: bool
    totals: Totals  # now


class Missing(NamedTuple):
    """What a script needs from the database. The caller reads it and calls again with it."""

    state: bool
    facts: bool
    version: str = ""  # of the shard: what is read from now on is valid as long as this is; give it back


class Hashes(NamedTuple):
    """Keyed hashes of who views. None: there is none."""

    viewer: str | None = None
    address: str | None = None
    network: str | None = None


class ViewEvent(NamedTuple):
    """A view that a client reports."""

    video_id: int
    viewer: str  # stable for one viewer, at most 64 characters; never an address in clear
    user_id: int | None = None  # of a signed-in viewer
    watched: float | None = None  # seconds, a day at most; None if the player does not report it
    at_ms: int | None = None  # Unix milliseconds; None is now
    address: str | None = None  # a keyed hash of the client's address; None: no cap applies
    bot: bool = False
    network: str | None = None  # a keyed hash of the network of the address
    before: Hashes | None = None  # the same under the key of before, while a window of that time may be open

    @property
    def hour(self) -> int:
        """The hour that it counts in, since 1970."""
        return (now_ms() if self.at_ms is None else self.at_ms) // HOUR_MS


class Live(NamedTuple):
    """What Redis knows about a video; None is unknown."""

    totals: Totals | None
    state: State | None  # the user's mark
    lost: str | None = None  # the totals expired while something was pending: the version for priming them from the row


def set_mark(
    *,
    video_id: int,
    user_id: int,
    value: int,
    at_ms: int | None = None,
    facts: VideoFacts | None = None,
    state: int | None = None,
    version: str = "",
) -> Marked | Missing:
    """Set a user's mark on a video, in one round trip. Missing: nothing was done, call again with what is missing.

    The wish has the time of Redis' clock, unless `at_ms` is given.
    `state` is the user's mark and `facts` are the video's facts, both as read from the database under the `version`
    that Missing had.
    """
    keys = keys_of(shard_of(video_id))
    script = scripts.LIKE.command(
        (keys.live(video_id), keys.liked(video_id, user_id), keys.pending, keys.claimed, keys.batch, keys.sums),
        *(mark_field(video_id, user_id), value, "" if at_ms is None else at_ms, conf.LIVE_SECONDS, conf.LIKED_SECONDS),
        *("" if state is None else state, version, scripts.DEADLINE),
    )
    if facts is None and state is None:
        noted_ms = now_ms() if at_ms is None else at_ms
        recent_command = scripts.RECENT.command((recent_key(user_id),), noted_ms, video_id, RECENT_SECONDS)
        code, *numbers = send([script, recent_command])[0]
    else:  # the first call has already noted the video as recent
        code, *numbers = send(
            [script] if facts is None else [_prime_command(video_id, facts._replace(version=version)), script]
        )[-1]
    if code < 0:
        needs, told = numbers
        return Missing(state=bool(needs & 1), facts=bool(needs & 2), version=told.decode())
    return Marked(code == 1, Totals(*numbers))


def view(events: Sequence[ViewEvent], facts: Mapping[int, VideoFacts] | None = None) -> list[tuple[str, Any]]:
    """Judge views and count the new ones, in one round trip. Returns each event's reason and the video's views now.

    The reason of anonymous views is "full" while Redis uses more than VIDEOS_ANONYMOUS_MEMORY_SHARE of its memory.
    The reason is "" if Redis lacks the video's facts. Nothing was done for that event: call again with them. Instead of
    the views it returns the version that the facts must have.
    """
    try:
        return _view(events, facts)
    except CountersUnavailable as error:
        if error.code != "CROSSSLOT" or error.uncertain:
            raise
        return _view(events, facts)  # the server is known to be in cluster mode now


def _view(events: Sequence[ViewEvent], facts: Mapping[int, VideoFacts] | None) -> list[tuple[str, Any]]:
    by_shard: dict[int, list[int]] = {}
    for place, event in enumerate(events):
        by_shard.setdefault(shard_of(event.video_id), []).append(place)
    commands = [_prime_command(video_id, known) for video_id, known in facts.items()] if facts else []
    primed = len(commands)
    commands += [_view_command(shard, [events[place] for place in places]) for shard, places in by_shard.items()]
    results: list[tuple[str, Any]] = [("", 0)] * len(events)
    for places, reply in zip(by_shard.values(), send([*commands, *memory.question()])[primed:], strict=True):
        for place, code, views in zip(places, reply[::2], reply[1::2], strict=True):
            results[place] = ("", views.decode()) if code < 0 else (REASONS[code], views)
    return results


def _view_command(shard: int, events: Sequence[ViewEvent]) -> tuple[Any, ...]:
    names = keys_of(shard)
    none = names.pending  # stands for a key that an event lacks
    of_address, of_network = (names.addresses, names.networks) if is_cluster() else (address_key, network_key)
    changed = events[0].before is not None  # events of a batch have no hashes
    keys = [none, names.sums, names.batch]
    args: list[Any] = [
        conf.LIVE_SECONDS,
        conf.VIEW_WINDOW_SECONDS,
        conf.VIEW_ADDRESS_LIMIT,
        conf.ADDRESS_VIEWS,
        conf.NETWORK_VIEWS,
        conf.VIEW_MIN_WATCHED_SECONDS,
        conf.VIEW_MAX_AGE_SECONDS + conf.VIEW_WINDOW_SECONDS,
        10 if changed else 6,
        "1" if memory.is_full() else "0",
    ]
    for event in events:
        video_id, viewer, user_id, watched, at_ms, address, bot, network, before = event
        signed_in = user_id is not None  # of the address of a signed-in viewer, only the caps over all videos hold
        keys += (
            names.live(video_id),
            names.seen(video_id, viewer),
            none if at_ms is None else names.dated(video_id, viewer),
            none if address is None or signed_in else names.address(video_id, address),
            none if address is None else of_address(address),
            none if network is None else of_network(network),
        )
        if changed:
            old, address, network = before or Hashes()
            keys += (
                none if old is None else names.seen(video_id, old),
                none if address is None or signed_in else names.address(video_id, address),
                none if address is None else of_address(address),
                none if network is None else of_network(network),
            )
        args += (
            video_id,
            event.hour,
            user_id if signed_in else "",
            "" if watched is None else min(watched, DAY_SECONDS),
            "1" if bot else "0",
            "" if at_ms is None else at_ms // 1000,
        )
    return scripts.VIEW.command(keys, *args, scripts.DEADLINE)


def prime(facts: Mapping[int, VideoFacts]) -> None:
    """Make videos live from their rows; what is pending is added."""
    send([_prime_command(video_id, known) for video_id, known in facts.items()])


def _prime_command(video_id: int, facts: VideoFacts) -> tuple[Any, ...]:
    keys = keys_of(shard_of(video_id))
    return scripts.PRIME.command(
        (keys.live(video_id), keys.batch, keys.sums, keys.claimed_sums, keys.lives),
        *(PRIMED_SECONDS, conf.LIKED_SECONDS, facts.owner_id, facts.duration),
        *(video_id, facts.watermark, facts.version, *facts.totals),
        scripts.DEADLINE,
    )


def lookup(video_ids: Iterable[int], user_id: int | None) -> dict[int, Live]:
    """What Redis knows about these videos, in one round trip."""
    by_shard: dict[int, list[int]] = {}
    for video_id in video_ids:
        by_shard.setdefault(shard_of(video_id), []).append(video_id)
    if not by_shard:
        return {}
    commands = []
    for shard, members in by_shard.items():
        names = keys_of(shard)
        keys = [names.pending, names.claimed, names.sums, names.claimed_sums, names.batch, *map(names.live, members)]
        if user_id is not None:
            keys += [names.liked(video_id, user_id) for video_id in members]
        commands.append(scripts.READ.command(keys, "" if user_id is None else user_id, *members))
    found = {}
    width = len(COUNTS) + 2
    for members, reply in zip(by_shard.values(), send(commands), strict=True):
        for place, video_id in enumerate(members):
            *totals, state, lost = reply[width * place : width * (place + 1)]
            found[video_id] = Live(
                None if None in totals else Totals(*map(int, totals)),
                None if state is None else parse_state(state),
                None if lost is None else lost.decode(),
            )
    return found


def recent(user_id: int) -> dict[int, int]:
    """Videos on which a mark of this user waits for the flush, newest first, with Unix milliseconds.

    May list videos whose mark was taken back or never set; check each.
    """
    (reply,) = send([("ZREVRANGE", recent_key(user_id), 0, -1, "WITHSCORES")])
    return {int(video_id): int(float(at_ms)) for video_id, at_ms in zip(reply[::2], reply[1::2], strict=True)}


def waiting_marks(video_id: int) -> dict[int, State] | None:
    """The marks on a video that wait for the flush, by user. Read the rows afterwards: those that left are there.

    None if so much waits in the shard that it would take too long to find them: the flush is hours late.
    """
    keys = keys_of(shard_of(video_id))
    sums = [f"{mark.name}:{video_id}" for mark in MARKS]
    commands: list[tuple[Any, ...]] = [("HLEN", keys.pending), ("HLEN", keys.claimed)]
    pending, claimed, *replies = send(commands + [("HMGET", key, *sums) for key in (keys.sums, keys.claimed_sums)])
    if all(value is None for reply in replies for value in reply):
        return {}
    if pending + claimed > MAX_SCANNED_FIELDS:
        return None
    found: dict[int, State] = {}
    for key in (keys.pending, keys.claimed):  # in this order: a claim moves fields from the first to the second
        cursor: Any = 0
        while cursor not in {b"0", None}:
            command = ("HSCAN", key, cursor, "MATCH", mark_field(video_id, "*"), "COUNT", SCAN_FIELDS)
            ((cursor, flat),) = send([command])
            for name, value in zip(flat[::2], flat[1::2], strict=True):
                state = parse_state(value)
                if state is not None:
                    found.setdefault(int(name.rpartition(b":")[2]), state)
    return found


def refresh(*, video_id: int, owner_id: int, duration: int) -> None:
    """Write an edited owner and duration to the live key, if there is one."""
    send([scripts.REFRESH.command((keys_of(shard_of(video_id)).live(video_id),), owner_id, duration)])


def forget(video_id: int) -> None:
    """Make what Redis remembers of a video that is gone invalid; the flush drops its pending changes."""
    send([forget_command(shard_of(video_id), video_id)])


def forget_command(shard: int, video_id: int) -> tuple[Any, ...]:
    """The command that makes what Redis remembers of a video invalid."""
    names = keys_of(shard)
    return scripts.FORGET.command(
        (names.live(video_id), names.batch, names.sums, names.claimed_sums), forgotten_seconds(), video_id
    )


def forgotten_seconds() -> int:
    """How long Redis remembers that a video is gone: no liked, seen or dated key of the video lives longer."""
    return max(conf.VIEW_MAX_AGE_SECONDS + conf.VIEW_WINDOW_SECONDS, conf.LIKED_SECONDS) + PRIMED_SECONDS
