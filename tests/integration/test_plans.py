"""What the hot path and a tenant touch, with few rows and with a million: the same."""

from collections.abc import Iterator

import pytest

from bench.fill import fill
from bench.plans import GROWING, Look, look, tenant_reads
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


@pytest.fixture(scope="module")
def looks_before(world: World) -> dict[str, Look]:
    """Look at everything with few rows; then fill in a million, of which half are the first tenant's."""
    fill(world, world.free, FEW_ROWS)
    before = {found.step: found for found in look(world)}
    fill(world, world.free, ROWS)
    return before


@pytest.mark.slow
def test_with_a_million_decisions_every_step_touches_what_it_did_with_few(
    world: World, looks_before: dict[str, Look]
) -> None:
    """No growing table is read from end to end, nor an index, by the backend or a tenant."""
    after = look(world)
    assert [found for found in after if found.growing] == []
    assert [found for found in after if found.pages > most_pages(looks_before[found.step])] == []


@pytest.mark.slow
@pytest.mark.usefixtures("looks_before")
@pytest.mark.parametrize("number", [0, 1], ids=["half of all rows", "one in 128"])
def test_with_a_million_decisions_a_tenant_reads_its_own_rows_only(world: World, number: int) -> None:
    """A page reads a page; a count and usage no more rows than the tenant has; and none from end to end."""
    reads = tenant_reads(world, world.free[number])
    assert [read for read in reads if GROWING & read.scans] == []
    assert [read for read in reads if not 0 < max(read.rows.values(), default=0) <= read.most] == []


def most_pages(found: Look) -> int:
    """Return how many pages a step may touch that touched so many with few rows."""
    return MOST_TIMES * found.pages + 100
