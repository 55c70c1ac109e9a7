"""The promise itself, over random catalogues, requests and faults.

Whatever serves has the quality that was asked for, and is the cheapest such candidate that was available at that point,
unless the request explores: then a cheaper one that may have it comes first. What is recorded can be computed again; what
happens in dispatch changes no score.
"""

import asyncio
import os
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from math import ceil
from typing import Literal
from uuid import UUID

import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaincinv

from backend.dispatch.answers import Delivery
from backend.dispatch.dispatcher import Dispatcher
from backend.dispatch.order import Order
from backend.dispatch.relay import Relay
from backend.errors import (
    ClearfloorError,
    NoCandidateClearsFloorError,
    NoCandidateFitsError,
    ProviderRejectedRequestError,
)
from backend.ids import uuid7
from backend.routing.rank import rank
from backend.routing.rate_snapshot import NO_RATES
from backend.routing.request import RoutingRequest
from tests.unit.boundary import Gateway, Reply, answered, breaks, raw, refused, streamed_answer
from tests.unit.samples import PRICE_CLASSES, Json, candidate, catalogue, order, tier

Fault = Literal[
    "ok", "429", "429 for long", "500", "401", "400", "timeout", "malformed", "cooling", "no credentials"
]
FAULTS: tuple[Fault, ...] = (
    "ok",
    "ok",
    "ok",
    "429",
    "429 for long",
    "500",
    "401",
    "400",
    "timeout",
    "malformed",
    "cooling",
    "no credentials",
)
UNAVAILABLE = {"cooling", "no credentials"}
NAMES = ("a", "b", "c")
HTTP_CALLS = {"429": 3}
MISSING_KEY = "UNIT_TEST_KEY_THAT_IS_NOT_SET"


@dataclass(frozen=True)
class World:
    """What is drawn: candidates as the catalogue has them, each one's fault, and the request."""

    candidates: tuple[Json, ...]
    faults: tuple[Fault, ...]
    request: RoutingRequest
    may_fail_over: bool
    stream: bool

    def fault(self, name: str) -> Fault:
        """Return the fault of a candidate by its upstream name."""
        return next(
            f for c, f in zip(self.candidates, self.faults, strict=True) if c["upstream_model"] == name
        )


# Few prices and qualities, so that ties and exact hits of the floor are common.
PRICE = st.sampled_from([0, 1, 100_000_000, 100_000_001, 5_000_000_000])
# From so many input tokens on: below, at and above what the requests here have.
THRESHOLDS = st.sampled_from([(0,), (0,), (0, 100), (0, 256, 400), (0, 655, 656)])
QUALITY = st.sampled_from([0.7, 0.7000000000000001, 0.9, 1.0, 0.5])
FLOOR = st.sampled_from([0.7, 0.95, 0.5, 0.0, 0.7000000000000001, 1.0])

MEASURED = st.fixed_dictionaries({"general": QUALITY}, optional={"chat": QUALITY, "code": QUALITY})
# One model in seven of which nothing is known.
QUALITIES = st.sampled_from(range(7)).flatmap(lambda drawn: MEASURED if drawn else st.just({}))
POSTERIOR = st.sampled_from([(), (), (("chat", 0.75), ("code", 0.25)), (("law", 0.5), ("chat", 0.5))])


LIMITS: tuple[Json, ...] = (
    {},
    {},
    {},
    {"capabilities": []},
    {"max_output_tokens": 100},
    {"context_window_tokens": 500},
)


def tiers(above_input_tokens: int) -> st.SearchStrategy[Json]:
    """Draw a tier of a price."""
    classes = st.fixed_dictionaries(dict.fromkeys(PRICE_CLASSES, PRICE))
    return classes.map(lambda amounts: tier(above_input_tokens, **amounts))


@st.composite
def candidates(draw: st.DrawFn, name: tuple[str, str], fault: Fault, qualities: Json) -> Json:
    """Draw a candidate of a model, which has these qualities, and a provider."""
    return candidate(
        *name,
        price={"id": str(uuid7()), "tiers": [draw(tiers(above)) for above in draw(THRESHOLDS)]},
        qualities=qualities,
        **draw(st.sampled_from(LIMITS)),
        api_key_variable=MISSING_KEY if fault == "no credentials" else None,
    )


