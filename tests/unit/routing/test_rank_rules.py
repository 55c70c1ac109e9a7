"""Each reason for which a candidate cannot take a request, the order of those that can, and what is recorded."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.ids import uuid7
from backend.routing.catalogue import TYPICAL_OUTPUT_TOKENS, Catalogue
from backend.routing.rank import rank
from backend.routing.rate_snapshot import RateSnapshot
from backend.routing.request import RoutingRequest
from tests.unit.samples import PRICE_CLASSES, candidate, catalogue, routing_request, tier

HALF_CODE = (("code", 0.5), ("chat", 0.5))


def reason(request: dict[str, Any], offered: dict[str, Any]) -> str | None:
    """Return why the one candidate does not clear, or None."""
    ranking = rank(routing_request(**request), catalogue(candidate("small", **offered)))
    (scored,) = (*ranking.eligible, *ranking.rejected)
    return scored.rejected


@pytest.mark.parametrize(
    ("request_changes", "candidate_changes", "expected"),
    [
        ({}, {}, None),
        ({"model": "small", "rule": "pinned_model"}, {}, None),
        ({"models": ("small",)}, {}, None),
        ({"fields": ("model", "service_tier")}, {"refused_fields": ["service_tier"]}, "refused_field"),
        ({"fields": ("model", "service_tier")}, {"refused_fields": []}, None),
        ({"needs": ("tools",)}, {"capabilities": ["tools"]}, None),
        ({"needs": ("tools", "vision")}, {"capabilities": ["tools"]}, "lacks_capability"),
        ({"output_limit_tokens": 50}, {"max_output_tokens": 50}, None),
        ({"output_limit_tokens": 51}, {"max_output_tokens": 50}, "output_limit"),
        ({"text_bytes": 401, "output_limit_tokens": 99}, {"context_window_tokens": 200}, None),
        ({"text_bytes": 401, "output_limit_tokens": 100}, {"context_window_tokens": 200}, "context_window"),
        ({"floor": 0.8}, {"qualities": {"general": 0.8}}, None),
        ({"floor": 0.8}, {"qualities": {"general": 0.7999999999999999}}, "below_floor"),
        ({"floor": 0.0}, {"qualities": {}}, "no_quality_estimate"),
        ({"floor": 0.8, "strict": True}, {"qualities": {"general": 0.8}}, "below_floor"),
        ({"floor": 0.6, "strict": True}, {"qualities": {"general": 0.8}}, None),
        (
            {"floor": 0.7, "posterior": (("code", 0.5), ("chat", 0.5))},
            {"qualities": {"code": 0.9, "general": 0.5}},
            None,
        ),
        (
            {"floor": 0.71, "posterior": (("code", 0.5), ("chat", 0.5))},
            {"qualities": {"code": 0.9, "general": 0.5}},
            "below_floor",
        ),
        ({"floor": None}, {"qualities": {}}, None),
        ({"floor": 0.8, "task": "code"}, {"qualities": {"general": 0.9, "code": 0.5}}, "below_floor"),
        ({"floor": 0.8, "task": "code"}, {"qualities": {"general": 0.5, "code": 0.9}}, None),
    ],
)
def test_a_candidate_is_rejected_for_its_reason(
    request_changes: dict[str, Any], candidate_changes: dict[str, Any], expected: str | None
) -> None:
    """Exactly at a limit it still clears; no estimate of its quality is no quality."""
    assert reason(request_changes, candidate_changes) == expected


@pytest.mark.parametrize(
    ("asked", "ranked"),
    [
        ({}, ["large", "medium", "small"]),
        ({"models": ("large", "small")}, ["large", "small"]),
        ({"model": "medium", "rule": "pinned_model"}, ["medium"]),
        ({"model": "medium", "rule": "pinned_model", "models": ("large",)}, []),
    ],
)
def test_models_that_the_caller_rules_out_are_not_ranked(asked: dict[str, Any], ranked: list[str]) -> None:
    """Nor recorded: what the request says is not said again for every model there is."""
    pool = catalogue(*(candidate(model) for model in ("small", "medium", "large")))
    recorded = rank(routing_request(**asked), pool).to_record()
    assert [entry["model"] for entry in recorded] == ranked


@pytest.mark.parametrize(("limit", "expected"), [(15, None), (14, "over_max_cost")])
def test_the_caller_s_cost_limit_is_held_against_the_bound(limit: int, expected: str | None) -> None:
    """By what it could cost at the most, cache writes and reasoning included, not by what it is expected to."""
    prices = {"input": 1, "cache_read": 0, "cache_write": 10_000, "output": 1, "reasoning": 50_000}
    # (400 bytes + 256 tokens of overhead) x 0.01 nano-USD = 6.56, and 2 answers x 84 tokens x 0.05 nano-USD = 8.4.
    asked = {"choices": 2, "output_limit_tokens": 84, "max_cost_nano_usd": limit}
    assert reason(asked, {"prices": prices}) == expected


def test_ties_are_broken_by_model_and_then_by_provider() -> None:
    """So the order does not hang on the catalogue's."""
    names = [("b", "y"), ("a", "z"), ("b", "x"), ("a", "y")]
    ranking = rank(routing_request(), catalogue(*(candidate(model, provider) for model, provider in names)))
    served = [(scored.candidate.model, scored.candidate.provider) for scored in ranking.eligible]
    assert served == [("a", "y"), ("a", "z"), ("b", "x"), ("b", "y")]


