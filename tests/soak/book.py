"""What the service acknowledged to the clients of a soak, and so what its rows must hold at the end."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

Pair = tuple[int, int]  # video, user
SETTLE_SECONDS: Final = 10.0  # after an open wish, longer than any fault: it has been executed by then or never will be


@dataclass
class Book:
    """Each user has one wish for a video at a time in flight, so the last one is known.

    A wish that was answered 503, or not at all, is open: it may have been executed or not.
    """

    wishes: dict[Pair, bool] = field(default_factory=dict)  # the last acknowledged
    open_wishes: dict[Pair, set[bool]] = field(default_factory=dict)  # those after it
    views: Counter[int] = field(default_factory=Counter)  # acknowledged as counted, by video
    open_views: Counter[int] = field(default_factory=Counter)

    def acknowledge_wish(self, pair: Pair, liked: bool) -> None:
        """The service said that this wish holds."""
        self.wishes[pair] = liked
        self.open_wishes.pop(pair, None)

    def leave_open(self, pair: Pair, liked: bool) -> None:
        """Nothing is known of this wish."""
        self.open_wishes.setdefault(pair, set()).add(liked)

    def possible(self, pair: Pair) -> set[bool]:
        """What the service may say of this pair now."""
        return self.open_wishes.get(pair, set()) | {self.wishes.get(pair, False)}

    def differences(self, liking: set[Pair], views: dict[int, int]) -> list[str]:
        """What the rows hold that was not acknowledged, or lack that was."""
        found = []
        for pair in sorted(self.wishes.keys() | self.open_wishes.keys() | liking):
            if (pair in liking) not in self.possible(pair):
                wish = self.wishes.get(pair)
                found.append(f"video {pair[0]}, user {pair[1]}: acknowledged {wish}, the row says {pair in liking}")
        for video, stored in sorted(views.items()):
            least = self.views[video]
            most = least + self.open_views[video]
            if not least <= stored <= most:
                found.append(f"video {video}: {stored} views stored, {least} to {most} acknowledged")
        return found