# One constraint at a time, besides the floor: together they would leave nothing to choose from.
CONSTRAINTS: st.SearchStrategy[Json] = st.one_of(
    st.just({}),
    st.just({}),
    st.just({"needs": ("tools",)}),
    st.builds(lambda most: {"max_cost_nano_usd": most}, st.sampled_from([10**9, 1_000_000, 0])),
    st.builds(lambda models: {"models": models}, st.sampled_from([("a", "b"), ("a",)])),
    st.builds(
        lambda model, floor: {"rule": "pinned_model", "model": model, "floor": floor},
        st.sampled_from(NAMES),
        st.none() | FLOOR,
    ),
)


@st.composite
def requests(draw: st.DrawFn) -> RoutingRequest:
    """Draw a request."""
    fields: Json = {
        "rule": "cheapest_clearing_floor",
        "model": None,
        "floor": draw(FLOOR),
        "task": draw(st.sampled_from(["chat", "code", "tool_use"])),
        "text_bytes": draw(st.sampled_from([400, 1, 1601])),
        "choices": draw(st.integers(1, 2)),
        "output_limit_tokens": draw(st.sampled_from([100, 101, 1024])),
        "posterior": draw(POSTERIOR),
        "on_miss": draw(st.sampled_from(["reject", "best"])),
        "explores": draw(st.booleans()),
    }
    return RoutingRequest(**{**fields, **draw(CONSTRAINTS)})


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draw a world."""
    every_name = [(model, provider) for model in NAMES for provider in ("x", "y")]
    # Most worlds are crowded: a failover needs somebody to fail and somebody to follow.
    count = draw(st.sampled_from([6, 6, 6, 5, 4, 2, 1, 0]))
    names = draw(st.permutations(every_name))[:count]
    faults = tuple(draw(st.sampled_from(FAULTS)) for _ in names)
    qualities = {model: draw(QUALITIES) for model in NAMES}
    return World(
        tuple(
            draw(candidates(name, fault, qualities[name[0]]))
            for name, fault in zip(names, faults, strict=True)
        ),
        faults,
        draw(requests()),
        may_fail_over=draw(st.sampled_from([True, True, True, False])),
        stream=draw(st.booleans()),
    )


def with_a_cheap_one_in_doubt(world: World) -> World:
    """Return a world with one model, the cheapest but for those that are free, a little under a floor that others reach."""
    doubtful = {"qualities": {"general": 0.65}, "price": {"id": str(uuid7()), "tiers": [DIRT_CHEAP]}}
    good = {"qualities": {"general": 0.9}}
    entries = tuple(entry | (doubtful if entry["model"] == "a" else good) for entry in world.candidates)
    request = replace(
        world.request, rule="cheapest_clearing_floor", model=None, floor=0.7, posterior=(), explores=True
    )
    return replace(world, candidates=entries, request=request)


DIRT_CHEAP = tier(0, **dict.fromkeys(PRICE_CLASSES, 1))
# Left to chance alone hardly any request would find somebody to explore.
WORLDS = worlds() | worlds().map(with_a_cheap_one_in_doubt)


def reply(fault: Fault, *, stream: bool) -> Reply:
    """Return how a candidate with a fault answers."""
    replies: dict[Fault, Reply] = {
        "ok": streamed_answer("Hi") if stream else answered("Hi"),
        "429": refused(429),
        "429 for long": refused(429, retry_after="60"),
        "500": refused(500),
        "401": refused(401),
        "400": refused(400),
        "timeout": breaks(httpx.ReadTimeout("slow")),
        "malformed": raw(b"data: nonsense\n\n" if stream else b"nonsense"),
    }
    return replies.get(fault, breaks(AssertionError(f"{fault}: not to be called")))


def quality_of(entry: Json, request: RoutingRequest) -> float | None:
    """Return the quality that is expected of a candidate: the mean over the classes, exact but for one rounding."""
    known = entry["qualities"]
    if not known:
        return None
    shares = request.posterior or [(request.task, 1)]
    return float(sum(Fraction(known.get(task, known["general"])) * Fraction(p) for task, p in shares))


@cache
def at_best(quality: float) -> float:
    """Return what is as far above a quality as SciPy's lower quantile is below it."""
    alpha = min(max(quality, 0.01), 0.99) * NO_RATES.prior_strength
    least = float(betaincinv(alpha, NO_RATES.prior_strength - alpha, 0.2))
    return 2 * quality - min(least, quality)