def test_a_better_candidate_that_is_dearer_comes_later() -> None:
    """Above the floor, quality buys nothing."""
    pool = catalogue(
        candidate("best", prices={"output": 1_000_000_000}, qualities={"general": 1.0}),
        candidate("good", prices={"output": 10_000_000}, qualities={"general": 0.7}),
    )
    assert [s.candidate.model for s in rank(routing_request(floor=0.7), pool).eligible] == ["good", "best"]


def test_the_best_quality_there_is_leaves_out_what_fails_for_other_reasons() -> None:
    """A caller that lowers its floor to it is then served."""
    pool = catalogue(
        candidate("fits", qualities={"general": 0.6}),
        candidate("fits-less", qualities={"general": 0.5}),
        candidate("too-small", qualities={"general": 0.65}, max_output_tokens=1),
    )
    best = rank(routing_request(floor=0.7), pool).best_below
    assert best is not None
    assert (best.candidate.model, best.quality) == ("fits", 0.6)
    assert rank(routing_request(floor=0.7), catalogue()).best_below is None


def test_the_record_of_a_ranking_has_every_ranked_candidate_the_clearing_first() -> None:
    """With what each would have cost, and why those that do not clear do not."""
    pool = catalogue(candidate("poor", qualities={"general": 0.1}), candidate("good"))
    recorded = rank(routing_request(), pool).to_record()
    assert [(entry["model"], entry["rejected"]) for entry in recorded] == [
        ("good", None),
        ("poor", "below_floor"),
    ]
    assert set(recorded[0]) == {
        "candidate_id",
        "provider",
        "model",
        "price_id",
        "quality",
        "quality_bound",
        "expected_cost_nano_usd",
        "bound_nano_usd",
        "rejected",
    }


@given(
    st.builds(
        RoutingRequest,
        rule=st.sampled_from(["cheapest_clearing_floor", "pinned_model"]),
        model=st.none() | st.text(),
        floor=st.none() | st.floats(0, 1),
        task=st.text(),
        text_bytes=st.integers(0, 2**53),
        choices=st.integers(1, 128),
        output_limit_tokens=st.integers(1, 2**53),
        fields=st.lists(st.text()).map(tuple),
        needs=st.lists(st.text()).map(tuple),
        max_cost_nano_usd=st.none() | st.integers(0, 2**63 - 1),
        models=st.none() | st.lists(st.text()).map(tuple),
        posterior=st.lists(st.tuples(st.text(), st.floats(0, 1))).map(tuple),
        classifier=st.none() | st.text(),
        on_miss=st.sampled_from(["reject", "best"]),
        strict=st.booleans(),
        explores=st.booleans(),
        quality_per_usd=st.floats(0, 1e6),
        rate_snapshot=st.none() | st.integers(1, 2**53),
    )
)
def test_a_request_comes_back_from_its_record_as_it_was(request: RoutingRequest) -> None:
    """Types included: a list in JSON is a tuple again."""
    assert RoutingRequest.from_record(json.loads(json.dumps(request.to_record()))) == request


