"""Who asks what in a soak."""

import random
from collections import deque
from itertools import accumulate
from typing import Any, Final

from tests.soak.book import Pair
from tests.soak.connection import Asked, raw_request
from tests.support.factories import WATCHED

KINDS: Final = ("like", "unlike", "view", "read")
METHODS: Final = ("PUT", "DELETE", "POST", "GET")
VIEWS, READS = 0.45, 0.1  # shares; the rest are likes and unlikes


class Crowd:
    """Users who like and unlike, and viewers who come once each. Popular videos are taken by Zipf's law."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.videos: list[int] = settings["videos"]
        self.tokens: dict[int, str] = {int(user): token for user, token in settings["tokens"].items()}
        self.users = list(self.tokens)
        self.choose = random.Random(settings["seed"])
        self.busy: dict[Pair, float] = {}  # until when (time.monotonic) the pair's last wish may still be executed
        self._popular = list(accumulate(1 / rank for rank in range(1, len(self.videos) + 1)))
        self._recent: deque[Pair] = deque(maxlen=200)
        self._viewers = 0

    def next(self, due: float) -> Asked:
        """The next request. Its pair is busy until the caller says otherwise."""
        drawn = self.choose.random()
        if drawn < VIEWS:
            self._viewers += 1
            video = self._video()
            body = b'{"viewer":"soak-%d","watched":%s}' % (self._viewers, str(WATCHED).encode())
            return Asked(due, 2, raw_request("POST", f"/api/videos/{video}/view/", body=body), (video, 0))
        pair = self._free_pair(due)
        kind = 3 if drawn > 1 - READS else 0 if self.choose.random() < 0.6 else 1
        self.busy[pair] = float("inf")
        return Asked(due, kind, raw_request(METHODS[kind], f"/api/videos/{pair[0]}/like/", self.tokens[pair[1]]), pair)

    def _video(self) -> int:
        return self.choose.choices(self.videos, cum_weights=self._popular)[0]

    def _free_pair(self, now: float) -> Pair:
        """Half of the time one of the last pairs: wishes that change their mind within a batch."""
        while True:
            if self._recent and self.choose.random() < 0.5:
                pair = self.choose.choice(self._recent)
            else:
                pair = self._video(), self.choose.choice(self.users)
                self._recent.append(pair)
            if self.busy.get(pair, 0.0) < now:
                return pair
