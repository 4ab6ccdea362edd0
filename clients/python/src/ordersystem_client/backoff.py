"""When to retry, and when to give up."""

from __future__ import annotations

import random
import time

import grpc

from .errors import OrderError

_FIRST_SECONDS = 0.1
#: Short, so that a service is used again soon after an outage.
_LONGEST_SECONDS = 2.0


class Backoff:
    """Delays that grow from 0.1 s to 2 s, with jitter so that clients do not all return at once."""

    def __init__(self) -> None:
        self._next_seconds = _FIRST_SECONDS

    def reset(self) -> None:
        """Returns to the shortest delay, after a success."""
        self._next_seconds = _FIRST_SECONDS

    def wait_seconds(self, error: OrderError) -> float:
        """The delay after ``error``: at least the one that the service requests."""
        wait = random.uniform(0.5, 1.0) * self._next_seconds
        self._next_seconds = min(self._next_seconds * 2, _LONGEST_SECONDS)
        asked_for = (error.retry_delay_seconds or 0.0) * random.uniform(1.0, 1.2)
        return max(wait, asked_for)


class Attempts:
    """The delays of one command: limited by time, and in number only if the caller requests it."""

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
        """The delay after ``error`` before the next attempt; raises it if there is none."""
        # An unreachable service has not replied: only time limits these attempts.
        if self._left is not None and not (error.code is grpc.StatusCode.UNAVAILABLE and not error.reason):
            self._left -= 1
        wait = self._backoff.wait_seconds(error)
        if self._left == 0 or not error.is_retryable or wait >= self.remaining_seconds:
            raise error
        return wait
