"""Who likes and watches what: the same for every contender, from fixed seeds."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from itertools import accumulate, count

import jwt

from benchmarks.contenders import SECRET_KEY

ZIPF_EXPONENT = 1.0  # the most popular of 1,000 videos takes 13 % of the likes, the first ten 39 %


def popular(draws: int, videos: int, seed: int = 1) -> list[int]:
    """Video ids drawn by Zipf's law: the n-th most popular is taken 1/n as often as the first.

    Ranks are dealt to ids at random, so that popular videos are spread over the shards.
    """
    source = random.Random(seed)
    ids = list(range(1, videos + 1))
    source.shuffle(ids)
    weights = list(accumulate(1 / rank**ZIPF_EXPONENT for rank in range(1, videos + 1)))
    return source.choices(ids, cum_weights=weights, k=draws)


def tokens(users: int, seconds: int = 36_000, **claims: object) -> list[str]:
    """An access token for each of users 1..users, as the service's own sign-in makes them (HS256, the same claims)."""
    now = int(time.time())
    return [
        jwt.encode(
            {
                "token_type": "access",
                "exp": now + seconds,
                "iat": now,
                "jti": f"{user:032x}",
                "user_id": str(user),
                **claims,
            },
            SECRET_KEY,
            algorithm="HS256",
        )
        for user in range(1, users + 1)
    ]


def distinct_pairs(users: int, videos: int, seed: int = 1, first_pass: int = 0) -> Iterator[tuple[int, int]]:
    """(user, video), none twice: in each pass every user likes one more video, popular ones first."""
    drawn = popular(users, videos, seed)
    for turn in count(first_pass):
        if turn >= videos:
            raise ValueError("Every user likes every video by now.")
        for user, video in enumerate(drawn, start=1):
            yield user, (video - 1 + turn) % videos + 1


def take(pairs: Iterator[tuple[int, int]], number: int) -> Sequence[tuple[int, int]]:
    """The next so many."""
    return [next(pairs) for _ in range(number)]
