"""The catalogue as it is read from the record."""

from uuid import UUID

from backend.store.catalogue import read_catalogue
from tests.unit.boundary import Gateway
from tests.unit.samples import candidate, catalogue

NO_RATES = {"rate_snapshot": None, "rates": None}


async def test_a_catalogue_is_a_snapshot_with_its_version(gateway: Gateway) -> None:
    """And the cooldowns of its candidates, in seconds from now."""
    small = candidate("small")
    gateway.postgrest.scripts["read_catalogue"] = [
        {"version": 7, "candidates": [small], "cooldowns": {small["id"]: 1.5}} | NO_RATES
    ]
    state = await read_catalogue(gateway.data_api, None, None)
    assert state.catalogue == catalogue(small, version=7)
    assert state.cooldowns_seconds == {UUID(small["id"]): 1.5}


async def test_a_catalogue_that_is_known_is_not_sent_again(gateway: Gateway) -> None:
    """Its version is asked with; the cooldowns come all the same."""
    gateway.postgrest.scripts["read_catalogue"] = [
        {"version": 7, "candidates": None, "cooldowns": {}} | NO_RATES
    ]
    state = await read_catalogue(gateway.data_api, 7, 3)
    assert (state.catalogue, state.rates, state.cooldowns_seconds) == (None, None, {})
    assert gateway.postgrest.calls == [("read_catalogue", {"known_version": 7, "known_rates": 3})]


async def test_an_empty_catalogue_is_a_catalogue(gateway: Gateway) -> None:
    """Everything was switched off: not the same as nothing new."""
    gateway.postgrest.scripts["read_catalogue"] = [
        {"version": 8, "candidates": [], "cooldowns": {}} | NO_RATES
    ]
    assert (await read_catalogue(gateway.data_api, 7, 3)).catalogue == catalogue(version=8)