def may_clear(entry: Json, request: RoutingRequest) -> bool:
    """Tell whether a candidate may reach the floor after all."""
    known = entry["qualities"]
    shares = request.posterior or [(request.task, 1)]
    likely = sum(at_best(known.get(task, known["general"])) * p for task, p in shares)
    return request.floor is not None and likely >= request.floor


def fits(entry: Json, request: RoutingRequest) -> bool:
    """Tell whether a candidate can take a request, whatever its quality: the rules once more, written another way."""
    return (
        request.model in {None, entry["model"]}
        and entry["model"] in (request.models or NAMES)
        and set(request.needs) <= set(entry["capabilities"])
        and request.output_limit_tokens <= entry["max_output_tokens"]
        and ceil(Fraction(request.text_bytes, 4)) + request.output_limit_tokens
        <= entry["context_window_tokens"]
        and (request.max_cost_nano_usd is None or bound(entry, request) <= request.max_cost_nano_usd)
    )


def clears(entry: Json, request: RoutingRequest) -> bool:
    """Tell whether a candidate can take a request and reaches its floor."""
    quality = quality_of(entry, request)
    return fits(entry, request) and (
        request.floor is None or (quality is not None and quality >= request.floor)
    )


def bound(entry: Json, request: RoutingRequest) -> int:
    """Return the most that a request can cost: every byte a token, at the dearest price."""
    tokens_in = request.text_bytes + entry["input_overhead_tokens"]
    tokens_out = request.choices * request.output_limit_tokens
    dearest = 0
    for offered in entry["price"]["tiers"]:
        if offered["above_input_tokens"] < tokens_in:
            per_token_in = max(offered[f"{n}_nano_usd_per_mtok"] for n in PRICE_CLASSES[:4])
            per_token_out = max(offered[f"{n}_nano_usd_per_mtok"] for n in PRICE_CLASSES[4:])
            dearest = max(dearest, tokens_in * per_token_in + tokens_out * per_token_out)
    return ceil(Fraction(dearest, 10**6))


def expected_cost(entry: Json, request: RoutingRequest) -> int:
    """Return what a request is expected to cost: four bytes a token in, at the most 512 tokens out."""
    tokens_in = ceil(Fraction(request.text_bytes, 4))
    tokens_out = request.choices * min(request.output_limit_tokens, 512)
    last = [t for t in entry["price"]["tiers"] if t["above_input_tokens"] < tokens_in][-1]
    nano = tokens_in * last["input_nano_usd_per_mtok"] + tokens_out * last["output_nano_usd_per_mtok"]
    return ceil(Fraction(nano, 10**6))


def may_be_called(world: World) -> list[Json]:
    """Return who may be called, in order: whoever clears, the cheapest first; or else, if the caller takes it, the best.

    Before those that clear comes whoever is explored.
    """
    request = world.request

    def cheapest_first(entry: Json) -> tuple[int, str, str]:
        return expected_cost(entry, request), entry["model"], entry["provider"]

    def best_first(entry: Json) -> tuple[float, tuple[int, str, str]]:
        return -(quality_of(entry, request) or 0), cheapest_first(entry)

    known = [e for e in world.candidates if fits(e, request) and quality_of(e, request) is not None]
    if clearing := sorted((e for e in world.candidates if clears(e, request)), key=cheapest_first):
        doubtful = [e for e in known if not clears(e, request) and may_clear(e, request)]
        return [*explored(request, sorted(doubtful, key=cheapest_first), clearing[0]), *clearing]
    return sorted(known, key=best_first) if request.on_miss == "best" else []


