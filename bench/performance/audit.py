"""The proof behind a measure: answers are read, and provider, record and money agree afterwards."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import httpx

from bench.performance.gateways import Gateway
from bench.performance.provider import CONTENT, INSTANT, USAGE
from bench.performance.records import CHEAPEST_MODEL, COST_NANO_USD, Totals
from bench.performance.site import Site

_COMPLETION_SECONDS = 20.0
_POLL_SECONDS = 0.1
_SHOWN_FAULTS = 5
_CALL_SECONDS = 60.0
_NANO_USD_PER_USD = 10**9


class AuditError(Exception):
    """What was measured is not what was meant to be measured."""


@dataclass
class Tally:
    """What the callers of a measure have seen: whole answers, failures, and streams that ended before their end."""

    answered: int = 0
    failed: int = 0
    broken: int = 0


@contextmanager
def audited(site: Site, gateway: Gateway) -> Iterator[Tally]:
    """Hold callers, provider and record together over what is measured inside; nothing else may call meanwhile.

    Raises:
        AuditError: they do not agree.
    """
    since, calls_before = site.records.now(), site.provider_calls()
    tally = Tally()
    yield tally
    calls = sum(site.provider_calls().values()) - sum(calls_before.values())
    if gateway.is_ours:
        _check_record(site, since, tally, calls)
    reached = tally.answered + tally.broken
    _require(
        reached <= calls <= reached + tally.failed,
        f"{gateway.name}: the provider had {calls} calls, not {tally}",
    )


def _check_record(site: Site, since: datetime, tally: Tally, calls: int) -> None:
    totals = _completed(site, since)
    told = f"{tally}, {calls} calls of the provider, {totals}"
    _require(tally.failed == 0, f"Clearfloor refused or failed requests: {told}")
    _require(totals.decisions["open"] == 0, f"decisions are still open: {told}")
    _require(totals.decisions["succeeded"] == tally.answered, f"answers and decisions differ: {told}")
    _require(totals.attempts["succeeded"] == tally.answered, f"answers and attempts differ: {told}")
    _require(totals.http_calls == calls, f"attempts and calls differ: {told}")
    _require(
        sum(totals.decisions.values()) == tally.answered + tally.broken,
        f"requests and decisions differ: {told}",
    )
    if not tally.broken:
        cost = tally.answered * COST_NANO_USD
        _require(totals.charged_nano_usd == cost, f"{cost} nano-USD should be charged: {told}")
    faults = site.records.faults(since)
    _require(not faults, f"the books are wrong: {faults[:_SHOWN_FAULTS]}")


def _completed(site: Site, since: datetime) -> Totals:
    """Return what was recorded, once nothing is open any more or the time is up."""
    deadline = time.monotonic() + _COMPLETION_SECONDS
    while True:
        totals = site.records.totals(since)
        if not totals.decisions["open"] or time.monotonic() > deadline:
            return totals
        time.sleep(_POLL_SECONDS)


def check_answer(gateway: Gateway) -> None:
    """Make one plain call and read its answer.

    Raises:
        AuditError: it is not the provider's, or does not say what it cost.
    """
    response = _post(gateway, stream=False)
    body = response.json()
    _require(body["choices"][0]["message"]["content"] == CONTENT, f"{gateway.name} answered {body}")
    _require(body["usage"].items() >= USAGE.items(), f"{gateway.name} reported {body['usage']}")
    if gateway.is_ours:
        _check_headers(response.headers)
        cost = float(response.headers["x-clearfloor-cost-usd"]) * _NANO_USD_PER_USD
        _require(round(cost) == COST_NANO_USD, f"{cost} nano-USD were charged, not {COST_NANO_USD}")


def check_stream(gateway: Gateway) -> None:
    """Make one streamed call and read it to its end.

    Raises:
        AuditError: it is not the provider's, or does not say what it cost.
    """
    response = _post(gateway, stream=True)
    events = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    _require(events[-1] == "[DONE]", f"{gateway.name} ended with {events[-1]}")
    chunks = [json.loads(event) for event in events[:-1]]
    deltas = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    _require("".join(deltas) == CONTENT, f"{gateway.name} streamed {deltas}")
    if gateway.is_ours:
        _check_headers(response.headers)
        account = chunks[-1]["clearfloor"]
        cost = round(float(account["cost_usd"]) * _NANO_USD_PER_USD)
        _require(cost == COST_NANO_USD, f"{cost} nano-USD were charged, not {COST_NANO_USD}")


def _check_headers(headers: httpx.Headers) -> None:
    UUID(headers["x-clearfloor-decision-id"])
    told = {name: headers[f"x-clearfloor-{name}"] for name in ("model", "provider", "attempts")}
    meant = {"model": CHEAPEST_MODEL, "provider": INSTANT, "attempts": "1"}
    _require(told == meant, f"the headers say {told}")


def _post(gateway: Gateway, *, stream: bool) -> httpx.Response:
    request = gateway.request(stream=stream)
    headers = dict(request.headers) | {"content-type": "application/json"}
    response = httpx.post(
        request.url, headers=headers, content=request.body, timeout=_CALL_SECONDS, trust_env=False
    )
    _require(response.is_success, f"{gateway.name} answered {response.status_code}: {response.text}")
    return response


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 # reads as a sentence
    if not holds:
        raise AuditError(otherwise)
