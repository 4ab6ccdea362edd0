"""When to try again, and when no more."""

from __future__ import annotations

import random
import time

import grpc

from .errors import OrderError

_FIRST_SECONDS = 0.1
#: Short, so that a service that is back after an outage is used again soon.
_LONGEST_SECONDS = 2.0


class Backoff:
    """Waits that grow from 0.1 s to 2 s, spread at random so that clients do not come back all at once."""

    def __init__(self) -> None:
        self._next_seconds = _FIRST_SECONDS

    def reset(self) -> None:
        """Begins again with the shortest: something has worked."""
        self._next_seconds = _FIRST_SECONDS

    def wait_seconds(self, error: OrderError) -> float:
        """How long to wait after ``error``: never less than the service asks for."""
        wait = random.uniform(0.5, 1.0) * self._next_seconds
        self._next_seconds = min(self._next_seconds * 2, _LONGEST_SECONDS)
        asked_for = (error.retry_delay_seconds or 0.0) * random.uniform(1.0, 1.2)
        return max(wait, asked_for)


class Attempts:
    """Those of one command: time limits them, and their number only if the caller says so."""

    def __init__(self, timeout_seconds: float, attempts: int | None) -> None:
        if attempts is not None and attempts < 1:
            raise ValueError("attempts must be at least 1")
        self._deadline = time.monotonic() + timeout_seconds
        self._left = attempts
        self._backoff = Backoff()

    @property
    def remaining_seconds(self) -> float:
        """The time for another attempt."""
        return max(self._deadline - time.monotonic(), 0.0)

    def wait_seconds(self, error: OrderError) -> float:
        """How long to wait after ``error`` before the next attempt; raises it if there is to be none."""
        # A service that cannot be reached has not answered: only time limits how often that is tried.
        if self._left is not None and not (error.code is grpc.StatusCode.UNAVAILABLE and not error.reason):
            self._left -= 1
        wait = self._backoff.wait_seconds(error)
        if self._left == 0 or not error.is_retryable or wait >= self.remaining_seconds:
            raise error
        return wait
