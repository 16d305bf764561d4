"""Caps of addresses and networks for views that are written to the rows while Redis is away: each process' own.

Memory is fixed: a name is hashed to one of SLOTS counts. Names that share a slot share its count, so a cap may hold too
early, and never too late.
"""

import threading
import time
from array import array
from typing import Final

from videos.conf import conf
from videos.counters import Hashes, ViewEvent

SLOTS: Final = 65_536


class Cap:
    """How many views each of any number of names has counted in a window."""

    def __init__(self) -> None:
        self._counts = array("I", bytes(array("I").itemsize * SLOTS))
        self._ends = 0.0  # on time.monotonic()

    def count(self, name: object) -> int:
        """How many it has counted."""
        if time.monotonic() >= self._ends:
            self.__init__()  # type: ignore[misc]
            self._ends = time.monotonic() + conf.VIEW_WINDOW_SECONDS
        return self._counts[hash(name) % SLOTS]

    def add(self, name: object, number: int) -> None:
        """Count more, or fewer."""
        self._counts[hash(name) % SLOTS] += number


_caps = Cap(), Cap(), Cap()
_lock = threading.Lock()


def take(event: ViewEvent) -> bool:
    """Count this view for its address and network; False, and nothing counted, if one of them is at its limit."""
    caps = _caps_of(event)
    with _lock:
        if any(cap.count(name) >= limit for cap, name, limit in caps):
            return False
        for cap, name, _ in caps:
            cap.add(name, 1)
    return True


def give_back(event: ViewEvent) -> None:
    """Take back what `take` counted: the view was not written."""
    with _lock:
        for cap, name, _ in _caps_of(event):
            if cap.count(name):
                cap.add(name, -1)


def _caps_of(event: ViewEvent) -> list[tuple[Cap, object, int]]:
    """The caps that hold for a view, as view.lua has them."""
    of_video, of_address, of_network = _caps
    found: list[tuple[Cap, object, int]] = []
    # Under the hashes of before too, while windows of that time may be open: they go on when the hashes change.
    for _, address, network in (Hashes(None, event.address, event.network), event.before or Hashes()):
        if address is not None:
            if event.user_id is None:
                found.append((of_video, (event.video_id, address), conf.VIEW_ADDRESS_LIMIT))
            found.append((of_address, address, conf.ADDRESS_VIEWS))
        if network is not None:
            found.append((of_network, network, conf.NETWORK_VIEWS))
    return [one for one in found if one[2]]