def explored(request: RoutingRequest, doubtful: list[Json], usual: Json) -> list[Json]:
    """Return the first of the doubtful that costs less than who would come first, and at the most no more."""
    cheaper = [
        entry
        for entry in doubtful
        if expected_cost(entry, request) < expected_cost(usual, request)
        and bound(entry, request) <= bound(usual, request)
    ]
    return cheaper[:1] if request.explores else []


def expected_attempts(world: World) -> list[str]:
    """Return the upstream names that are to be called, in order. What one that is explored refuses, another may take."""
    attempts: list[str] = []
    candidates = may_be_called(world)
    somebody_clears = any(clears(entry, world.request) for entry in candidates)
    for entry in candidates:
        fault = world.fault(entry["upstream_model"])
        if fault in UNAVAILABLE:
            continue
        attempts.append(entry["upstream_model"])
        is_explored = somebody_clears and not clears(entry, world.request)
        if fault == "ok" or not world.may_fail_over or (fault == "400" and not is_explored):
            break
    return attempts


async def carried_out(gateway: Gateway, world: World, asked: Order) -> Delivery | Relay | ClearfloorError:
    """Dispatch the request in its world; read a stream to its end."""
    for entry, fault in zip(world.candidates, world.faults, strict=True):
        gateway.script(entry, reply(fault, stream=world.stream))
        if fault == "cooling":
            gateway.cooldowns.start(UUID(entry["id"]), 60)
    dispatcher: Dispatcher = gateway.dispatcher
    try:
        delivery = await dispatcher.dispatch(asked)
    except ClearfloorError as error:
        return error
    if isinstance(delivery, Relay):
        async for _event in delivery:
            pass
        await delivery.aclose()
    return delivery


def run(world: World) -> tuple[Gateway, Order, Delivery | Relay | ClearfloorError]:
    """Carry a world's request out, without waiting."""
    asked = order(world.candidates, world.request, stream=world.stream, may_fail_over=world.may_fail_over)
    sleep = asyncio.sleep

    async def no_wait(_seconds: float) -> None:
        await sleep(0)

    async def inside() -> tuple[Gateway, Delivery | Relay | ClearfloorError]:
        gateway = Gateway()
        return gateway, await carried_out(gateway, world, asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "sleep", no_wait)
        gateway, outcome = asyncio.run(inside())
    return gateway, asked, outcome


def distinct(names: list[str]) -> list[str]:
    """Return names without their immediate repetitions: calls of one attempt."""
    return [name for i, name in enumerate(names) if i == 0 or names[i - 1] != name]


def check_calls(gateway: Gateway, world: World) -> list[str]:
    """Check who was called, in which order and how often; return the attempts."""
    attempts = expected_attempts(world)
    assert distinct(gateway.providers.called) == attempts
    for name in attempts:
        assert gateway.providers.called.count(name) == HTTP_CALLS.get(world.fault(name), 1)
    return attempts


def check_record(gateway: Gateway, world: World, asked: Order, attempts: list[str]) -> None:
    """Check that the record can be computed again, and that every attempt is in it with its own bound."""
    (opening,) = gateway.postgrest.sent("insert_decisions")
    again = RoutingRequest.from_record(orjson.loads(orjson.dumps(opening["routing_request"])))
    backwards = catalogue(*reversed(orjson.loads(orjson.dumps(world.candidates))))
    assert orjson.loads(orjson.dumps(rank(again, backwards).to_record())) == opening["candidates"]
    assert asked.ranking == rank(world.request, catalogue(*world.candidates))
    opened = [opening] if attempts else []
    opened += gateway.postgrest.sent("insert_attempts")
    by_id = {entry["id"]: entry for entry in world.candidates}
    assert [by_id[item["candidate_id"]]["upstream_model"] for item in opened] == attempts
    assert [item["bound_nano_usd"] for item in opened] == [
        bound(by_id[i["candidate_id"]], world.request) for i in opened
    ]