@given(
    tokens=st.tuples(*[st.integers(0, 10**9)] * 2),
    prices=st.tuples(*[st.integers(0, 10**12)] * 6),
)
def test_the_bound_is_not_above_the_dearest_split(tokens: tuple[int, int], prices: tuple[int, ...]) -> None:
    """It is the least bound there is: nobody's funds are held for nothing. Huge prices lose no digit."""
    price = (
        catalogue(candidate("m", prices=dict(zip(PRICE_CLASSES, prices, strict=True)))).candidates[0].price
    )
    dearest = tokens[0] * max(prices[:4]) + tokens[1] * max(prices[4:])
    assert price.bound(*tokens) - 1 < dearest / 10**6 + 1
    assert price.bound(*tokens) * 10**6 - dearest in range(10**6)


@pytest.mark.parametrize(
    ("input_tokens", "output_tokens", "cost", "bound"),
    [
        # Up to 1,000 tokens of input at 1 and 4 nano-USD a token, beyond at 2 and 3: all of them, not those above.
        (0, 10, 40, 40),
        (1_000, 10, 1_040, 1_040),
        (1_001, 10, 2_032, 2_032),
        # Much output on little input: the tier below may still be the dearer one.
        (1_001, 10_000, 32_002, 41_001),
    ],
)
def test_a_long_context_has_a_price_of_its_own(
    input_tokens: int, output_tokens: int, cost: int, bound: int
) -> None:
    """What is reserved covers every tier that the input may fall in; what is expected is that of the whole input."""
    tiers = [tier(0, **in_and_out(1, 4)), tier(1_000, **in_and_out(2, 3))]
    price = catalogue(candidate("m", price={"id": str(uuid7()), "tiers": tiers})).candidates[0].price
    assert (price.cost(input_tokens, output_tokens), price.bound(input_tokens, output_tokens)) == (
        cost,
        bound,
    )


def in_and_out(into: int, out: int) -> dict[str, int]:
    """Return prices of a token, in nano-USD."""
    return {name: (into if PRICE_CLASSES.index(name) < 4 else out) * 10**6 for name in PRICE_CLASSES}


def test_media_are_reserved_by_the_candidate_s_own_limit() -> None:
    """An image has no bytes of text; what it can make at the most is in the catalogue."""
    asked = routing_request(media={"image": 2}, needs=("vision",))
    prices = dict.fromkeys(PRICE_CLASSES, 10**6)
    (scored,) = rank(asked, catalogue(candidate("m", max_image_tokens=7_000, prices=prices))).eligible
    assert scored.bound_nano_usd == 400 + 256 + 2 * 7_000 + 1024
    assert scored.expected_input_tokens == 100 + 2 * 7_000


def test_media_count_against_the_context_window() -> None:
    """By their bound."""
    asked = {"media": {"image": 1}, "needs": ("vision",), "output_limit_tokens": 100}
    assert reason(asked, {"context_window_tokens": 1_200, "max_image_tokens": 1_000}) is None
    assert reason(asked, {"context_window_tokens": 1_200, "max_image_tokens": 1_001}) == "context_window"


def test_models_are_listed_once_and_in_order() -> None:
    """However many providers run one."""
    assert catalogue(candidate("b"), candidate("a", "x"), candidate("a", "y")).models == ["a", "b"]


def test_the_mean_answer_of_the_classes_is_what_a_request_is_expected_to_cost() -> None:
    """As it was learned, weighed by how probable each class is; a guess where nothing is known; never above the limit."""
    prices = dict.fromkeys(PRICE_CLASSES, 0) | {"output": 10**6}
    entries = [candidate("m", prices=prices)]
    rates = RateSnapshot(output_tokens={"code": 900.0, "chat": 100.5})
    pool = Catalogue.from_record(1, entries, rates)

    def cost(**asked: Any) -> int:
        (scored,) = rank(routing_request(**asked), pool).eligible
        return scored.expected_cost_nano_usd

    assert cost(task="code") == cost(task="code.completion") == 900
    assert cost(task="code", choices=2) == 1_800
    assert cost(task="code", output_limit_tokens=300) == 300
    assert cost(posterior=(("code", 0.5), ("chat", 0.5))) == 501
    assert cost(task="mathematics") == TYPICAL_OUTPUT_TOKENS


