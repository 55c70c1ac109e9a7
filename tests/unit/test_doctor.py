"""The report of `clearfloor doctor`."""

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from backend.doctor import (
    MEANINGS,
    MOST_CANDIDATES,
    MOST_SUBJECTS,
    Broken,
    Drift,
    Fault,
    Findings,
    Overrun,
    moment,
    report,
)
from tests.unit.samples import ORGANIZATION

MIGRATION = Path(__file__).parents[2] / "supabase" / "migrations" / "20261124001100_create_invariants.sql"
NOTHING: dict[str, Any] = {
    "broken": [],
    "overruns": [],
    "drifts": [],
    "losses": 0,
    "lost_nano_usd": 0,
    "past_lease": 0,
    "oldest_lease": None,
}


def lines(**findings: Any) -> list[str]:
    """Return the report of some findings, line by line."""
    return report(Findings(**{**NOTHING, **findings})).splitlines()


def faults(count: int) -> list[Fault]:
    """Return so many rows that break something."""
    return [Fault(ORGANIZATION, UUID(int=number), f"detail {number}") for number in range(count)]


def test_every_invariant_of_the_database_has_its_sentence() -> None:
    """And no sentence is about one that is not there."""
    named = re.findall(r"select '(\w+)',", MIGRATION.read_text(encoding="utf-8"))
    assert sorted(MEANINGS) == sorted(set(named))


def test_where_nothing_is_found_it_says_so() -> None:
    """What is worth knowing is told all the same, with its zeros."""
    assert lines() == [
        "Rows that break an invariant: 0",
        "",
        "Worth knowing, though not wrong (costs of the last 30 days, which the operator bears):",
        "  Calls that cost more than their bound: 0, by 0 USD",
        "  Charges that a wallet could not pay any more: 0, of 0 USD",
        "  Open decisions past their lease, which the next sweep closes: 0",
        "  Models whose answers of a task class were rated worse than predicted in the last week: 0",
    ]


def test_faults_are_told_by_invariant_with_what_it_means() -> None:
    """The headline counts them all; each names its row and its organization."""
    told = lines(
        broken=[Broken("wallet_is_its_ledger", 1, faults(1)), Broken("success_is_agreed", 2, faults(2))]
    )
    assert told[:8] == [
        "Rows that break an invariant: 3",
        "",
        "wallet_is_its_ledger: 1",
        f"  {MEANINGS['wallet_is_its_ledger']}",
        f"    {UUID(int=0)} of organization {ORGANIZATION}: detail 0",
        "",
        "success_is_agreed: 2",
        f"  {MEANINGS['success_is_agreed']}",
    ]


@pytest.mark.parametrize(("found", "last"), [(MOST_SUBJECTS, None), (MOST_SUBJECTS + 3, "    and 3 more")])
def test_a_long_list_is_cut_and_says_how_much_is_left_out(found: int, last: str | None) -> None:
    """One that just fits is whole."""
    told = lines(broken=[Broken("cap_is_kept", found, faults(MOST_SUBJECTS))])
    listed = told[4 : told.index("", 4)]
    assert listed[MOST_SUBJECTS:] == ([last] if last else [])
    assert listed[MOST_SUBJECTS - 1].endswith(f"detail {MOST_SUBJECTS - 1}")


def test_an_invariant_of_a_newer_database_is_told_without_a_sentence() -> None:
    """Rather than kept from the operator."""
    told = lines(broken=[Broken("of_tomorrow", 1, faults(1))])
    assert told[2:4] == ["of_tomorrow: 1", "  This version of the command does not know what it means."]


def test_overruns_are_summed_and_the_largest_are_named() -> None:
    """The sum is of all candidates, also of those that are not named."""
    overruns = [Overrun("acme", f"model-{number}", 2, 1_000) for number in range(MOST_CANDIDATES + 2)]
    told = lines(overruns=overruns)
    assert told[3] == "  Calls that cost more than their bound: 14, by 0.000007 USD"
    assert told[4] == "    acme model-0: 2, by 0.000001 USD"
    assert told[4 + MOST_CANDIDATES] == "    and 2 more candidates"


def test_losses_and_leases_are_told_in_usd_and_utc() -> None:
    """Whatever the session's time zone is."""
    oldest = datetime(2026, 11, 24, 13, tzinfo=timezone(timedelta(hours=1)))
    told = lines(losses=2, lost_nano_usd=1_500_000_000, past_lease=3, oldest_lease=oldest)
    assert told[-3:-1] == [
        "  Charges that a wallet could not pay any more: 2, of 1.5 USD",
        "  Open decisions past their lease, which the next sweep closes: 3, the first since 2026-11-24 12:00:00 UTC",
    ]


def test_the_worst_drifts_are_named() -> None:
    """With what was predicted and what was said of the answers."""
    drifts = [Drift(f"model-{number}", "code", 42, 0.8, 0.613) for number in range(MOST_CANDIDATES + 2)]
    told = lines(drifts=drifts)
    assert told[-MOST_CANDIDATES - 2].endswith(f"in the last week: {MOST_CANDIDATES + 2}")
    assert told[-MOST_CANDIDATES - 1] == "    model-0 code: 0.61 instead of 0.80, rated 42 times"
    assert told[-2:] == [
        f"    model-{MOST_CANDIDATES - 1} code: 0.61 instead of 0.80, rated 42 times",
        "    and 2 more",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
        ("2026-11-24T12:30", datetime(2026, 11, 24, 12, 30, tzinfo=UTC)),
        ("2026-11-24T12:30:00Z", datetime(2026, 11, 24, 12, 30, tzinfo=UTC)),
        ("2026-11-24T12:30:00+02:00", datetime(2026, 11, 24, 10, 30, tzinfo=UTC)),
    ],
)
def test_a_time_is_utc_unless_it_says_otherwise(text: str, expected: datetime) -> None:
    """A date is its first moment."""
    assert moment(text) == expected
