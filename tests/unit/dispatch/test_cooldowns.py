"""Until when a candidate is left alone."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from backend.dispatch.cooldowns import Cooldowns

ONE, OTHER = UUID(int=1), UUID(int=2)


class Clock:
    """Time that passes when a test says so."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the moment, in seconds."""
        return self.now


def test_a_candidate_is_left_alone_for_its_time_and_no_longer() -> None:
    """It alone."""
    clock = Clock()
    cooldowns = Cooldowns(clock)
    cooldowns.start(ONE, 60)
    assert (cooldowns.remaining_seconds(ONE), cooldowns.remaining_seconds(OTHER)) == (60, 0)
    clock.now += 59
    assert cooldowns.remaining_seconds(ONE) == 1
    clock.now += 1
    assert cooldowns.remaining_seconds(ONE) == 0


def test_a_shorter_cooldown_never_overwrites_a_longer_one() -> None:
    """A 429 of ten seconds does not lift the hour that another one asked for; a longer one counts."""
    cooldowns = Cooldowns(Clock())
    cooldowns.start(ONE, 3600)
    cooldowns.start(ONE, 10)
    cooldowns.learn({ONE: 5})
    assert cooldowns.remaining_seconds(ONE) == 3600
    cooldowns.learn({ONE: 7200})
    assert cooldowns.remaining_seconds(ONE) == 7200


def test_what_the_record_does_not_know_yet_is_kept() -> None:
    """The row of the attempt that failed may still be on its way."""
    cooldowns = Cooldowns(Clock())
    cooldowns.start(ONE, 60)
    cooldowns.learn({OTHER: 30})
    assert (cooldowns.remaining_seconds(ONE), cooldowns.remaining_seconds(OTHER)) == (60, 30)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1e6), st.floats(0, 1e6)), max_size=20))
def test_the_latest_end_of_all_counts(events: list[tuple[bool, float, float]]) -> None:
    """Whoever told it, and whenever."""
    clock = Clock()
    cooldowns = Cooldowns(clock)
    latest = 0.0
    for learned, passes, seconds in events:
        clock.now += passes
        if learned:
            cooldowns.learn({ONE: seconds})
        else:
            cooldowns.start(ONE, seconds)
        latest = max(latest, clock.now + seconds)
        assert cooldowns.remaining_seconds(ONE) == max(0.0, latest - clock.now)