def test_cost_weighs_against_quality_only_below_the_floor() -> None:
    """There by as much as the operator says; among what clears the cheapest comes first, whatever it says."""
    pool = catalogue(
        candidate("good", prices={"output": 1_000_000_000_000}, qualities={"general": 0.6}),
        candidate("fair", prices={"output": 1_000_000_000}, qualities={"general": 0.5}),
    )

    def first(floor: float, quality_per_usd: float) -> str:
        asked = routing_request(floor=floor, on_miss="best", quality_per_usd=quality_per_usd)
        return rank(asked, pool).eligible[0].candidate.model

    assert [first(0.9, weight) for weight in (0.0, 0.1, 1.0)] == ["good", "good", "fair"]
    assert [first(0.5, weight) for weight in (0.0, 1.0)] == ["fair", "fair"]
    assert [first(0.55, weight) for weight in (0.0, 1.0)] == ["good", "good"]


# Of a figure that is worth 12 answers, 0.62 is 0.5 at least: so far above it is 0.74.
DOUBTFUL: dict[str, Any] = {"qualities": {"general": 0.62}, "prices": {"output": 1_000_000}}
DEARER = {"output": 2_000_000}


@pytest.mark.parametrize(
    ("asked", "offered", "called", "explores"),
    [
        ({}, {}, ["doubtful", "sure"], True),
        ({"floor": 0.73}, {}, ["doubtful", "sure"], True),
        ({"floor": 0.75}, {}, ["sure"], False),
        ({"explores": False}, {}, ["sure"], False),
        ({"floor": 0.6}, {}, ["doubtful", "sure"], False),
        ({"floor": 0.9}, {}, [], False),
        ({"floor": 0.9, "on_miss": "best"}, {}, ["sure", "doubtful"], False),
        ({"floor": None}, {}, ["doubtful", "sure"], False),
        ({"model": "doubtful", "rule": "pinned_model"}, {}, [], False),
        ({"models": ("sure",)}, {}, ["sure"], False),
        ({"needs": ("tools",)}, {"capabilities": []}, ["sure"], False),
        ({}, {"qualities": {}}, ["sure"], False),
        # As dear as the other one; and cheaper by what is expected, but not by what is reserved.
        ({}, {"prices": DEARER}, ["sure"], False),
        ({}, {"prices": {"output": 1_000_000, "reasoning": 3_000_000}}, ["sure"], False),
        # By tokens, which rate limits count: an image makes up to 1,000 of the other one's.
        ({"media": {"image": 1}}, {"max_image_tokens": 1_000}, ["doubtful", "sure"], True),
        ({"media": {"image": 1}}, {"max_image_tokens": 1_001}, ["sure"], False),
    ],
)
def test_a_request_that_explores_goes_first_to_what_may_clear_the_floor(
    asked: dict[str, Any], offered: dict[str, Any], called: list[str], *, explores: bool
) -> None:
    """Where somebody clears it, and nothing but the floor is against the cheaper one."""
    pool = catalogue(candidate("doubtful", **{**DOUBTFUL, **offered}), candidate("sure", prices=DEARER))
    ranking = rank(routing_request(**{"explores": True, **asked}), pool)
    assert ([scored.candidate.model for scored in ranking.eligible], ranking.explores) == (called, explores)


def test_the_dearest_is_so_by_cost_whatever_the_order() -> None:
    """The best there is comes first by its quality."""
    pool = catalogue(candidate("good", prices=DEARER), candidate("bad", qualities={"general": 0.3}))
    ranking = rank(routing_request(floor=1.0, on_miss="best"), pool)
    assert [scored.candidate.model for scored in ranking.eligible] == ["good", "bad"]
    assert ranking.dearest == ranking.eligible[0]


def test_of_what_may_clear_the_cheapest_is_explored_and_no_other() -> None:
    """One a request, and each keeps the reason why it does not clear."""
    pool = catalogue(
        candidate("hopeless", qualities={"general": 0.3}, prices={"output": 500_000}),
        candidate("doubtful", **DOUBTFUL),
        candidate("less-doubtful", qualities={"general": 0.69}, prices={"output": 1_500_000}),
        candidate("sure", prices=DEARER),
    )
    recorded = rank(routing_request(explores=True), pool).to_record()
    assert [(entry["model"], entry["rejected"]) for entry in recorded] == [
        ("doubtful", "below_floor"),
        ("sure", None),
        ("hopeless", "below_floor"),
        ("less-doubtful", "below_floor"),
    ]


def test_a_record_from_before_there_was_exploring_is_read() -> None:
    """Such a request did not explore."""
    record = routing_request().to_record()
    del record["explores"]
    assert RoutingRequest.from_record(record) == routing_request()
