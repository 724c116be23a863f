"""When to ask again: back-off, what the server asked for, and when it is to be given up."""

from __future__ import annotations

import random
import threading
import time

from greenrfm.errors import UserError

LONGEST_BACKOFF_S = 60.0
# So many reports in a row without any answer: nobody listens any more, or the server is broken.
GONE_AFTER, BROKEN_AFTER = 3, 10


class Pacing:
    """Shared by all threads of a run: what one of them is told, all keep to."""

    def __init__(self, host: str, backoff_s: float) -> None:
        """Begin without any wait."""
        self.answered = False
        self._host = host
        self._backoff_s = backoff_s
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._not_before = 0.0
        self._in_a_row = 0

    def wait_turn(self) -> None:
        """Wait until the server may be asked; raise UserError once the run was stopped."""
        while (seconds := self._not_before - time.monotonic()) > 0:
            self._sleep(seconds)
        self._sleep(0)

    def back_off(self, attempt: int, asked: float | None) -> None:
        """Wait before another attempt: `asked` seconds if the server said so, else twice as long each time.

        What the server asked for holds for every thread.
        """
        if asked is not None:
            with self._lock:
                self._not_before = max(self._not_before, time.monotonic() + asked)
        # Jitter: threads that failed together must not come back together.
        longest = min(self._backoff_s * 2**attempt, LONGEST_BACKOFF_S)
        self._sleep(random.uniform(0.5, 1) * longest if asked is None else random.uniform(0, 0.1) * asked)
        self.wait_turn()

    def stop(self) -> None:
        """Wake every thread that waits and let none ask again."""
        self._stopped.set()

    def good(self) -> None:
        """Take note of an answer."""
        self.answered = True
        self._in_a_row = 0

    def bad(self, reason: str, gone: bool) -> None:
        """Take note of a report that got no answer; raise UserError after too many in a row."""
        with self._lock:
            self._in_a_row += 1
            count = self._in_a_row
        if gone and count >= GONE_AFTER:
            raise UserError(f"the server at {self._host} is gone; start it and run the same command again to go on")
        if count >= BROKEN_AFTER:
            raise UserError(
                f"the server at {self._host} answered none of the last {count} reports ({reason}); "
                "mend it and run the same command again to go on"
            )

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds) if seconds > 0 else self._stopped.is_set():
            raise UserError("the run was stopped; run the same command again to go on")
