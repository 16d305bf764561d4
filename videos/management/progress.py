"""Progress of a long command, on a terminal only."""

import sys
import time

WIDTH = 30
REDRAW_SECONDS = 0.1


class Progress:
    """A bar on stderr, drawn over itself; silent where stderr is no terminal."""

    def __init__(self, label: str, *, shown: bool = True) -> None:
        self.label = label
        self.shown = shown and sys.stderr.isatty()
        self._drawn_at = 0.0

    def update(self, done: int, total: int, note: str = "") -> None:
        """Show `done` of `total`."""
        now = time.monotonic()
        if not self.shown or (done < total and now - self._drawn_at < REDRAW_SECONDS):
            return
        self._drawn_at = now
        filled = WIDTH * done // max(total, 1)
        self._draw(f"\r{self.label} [{'#' * filled:<{WIDTH}}] {done}/{total} {note}\033[K")

    def close(self) -> None:
        """Leave the line empty for what comes next."""
        if self.shown and self._drawn_at:
            self._draw("\r\033[K")

    @staticmethod
    def _draw(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