def check_outcome(gateway: Gateway, world: World, outcome: object, attempts: list[str]) -> None:
    """Check what the caller got, and that the one completion says the same."""
    (completion,) = gateway.postgrest.sent("complete_decisions")
    last = world.fault(attempts[-1]) if attempts else None
    expected = {"ok": "succeeded", None: None}.get(last, "failed_provider_error")
    assert isinstance(outcome, Delivery | Relay) == (last == "ok")
    assert isinstance(outcome, ProviderRejectedRequestError) == (last == "400")
    if attempts:
        assert completion["outcome_status"] == expected
        assert (completion["attempt"] is not None, completion["decision_rule_override"]) == (True, None)
    else:
        nothing = not may_be_called(world)
        assert isinstance(outcome, NoCandidateClearsFloorError | NoCandidateFitsError) == nothing
        override = "no_candidate_cleared_floor" if nothing else "failed_pre_dispatch"
        assert (completion["attempt"], completion["decision_rule_override"]) == (None, override)


def check_promise(world: World, outcome: object) -> None:
    """Check that whatever served is good enough, allowed, affordable, and was the cheapest available.

    Below the floor somebody serves only where nobody reaches it and the caller takes that; then it is the best available. Or
    where the request explores; then it was to be called first, and is cheaper than all that reach it.
    """
    if not isinstance(outcome, Delivery | Relay):
        return
    facts = outcome.facts
    served = next(e for e in world.candidates if (e["provider"], e["model"]) == (facts.provider, facts.model))
    request = world.request
    clearing = [entry for entry in world.candidates if clears(entry, request)]
    is_cleared = bool(clearing)
    assert facts.floor_cleared == (None if request.floor is None else clears(served, request))
    if is_cleared and not clears(served, request):
        assert request.explores
        assert served == may_be_called(world)[0]
        assert expected_cost(served, request) < min(expected_cost(entry, request) for entry in clearing)
    else:
        assert is_cleared or request.on_miss == "best"
    assert fits(served, request)
    assert request.model in {None, served["model"]}
    assert served["model"] in (request.models or NAMES)
    assert request.max_cost_nano_usd is None or bound(served, request) <= request.max_cost_nano_usd
    working = [entry for entry in may_be_called(world) if world.fault(entry["upstream_model"]) == "ok"]
    if world.may_fail_over and is_cleared:
        assert expected_cost(served, request) == min(expected_cost(entry, request) for entry in working)
    elif world.may_fail_over:
        assert quality_of(served, request) == max(quality_of(entry, request) or 0 for entry in working)


@settings(max_examples=200)
@given(WORLDS)
def test_whatever_serves_clears_the_floor_and_is_the_cheapest_available(world: World) -> None:
    """In every world: the calls, the record, the outcome and the promise."""
    assert MISSING_KEY not in os.environ
    gateway, asked, outcome = run(world)
    attempts = check_calls(gateway, world)
    check_record(gateway, world, asked, attempts)
    check_outcome(gateway, world, outcome, attempts)
    check_promise(world, outcome)


def kind(world: World) -> str:
    """Say in a word what is to happen in a world."""
    attempts = expected_attempts(world)
    if not attempts:
        return "nobody is available" if may_be_called(world) else "nothing clears"
    if not any(clears(entry, world.request) for entry in world.candidates):
        return "the best there is"
    if world.fault(attempts[-1]) == "ok":
        reach = {entry["upstream_model"] for entry in world.candidates if clears(entry, world.request)}
        if attempts[-1] not in reach:
            return "explored"
        if attempts[0] not in reach:
            return "served after exploring in vain"
        return "served after a failover" if len(attempts) > 1 else "served at once"
    return "rejected" if world.fault(attempts[-1]) == "400" else "all failed"


def test_the_worlds_that_are_drawn_are_of_every_kind() -> None:
    """A property over one kind only would prove little."""
    seen: set[str] = set()

    @settings(max_examples=500, derandomize=True, database=None)
    @given(WORLDS)
    def look(world: World) -> None:
        seen.add(kind(world))

    look()
    assert seen == {
        "the best there is",
        "explored",
        "served at once",
        "served after a failover",
        "served after exploring in vain",
        "rejected",
        "all failed",
        "nobody is available",
        "nothing clears",
    }
