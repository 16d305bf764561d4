"""Who likes and watches what, and how a request looks: the same for every contender, from fixed seeds."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path

import jwt

SECRET_KEY = "benchmark-" + "0123456789abcdef" * 4  # signs every contender's tokens
USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
ZIPF_EXPONENT = 1.0  # the most popular of 1,000 videos takes 13 % of the likes, the first ten 39 %


@dataclass(frozen=True)
class Request:
    """One HTTP request, as the load generators send it."""

    method: str
    path: str
    token: str | None = None
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def raw(self) -> bytes:
        """The bytes on the wire, HTTP/1.1 with keep-alive."""
        body = self.body.encode()
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: 127.0.0.1", f"User-Agent: {USER_AGENT}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.token:
            lines.append(f"Authorization: Bearer {self.token}")
        if body or self.method in {"POST", "PUT", "PATCH"}:
            if "Content-Type" not in self.headers:
                lines.append("Content-Type: application/json")
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode() + body


def write_requests(path: Path, requests: Sequence[Request]) -> Path:
    """Requests as `replay.lua` reads them: a length in bytes on a line, then the bytes."""
    raw = (request.raw() for request in requests)
    path.write_bytes(b"".join(b"%d\n%b" % (len(one), one) for one in raw))
    return path


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    """A file with one line each."""
    path.write_text("\n".join(lines) + "\n")
    return path


def popular(draws: int, videos: int, seed: int = 1) -> list[int]:
    """Video ids drawn by Zipf's law: the n-th most popular is taken 1/n as often as the first.

    Ranks are dealt to ids at random, so that popular videos are spread over the shards.
    """
    source = random.Random(seed)
    ids = list(range(1, videos + 1))
    source.shuffle(ids)
    weights = list(accumulate(1 / rank**ZIPF_EXPONENT for rank in range(1, videos + 1)))
    return source.choices(ids, cum_weights=weights, k=draws)


def tokens(users: int, **claims: object) -> list[str]:
    """An access token for each of users 1..users, as the service's own sign-in makes them (HS256, the same claims)."""
    now = int(time.time())
    common = {"token_type": "access", "exp": now + 36_000, "iat": now, **claims}
    return [
        jwt.encode({**common, "jti": f"{user:032x}", "user_id": str(user)}, SECRET_KEY, algorithm="HS256")
        for user in range(1, users + 1)
    ]


def distinct_pairs(users: int, videos: int, number: int, seed: int = 1) -> Sequence[tuple[int, int]]:
    """So many (user, video), none twice: in each pass every user likes one more video, popular ones first."""
    if number > users * videos:
        raise ValueError(f"{users} users like {videos} videos at most {users * videos} times, not {number}.")
    drawn = popular(users, videos, seed)
    pairs: Iterator[tuple[int, int]] = (
        (user, (video - 1 + turn) % videos + 1) for turn in range(videos) for user, video in enumerate(drawn, start=1)
    )
    return list(islice(pairs, number))
