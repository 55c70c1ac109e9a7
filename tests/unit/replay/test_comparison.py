"""Decisions computed again: what is equal, what differs, and what cannot be told."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.ids import uuid7
from backend.replay.comparison import Change, changed_decisions, replay
from backend.replay.decision import Choice, Decision, NotRecomputableError, read_catalogue
from backend.replay.report import MOST_NAMED, change_lines, limit_lines, replay_lines
from backend.routing.catalogue import Catalogue
from backend.routing.rank import rank
from backend.routing.rate_snapshot import RateSnapshot
from backend.routing.request import RoutingRequest
from tests.unit.samples import candidate, catalogue, ladder, routing_request

OLD = catalogue(*ladder(3))
CHEAP, DEAR = Choice("provider-1", "model-1", 512_000), Choice("provider-2", "model-2", 1_024_000)


def recorded(request: RoutingRequest | None = None, made_by: Catalogue = OLD) -> Decision:
    """Return a decision as it comes back from its row."""
    request = request or routing_request()
    row = {"request": request.to_record(), "ranking": rank(request, made_by).to_record()}
    return Decision(uuid7(), made_by.version, **orjson.loads(orjson.dumps(row)))


def by_old(_: Decision) -> Catalogue:
    """Take every decision as made by the same catalogue."""
    return OLD


def cannot(_: Decision) -> Catalogue:
    """Have no catalogue that this version reads."""
    raise NotRecomputableError("catalogue 7 cannot be read")


@given(
    floor=st.floats(0, 1) | st.none(),
    text_bytes=st.integers(0, 1_000_000),
    output_limit_tokens=st.integers(1, 20_000),
    media=st.dictionaries(st.sampled_from(["image", "file", "audio"]), st.integers(1, 3)),
    needs=st.lists(st.sampled_from(["audio", "json"])).map(tuple),
)
def test_a_decision_comes_out_of_its_record_as_it_went_in(**request: Any) -> None:
    """The whole ranking, whatever was asked."""
    compared = replay([recorded(routing_request(**request))], by_old)
    assert (compared.asked, compared.differing, compared.not_recomputable) == (1, [], [])


@pytest.mark.parametrize(
    ("place", "field", "value", "told"),
    [
        (0, "expected_cost_nano_usd", 1, "place 1, recorded -> recomputed: expected_cost_nano_usd 1 -> "),
        (2, "quality", 0.5, "place 3, recorded -> recomputed: quality 0.5 -> 0.8"),
        (1, "rejected", "below_floor", "place 2, recorded -> recomputed: rejected below_floor -> None"),
    ],
)
def test_a_ranking_that_the_record_has_otherwise_differs(
    place: int, field: str, value: object, told: str
) -> None:
    """The first place that differs is told, with what was recorded and what is computed."""
    decision = recorded()
    decision.ranking[place][field] = value  # type: ignore[index]
    (finding,) = replay([recorded(), decision], by_old).differing
    assert finding.decision_id == decision.id
    assert finding.told.startswith(told)


def test_a_candidate_too_few_or_too_many_differs() -> None:
    """Though all that both have is equal."""
    short, long = recorded(made_by=catalogue(*ladder(2))), recorded(made_by=catalogue(*ladder(4)))
    told = [finding.told for finding in replay([short, long], by_old).differing]
    assert "provider None -> provider-3" in told[0]
    assert "provider provider-4 -> None" in told[1]


@pytest.mark.parametrize("request_of_another_version", [{}, {"models": None}, {"models": 1}])
def test_what_this_version_cannot_compute_is_told_and_the_rest_goes_on(
    request_of_another_version: dict[str, Any],
) -> None:
    """It is neither equal nor different."""
    odd = Decision(uuid7(), OLD.version, request_of_another_version, [])
    for compared in (replay([odd, recorded()], by_old), changed_decisions([odd, recorded()], by_old, OLD)):
        assert (compared.asked, compared.differing) == (2, [])
        assert [finding.decision_id for finding in compared.not_recomputable] == [odd.id]
    assert [finding.told for finding in replay([odd], cannot).not_recomputable] == [
        "catalogue 7 cannot be read"
    ]


def test_a_snapshot_of_another_version_is_refused() -> None:
    """With its number."""
    with pytest.raises(NotRecomputableError, match="catalogue 3 cannot be read"):
        read_catalogue(3, [{"id": "x"}])


def test_the_same_catalogue_changes_nothing() -> None:
    """Neither a choice nor a cost."""
    assert changed_decisions([recorded()], by_old, catalogue(*ladder(3), version=8)).differing == []


@pytest.mark.parametrize(
    "new",
    [
        ladder(3)[1:],
        [candidate("model-1", "provider-1", prices={"output": 500_000_000}), *ladder(3)[1:]],
        [],
    ],
)
def test_a_change_has_both_choices_and_their_difference(new: list[dict[str, Any]]) -> None:
    """Another candidate, the same one at another expected cost, or none."""
    decision = recorded()
    (found,) = changed_decisions([decision], by_old, catalogue(*new)).differing
    old, other = (ranked_first(pool) for pool in (OLD, catalogue(*new)))
    assert old is not None
    assert found == Change(decision.id, old, other)
    assert found.expected_cost_difference_nano_usd == (
        other and other.expected_cost_nano_usd - old.expected_cost_nano_usd
    )


def test_a_dearer_choice_is_dearer_however_short_answers_are_now() -> None:
    """Both are compared by the lengths of answers that the new catalogue knows."""
    worse = [ladder(3)[0] | {"qualities": {"general": 0.1}}, *ladder(3)[1:]]
    short = RateSnapshot(output_tokens={"chat": 10})
    (found,) = changed_decisions([recorded()], by_old, catalogue(*worse).with_rates(short)).differing
    known, asked = (ranked_first(catalogue(*pool).with_rates(short)) for pool in (ladder(3), worse))
    assert known is not None
    assert asked is not None
    assert found.new == asked
    assert asked.expected_cost_nano_usd < recorded().ranking[0]["expected_cost_nano_usd"]
    difference = asked.expected_cost_nano_usd - known.expected_cost_nano_usd
    assert (found.expected_cost_difference_nano_usd, difference > 0) == (difference, True)


def ranked_first(pool: Catalogue) -> Choice | None:
    """Return the first choice by routing's own objects, not by their record."""
    for first in rank(routing_request(), pool).eligible:
        return Choice(first.candidate.provider, first.candidate.model, first.expected_cost_nano_usd)
    return None


