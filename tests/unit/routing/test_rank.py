"""Routing: the cheapest candidate that clears the floor, the same for the same inputs, bit for bit."""

import random
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
from hypothesis import given
from hypothesis import strategies as st

from backend.routing.catalogue import Catalogue
from backend.routing.rank import Scored, rank
from backend.routing.rate_snapshot import RateSnapshot
from backend.routing.request import RoutingRequest
from tests.unit.samples import PRICE_CLASSES, candidate, tier

MODELS = [f"model-{number}" for number in range(4)]
TASKS = ["chat", "code", "general", "mathematics"]
TIERS = [None, "large", "small"]
QUALITIES = st.floats(0, 1)
AMOUNTS = st.integers(0, 10**11)
NANO_USD_PER_USD = 10**9


@st.composite
def prices(draw: st.DrawFn, identity: UUID) -> dict[str, Any]:
    """Draw a price version of up to three tiers."""
    thresholds = sorted({0, *draw(st.lists(st.integers(1, 10**6), max_size=2))})
    amounts = st.fixed_dictionaries(dict.fromkeys(PRICE_CLASSES, AMOUNTS))
    return {"id": str(identity), "tiers": [tier(above, **draw(amounts)) for above in thresholds]}


@st.composite
def snapshots(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw the entries of a catalogue snapshot, up to eight: what is said of a model, all of its candidates say."""
    qualities = st.dictionaries(st.sampled_from(TASKS), QUALITIES)
    said = {model: (draw(qualities), draw(st.sampled_from(TIERS))) for model in MODELS}
    return [draw(_entries(number, said)) for number in range(draw(st.integers(0, 8)))]


@st.composite
def _entries(
    draw: st.DrawFn, number: int, said: dict[str, tuple[dict[str, float], str | None]]
) -> dict[str, Any]:
    model = draw(st.sampled_from(MODELS))
    qualities, model_tier = said[model]
    return candidate(
        model,
        f"provider-{number}",
        qualities=qualities,
        tier=model_tier,
        price=draw(prices(UUID(int=1000 + number))),
        refused_fields=draw(st.sampled_from([[], ["service_tier"]])),
        context_window_tokens=draw(st.sampled_from([1_000, 100_000])),
        max_output_tokens=draw(st.sampled_from([100, 5_000])),
        input_overhead_tokens=draw(st.integers(0, 300)),
        max_image_tokens=draw(st.integers(0, 3_000)),
        capabilities=draw(st.lists(st.sampled_from(["tools", "json"]), unique=True)),
    )


@st.composite
def learned(draw: st.DrawFn) -> RateSnapshot:
    """Draw what was learned: sums of answers that were good in part."""
    sums = st.tuples(QUALITIES, st.floats(0, 1000)).map(lambda drawn: (drawn[0] * drawn[1], drawn[1]))
    by_task = st.dictionaries(st.sampled_from(TASKS), sums)
    return RateSnapshot(
        id=draw(st.integers(1, 9)),
        learned=draw(st.dictionaries(st.sampled_from(MODELS), by_task)),
        output_tokens=draw(st.dictionaries(st.sampled_from(TASKS), st.floats(1, 2_000))),
    )


@st.composite
def posteriors(draw: st.DrawFn) -> tuple[tuple[str, float], ...]:
    """Draw probabilities of some classes, most probable first; or none, where one class is certain."""
    weights = draw(st.dictionaries(st.sampled_from(TASKS), st.integers(1, 100)))
    total = sum(weights.values())
    shares = [(task, weight / total) for task, weight in weights.items()]
    return tuple(sorted(shares, key=lambda share: (-share[1], share[0])))


REQUESTS = st.builds(
    RoutingRequest,
    rule=st.just("cheapest_clearing_floor"),
    model=st.none(),
    floor=st.floats(0, 1),
    task=st.sampled_from(["chat", "code"]),
    posterior=posteriors(),
    text_bytes=st.integers(1, 5_000),
    choices=st.integers(1, 3),
    output_limit_tokens=st.sampled_from([50, 1_000]),
    media=st.sampled_from([{}, {"image": 2}]),
    fields=st.sampled_from([("messages", "model"), ("messages", "model", "service_tier")]),
    needs=st.sampled_from([(), ("tools",)]),
    max_cost_nano_usd=st.none() | st.integers(0, 10**9),
    models=st.none() | st.just(("model-0", "model-1")),
    on_miss=st.sampled_from(["reject", "best"]),
    strict=st.booleans(),
    explores=st.booleans(),
    quality_per_usd=st.sampled_from([0.0, 0.1, 10.0]),
)


def held_against(request: RoutingRequest, scored: Scored) -> float | None:
    """Return what the floor is held against."""
    return scored.quality_bound if request.strict else scored.quality


@given(snapshots(), learned(), REQUESTS)
def test_whoever_may_be_called_clears_the_floor_and_the_cheapest_comes_first(
    entries: list[dict[str, Any]], rates: RateSnapshot, request: RoutingRequest
) -> None:
    """It fits, and nothing that also clears is cheaper. Below the floor nobody is called while anybody clears it.

    But for the first one of a request that explores.
    """
    ranking = rank(request, Catalogue.from_record(1, entries, rates))
    assert request.floor is not None
    for scored in ranking.eligible:
        assert scored.quality is not None
        assert scored.candidate.capabilities.issuperset(request.needs)
        assert scored.candidate.refused_fields.isdisjoint(request.fields)
        assert request.models is None or scored.candidate.model in request.models
        assert request.max_cost_nano_usd is None or scored.bound_nano_usd <= request.max_cost_nano_usd
    clears = [(held_against(request, scored) or 0) >= request.floor for scored in ranking.eligible]
    if ranking.floor_cleared:
        costs = [scored.expected_cost_nano_usd for scored in ranking.eligible]
        assert costs == sorted(costs)
        assert all(clears[1:])
        assert clears[0] != ranking.explores
        assert request.explores or not ranking.explores
    else:
        assert not any(clears)
        assert not ranking.eligible or request.on_miss == "best"
    asked_for = [entry for entry in entries if request.allows(entry["model"])]
    assert len(ranking.eligible) + len(ranking.rejected) == len(asked_for)
    assert all(scored.rejected for scored in ranking.rejected)


@given(snapshots(), learned(), REQUESTS)
def test_what_is_explored_is_the_cheapest_that_may_clear_before_what_does(
    entries: list[dict[str, Any]], rates: RateSnapshot, request: RoutingRequest
) -> None:
    """Cheaper than what would come first, no dearer at the most, by no more tokens; as far under the floor as it is in doubt."""
    catalogue = Catalogue.from_record(1, entries, rates)
    usual = rank(replace(request, explores=False), catalogue)
    ranking = rank(replace(request, explores=True), catalogue)
    assert request.floor is not None
    worth_trying = [
        scored
        for scored in usual.rejected
        if usual.eligible
        and usual.floor_cleared
        and scored.rejected == "below_floor"
        and (scored.quality or 0) + ((scored.quality or 0) - (scored.quality_bound or 0)) >= request.floor
        and scored.expected_cost_nano_usd < usual.eligible[0].expected_cost_nano_usd
        and scored.bound_nano_usd <= usual.eligible[0].bound_nano_usd
        and scored.expected_input_tokens <= usual.eligible[0].expected_input_tokens
    ]
    assert ranking.explores == bool(worth_trying)
    assert ranking.eligible == (*worth_trying[:1], *usual.eligible)
    assert ranking.rejected == tuple(s for s in usual.rejected if s not in worth_trying[:1])
    assert ranking.floor_cleared == usual.floor_cleared
    assert ranking.dearest == usual.dearest


@given(snapshots(), learned(), REQUESTS)
def test_who_takes_the_best_gets_it_where_nobody_clears(
    entries: list[dict[str, Any]], rates: RateSnapshot, request: RoutingRequest
) -> None:
    """The best quality less what the operator lets cost weigh, of all that only the floor rejects."""
    ranking = rank(request, Catalogue.from_record(1, entries, rates))
    if ranking.floor_cleared or request.on_miss == "reject":
        return

    def worth(scored: Scored) -> float:
        cost_usd = scored.expected_cost_nano_usd / NANO_USD_PER_USD
        return (held_against(request, scored) or 0) - request.quality_per_usd * cost_usd

    assert all(scored.rejected == "below_floor" for scored in ranking.eligible)
    assert not [scored for scored in ranking.rejected if scored.rejected == "below_floor"]
    values = [worth(scored) for scored in ranking.eligible]
    assert values == sorted(values, reverse=True)


@given(snapshots(), learned(), REQUESTS)
def test_what_is_rejected_for_want_of_quality_would_be_taken_for_less(
    entries: list[dict[str, Any]], rates: RateSnapshot, request: RoutingRequest
) -> None:
    """A caller that lowers its floor to the best that is told gets exactly that one."""
    catalogue = Catalogue.from_record(1, entries, rates)
    best = rank(request, catalogue).best_below
    if best is None or request.on_miss == "best":
        return
    lower = RoutingRequest.from_record(request.to_record() | {"floor": held_against(request, best)})
    assert best.candidate.id in [scored.candidate.id for scored in rank(lower, catalogue).eligible]


@given(snapshots(), learned(), REQUESTS, st.randoms())
def test_a_recorded_decision_is_recomputed_exactly(
    entries: list[dict[str, Any]], rates: RateSnapshot, request: RoutingRequest, chance: random.Random
) -> None:
    """After a round trip through JSON, and whatever order the catalogue comes in."""
    recorded = orjson.loads(orjson.dumps(rank(request, Catalogue.from_record(1, entries, rates)).to_record()))
    again = RoutingRequest.from_record(orjson.loads(orjson.dumps(request.to_record())))
    shuffled = list(entries)
    chance.shuffle(shuffled)
    assert (
        orjson.loads(orjson.dumps(rank(again, Catalogue.from_record(1, shuffled, rates)).to_record()))
        == recorded
    )
