"""What goes on beside the requests."""

import asyncio
import time
from uuid import UUID

import httpx
import pytest

from backend.api.identity import Identities
from backend.api.parts import LiveCatalogue, Parts
from backend.api.tokens import TokenVerifier
from backend.background import (
    delete_old_decisions,
    publish_rates,
    refresh_catalogue,
    renew_leases,
    repeat,
    sweep,
)
from backend.errors import StoreUnavailableError
from backend.ids import uuid7
from backend.routing.rate_snapshot import RateSnapshot
from backend.store.client import RecordError
from tests.unit.boundary import Gateway
from tests.unit.samples import Json, candidate, catalogue

SMALL = candidate("small")
NO_RATES: Json = {"rate_snapshot": None, "rates": None}


def parts_of(gateway: Gateway) -> Parts:
    """Return the parts of a backend that has read nothing yet."""
    verifier = TokenVerifier(gateway.settings, gateway.record_http)
    identities = Identities(gateway.settings, gateway.data_api, verifier)
    api = gateway.data_api
    return Parts(gateway.settings, api, identities, gateway.dispatcher, api, LiveCatalogue())


async def test_a_catalogue_that_was_read_serves_with_its_cooldowns(gateway: Gateway) -> None:
    """What other backends saw counts here too."""
    parts = parts_of(gateway)
    cooldowns = {SMALL["id"]: 60.0}
    gateway.postgrest.scripts["read_catalogue"] = [
        {"version": 7, "candidates": [SMALL], "cooldowns": cooldowns} | NO_RATES
    ]
    await refresh_catalogue(parts)
    assert (parts.catalogue(), parts.live_catalogue.problem) == (catalogue(SMALL), None)
    assert gateway.cooldowns.remaining_seconds(UUID(SMALL["id"])) == pytest.approx(60, abs=5)


@pytest.mark.parametrize(
    ("answer", "expected", "problem"),
    [
        (httpx.ConnectError("down"), StoreUnavailableError, "cannot be reached"),
        (httpx.Response(400, json={"code": "42883", "message": "no"}), RecordError, "log says why"),
        (
            {"version": 8, "candidates": [{"id": SMALL["id"]}], "cooldowns": {}} | NO_RATES,
            KeyError,
            "log says why",
        ),
    ],
)
async def test_the_last_catalogue_serves_while_it_cannot_be_read(
    gateway: Gateway, answer: object, expected: type[Exception], problem: str
) -> None:
    """But readiness says so, and it recovers by itself."""
    parts = parts_of(gateway)
    known = {"version": 7, "candidates": [SMALL], "cooldowns": {}} | NO_RATES
    nothing_new: Json = {"version": 7, "candidates": None, "cooldowns": {}} | NO_RATES
    gateway.postgrest.scripts["read_catalogue"] = [known, answer, nothing_new]
    await refresh_catalogue(parts)
    with pytest.raises(expected):
        await refresh_catalogue(parts)
    assert parts.catalogue() == catalogue(SMALL)
    assert problem in (parts.live_catalogue.problem or "")
    await refresh_catalogue(parts)
    assert (parts.catalogue(), parts.live_catalogue.problem) == (catalogue(SMALL), None)
    asked = [parameters["known_version"] for _, parameters in gateway.postgrest.calls]
    assert asked == [None, 7, 7]


async def test_published_rates_are_read_once(gateway: Gateway) -> None:
    """The last ones serve until there are newer ones; which they are is asked with."""
    parts = parts_of(gateway)
    rates = {"prior_strength": 12, "learned": {"small": {"code": [4.5, 9]}}, "output_tokens": {"code": 250}}
    state = {"version": 7, "candidates": [], "cooldowns": {}}
    unchanged, newer = {"rate_snapshot": 3, "rates": None}, {"rate_snapshot": 4, "rates": rates}
    gateway.postgrest.scripts["read_catalogue"] = [
        state | each for each in (NO_RATES, {"rate_snapshot": 3, "rates": rates}, unchanged, newer)
    ]
    seen = []
    for _ in range(4):
        await refresh_catalogue(parts)
        assert parts.live_catalogue.current
        seen.append(parts.live_catalogue.current.rates)
    assert [rates.id for rates in seen] == [None, 3, 3, 4]
    assert seen[-1] == RateSnapshot(4, 12.0, {"small": {"code": (4.5, 9.0)}}, {"code": 250.0})
    asked = [parameters["known_rates"] for _, parameters in gateway.postgrest.calls]
    assert asked == [None, None, 3, 3]


