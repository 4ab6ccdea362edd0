"""How long to wait before trying again."""

from __future__ import annotations

import random

from .errors import OrderError

_FIRST_SECONDS = 0.1
_LONGEST_SECONDS = 5.0


class Backoff:
    """Waits that grow from 0.1 s to 5 s, spread at random so that clients do not come back all at once."""

    def __init__(self) -> None:
        self._next_seconds = _FIRST_SECONDS

    def reset(self) -> None:
        """Begins anew: something has worked."""
        self._next_seconds = _FIRST_SECONDS

    def wait_seconds(self, error: OrderError) -> float:
        """How long to wait after ``error``: never less than the service asks for."""
        wait = random.uniform(0.5, 1.0) * self._next_seconds
        self._next_seconds = min(self._next_seconds * 2, _LONGEST_SECONDS)
        asked_for = (error.retry_delay_seconds or 0.0) * random.uniform(1.0, 1.2)
        return max(wait, asked_for)