def test_a_decision_that_was_refused_may_find_a_candidate() -> None:
    """There is no cost to compare."""
    refused = recorded(routing_request(floor=0.9))
    better = catalogue(*ladder(3, qualities={"general": 0.95}))
    (found,) = changed_decisions([refused], by_old, better).differing
    assert (found.old, found.expected_cost_difference_nano_usd) == (None, None)
    assert found.new is not None


def test_changes_are_told_by_route_with_the_first_decisions_and_the_sum() -> None:
    """What was or is refused has no cost, and is in no sum."""
    moved = [Change(uuid7(), CHEAP, DEAR) for _ in range(MOST_NAMED + 2)]
    gone = Change(uuid7(), CHEAP, None)
    compared = changed_decisions([], by_old, OLD)
    compared = type(compared)(20, [gone, *moved], [])
    lines = list(change_lines(compared))
    assert lines[0] == "provider-1 model-1 -> provider-2 model-2: 12, expected cost +0.006144 USD"
    assert lines[1 : MOST_NAMED + 1] == [f"  {change.decision_id}" for change in moved[:MOST_NAMED]]
    assert lines[MOST_NAMED + 1 :] == [
        "  and 2 more",
        "provider-1 model-1 -> refused: 1",
        f"  {gone.decision_id}",
        "20 decisions: 13 change, 0 cannot be computed; expected cost +0.006144 USD",
    ]


def test_a_replay_is_told_by_decision_with_the_counts() -> None:
    """And where only the newest were asked, that."""
    odd = Decision(uuid7(), OLD.version, {}, [])
    short = recorded(made_by=catalogue(*ladder(2)))
    compared = replay([short, odd, recorded()], by_old)
    lines = list(replay_lines(compared))
    assert lines[0].startswith(f"{short.id}: differs: place 3, ")
    assert lines[1] == f"{odd.id}: cannot be computed: its request cannot be read: KeyError 'rule_version'"
    assert lines[2] == "3 decisions: 1 equal, 1 differ, 1 cannot be computed"
    assert list(limit_lines(compared, 4)) == []
    assert list(limit_lines(compared, 3)) == ["Only the newest 3 were asked: --most NUMBER asks more."]