async def test_rates_are_published_once_an_interval(gateway: Gateway) -> None:
    """The database is told how young the newest may be, so that several backends make no more."""
    gateway.postgrest.scripts["publish_rates"] = [3]
    await publish_rates(parts_of(gateway))
    least_age = gateway.settings.rate_publish_seconds
    assert gateway.postgrest.calls == [("publish_rates", {"least_age_seconds": least_age})]


async def test_the_sweep_goes_on_until_a_batch_is_not_full(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash may have left more than one batch."""
    size = gateway.settings.sweep_batch_size
    gateway.postgrest.scripts["sweep_decisions"] = [size, size, size - 1]
    parts, started = parts_of(gateway), time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: started + gateway.settings.lease_seconds + 1)
    await sweep(parts)
    assert gateway.postgrest.calls == [("sweep_decisions", {"batch_size": size})] * 3


async def test_the_sweep_waits_for_a_whole_lease_after_the_start(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an outage of everything others may be about to renew theirs."""
    parts, now = parts_of(gateway), time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    gateway.postgrest.scripts["sweep_decisions"] = [0]
    now += gateway.settings.lease_seconds - 1
    await sweep(parts)
    assert not gateway.postgrest.calls
    now += 1
    await sweep(parts)
    assert len(gateway.postgrest.calls) == 1


async def test_the_leases_of_what_is_open_are_renewed(gateway: Gateway) -> None:
    """All in one call; with nothing open there is none."""
    parts, ids = parts_of(gateway), [uuid7(), uuid7()]
    await renew_leases(parts)
    assert not gateway.postgrest.calls
    for decision_id in ids:
        gateway.completions.expect(decision_id)
    gateway.postgrest.scripts["renew_leases"] = [2]
    await renew_leases(parts)
    (sent,) = gateway.postgrest.calls
    assert sent[0] == "renew_leases"
    assert sorted(sent[1]["decisions"]) == sorted(str(decision_id) for decision_id in ids)
    assert sent[1]["lease_seconds"] == gateway.settings.lease_seconds


async def test_the_sweep_waits_for_a_whole_lease_after_the_record_was_away(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that ran meanwhile completes late: it is not taken for a crash."""
    now = 5000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    parts = parts_of(gateway)
    gateway.postgrest.scripts["read_catalogue"] = [httpx.ConnectError("down")]
    with pytest.raises(StoreUnavailableError):
        await refresh_catalogue(parts)
    gateway.postgrest.calls.clear()
    gateway.postgrest.scripts["sweep_decisions"] = [0]
    now += gateway.settings.lease_seconds - 1
    await sweep(parts)
    assert not gateway.postgrest.calls
    now += 1
    await sweep(parts)
    assert len(gateway.postgrest.calls) == 1


async def test_what_is_too_old_is_deleted_in_batches_with_pauses(
    gateway: Gateway, waits: list[float]
) -> None:
    """Until a batch finds nothing: one may leave out what somebody else holds at that moment."""
    gateway.postgrest.scripts["delete_old_decisions"] = [1000, 999, 0]
    await delete_old_decisions(parts_of(gateway))
    size, pause = gateway.settings.retention_batch_size, gateway.settings.retention_pause_seconds
    assert gateway.postgrest.calls == [("delete_old_decisions", {"batch_size": size})] * 3
    assert waits == [pause, pause]


@pytest.mark.parametrize(
    "error", [StoreUnavailableError("the record is away"), RecordError("refused"), ZeroDivisionError("a bug")]
)
async def test_work_that_fails_is_logged_and_done_again(
    error: Exception, waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """A background that ends silently would never recover."""
    done = asyncio.Event()
    outcomes: list[Exception | None] = [error, None, None]

    async def work() -> None:
        outcome = outcomes.pop(0)
        if not outcomes:
            done.set()
        if outcome:
            raise outcome

    task = asyncio.create_task(repeat(work, every_seconds=7.0))
    await done.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(waits) == {7.0}
    assert str(error) in caplog.text
