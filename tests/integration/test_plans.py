"""What the hot path touches, with few rows and with a million: the same."""

from collections.abc import Iterator

import pytest

from bench.fill import fill
from bench.plans import Look, look
from bench.world import World, running_world

FEW_ROWS = 10_000
ROWS = 1_000_000
TENANTS = 64
# A level more of an index here and there, and pages that a million rows have filled up.
MOST_TIMES = 2


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Start a stack of its own, which nobody else slows down or fills."""
    with running_world(tenants=TENANTS, durable=False) as running:
        yield running


@pytest.mark.slow
def test_with_a_million_decisions_every_step_touches_what_it_did_with_few(world: World) -> None:
    """No growing table is read from end to end, nor an index, by the backend or a tenant; half the rows are one tenant's."""
    fill(world, world.free, FEW_ROWS)
    before = {found.step: found for found in look(world)}
    fill(world, world.free, ROWS)
    after = look(world)
    assert [found for found in after if found.growing] == []
    assert [found for found in after if found.pages > most_pages(before[found.step])] == []


def most_pages(found: Look) -> int:
    """Return how many pages a step may touch that touched so many with few rows."""
    return MOST_TIMES * found.pages + 100
