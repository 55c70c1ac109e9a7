"""Which candidates are left alone for now, as far as this process knows.

Failures write cooldowns into the record with the attempt that failed; every backend reads them with the catalogue.
What this process saw itself counts at once.
"""

import time
from collections.abc import Callable, Mapping
from uuid import UUID


class Cooldowns:
    """Until when each candidate cools down. A shorter time never replaces a longer one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[UUID, float] = {}

    def start(self, candidate_id: UUID, seconds: float) -> None:
        """Leave a candidate alone for so long from now."""
        until = self._clock() + seconds
        self._until[candidate_id] = max(until, self._until.get(candidate_id, until))

    def learn(self, cooldowns_seconds: Mapping[UUID, float]) -> None:
        """Take over what the record knows, and forget what is past."""
        now = self._clock()
        self._until = {candidate: until for candidate, until in self._until.items() if until > now}
        for candidate, seconds in cooldowns_seconds.items():
            self.start(candidate, seconds)

    def remaining_seconds(self, candidate_id: UUID) -> float:
        """Return for how long a candidate is still to be left alone; 0: it may be called."""
        return max(0.0, self._until.get(candidate_id, 0.0) - self._clock())
