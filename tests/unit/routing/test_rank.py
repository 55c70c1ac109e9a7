"""Routing: the cheapest candidate that clears the floor, the same for the same inputs, bit for bit."""

import random
from uuid import UUID

import orjson
from hypothesis import given
from hypothesis import strategies as st

from backend.routing.catalogue import Candidate, Catalogue, Price, PriceTier
from backend.routing.rank import rank
from backend.routing.request import RoutingRequest

AMOUNTS = st.integers(0, 10**11)


@st.composite
def prices(draw: st.DrawFn, identity: UUID) -> Price:
    """Draw a price version of up to three tiers."""
    thresholds = sorted({0, *draw(st.lists(st.integers(1, 10**6), max_size=2))})
    return Price(
        identity, tuple(PriceTier(above, *(draw(AMOUNTS) for _ in range(6))) for above in thresholds)
    )


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    """Draw up to eight candidates."""
    count = draw(st.integers(0, 8))
    return [
        Candidate(
            id=UUID(int=number),
            provider=f"provider-{draw(st.integers(0, 2))}-{number}",
            model=f"model-{draw(st.integers(0, 3))}",
            upstream_model="upstream",
            wire_format="openai",
            base_url="http://127.0.0.1:1/v1",
            api_key_variable=None,
            output_limit_field="max_tokens",
            usage_convention="openai",
            refused_fields=frozenset(draw(st.sampled_from([(), ("service_tier",)]))),
            context_window_tokens=draw(st.sampled_from([1_000, 100_000])),
            max_output_tokens=draw(st.sampled_from([100, 5_000])),
            input_overhead_tokens=draw(st.integers(0, 300)),
            media_tokens={"image": draw(st.integers(0, 3_000)), "file": 0, "audio": 0},
            capabilities=frozenset(draw(st.sets(st.sampled_from(["tools", "json"])))),
            price=draw(prices(UUID(int=1000 + number))),
            qualities=draw(st.dictionaries(st.sampled_from(["chat", "general"]), st.floats(0, 1))),
        )
        for number in range(count)
    ]


REQUESTS = st.builds(
    RoutingRequest,
    rule=st.just("cheapest_clearing_floor"),
    model=st.none(),
    floor=st.floats(0, 1),
    task=st.sampled_from(["chat", "code"]),
    text_bytes=st.integers(1, 5_000),
    choices=st.integers(1, 3),
    output_limit_tokens=st.sampled_from([50, 1_000]),
    media=st.sampled_from([{}, {"image": 2}]),
    fields=st.sampled_from([("messages", "model"), ("messages", "model", "service_tier")]),
    needs=st.sampled_from([(), ("tools",)]),
    max_cost_nano_usd=st.none() | st.integers(0, 10**9),
    models=st.none() | st.just(("model-0", "model-1")),
)


@given(candidates(), REQUESTS)
def test_only_what_clears_the_floor_is_ranked_and_cheapest_first(
    pool: list[Candidate], request: RoutingRequest
) -> None:
    """Whatever is served is good enough, fits, and nothing that also clears is cheaper."""
    ranking = rank(request, Catalogue(1, tuple(pool)))
    costs = [scored.expected_cost_nano_usd for scored in ranking.clearing]
    assert costs == sorted(costs)
    for scored in ranking.clearing:
        assert scored.quality is not None
        assert request.floor is not None
        assert scored.quality >= request.floor
        assert scored.candidate.capabilities.issuperset(request.needs)
        assert scored.candidate.refused_fields.isdisjoint(request.fields)
        assert request.models is None or scored.candidate.model in request.models
        assert request.max_cost_nano_usd is None or scored.bound_nano_usd <= request.max_cost_nano_usd
    asked_for = [candidate for candidate in pool if request.allows(candidate.model)]
    assert len(ranking.clearing) + len(ranking.rejected) == len(asked_for)
    assert all(scored.rejected for scored in ranking.rejected)


@given(candidates(), REQUESTS, st.randoms())
def test_a_recorded_decision_is_recomputed_exactly(
    pool: list[Candidate], request: RoutingRequest, chance: random.Random
) -> None:
    """After a round trip through JSON, and whatever order the catalogue comes in."""
    recorded = orjson.loads(orjson.dumps(rank(request, Catalogue(1, tuple(pool))).to_record()))
    again = RoutingRequest.from_record(orjson.loads(orjson.dumps(request.to_record())))
    shuffled = list(pool)
    chance.shuffle(shuffled)
    assert orjson.loads(orjson.dumps(rank(again, Catalogue(1, tuple(shuffled))).to_record())) == recorded
