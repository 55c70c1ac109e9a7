"""`clearfloor doctor`: what `public.gateway_invariants()` finds, for people, and what is worth knowing though not wrong."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import psycopg

from backend.operator_database import open_transaction, reason
from backend.units import usd

# Sequential reads of the largest tables, one after the other.
STATEMENT_TIMEOUT_MILLISECONDS = 30 * 60 * 1000
MOST_SUBJECTS = 10
MOST_CANDIDATES = 5
RECENT_DAYS = 30

_NOTHING_FOUND = 0
_SOMETHING_FOUND = 1
_CANNOT_TELL = 2

# What each invariant of the database means where it is broken; a test holds the two together.
MEANINGS = {
    "attempts_are_numbered": "An attempt of the decision is missing, or is there twice.",
    "cap_is_kept": "A cap's window holds and was charged more than its limit.",
    "charge_is_settled": "What the decision was charged, or the operator lost, is not what the ledger says.",
    "charge_is_what_is_due": "Charge and loss together are not what the linked attempt's cost makes due.",
    "charge_is_within_the_reservation": "A decision was charged more than was reserved for it.",
    "cost_is_recomputed": "A stored cost is not what the attempt's tokens cost at its price.",
    "counter_is_its_window": "A cap's counter is not what its window's decisions hold and were charged.",
    "counterfactual_is_recomputed": "What another model would have cost is not what the tokens cost at its price.",
    "finished_decision_names_an_inference": "A finished decision that chose a model names no inference.",
    "inference_has_a_decision": "An attempt is left without its decision.",
    "leases_are_swept": "An open decision's lease ran out more than an hour ago: no backend sweeps.",
    "named_inference_is_the_decisions_last_made": "A decision names another attempt than the last that was made.",
    "open_inference_has_an_open_decision": "An attempt is open under a decision that is finished.",
    "organization_has_a_wallet": "An organization has no wallet.",
    "price_is_the_candidates": "An attempt was priced by another candidate's price.",
    "refunds_are_within_the_charge": "More was refunded than the decision was charged.",
    "reservation_covers_the_attempt": "An open attempt may cost more than is reserved.",
    "spending_counts_where_it_was_opened": "A ledger entry counts in other windows than those its decision was opened in.",
    "spending_has_a_decision": "A ledger entry charges for a decision that there is not.",
    "success_has_usage": "An attempt succeeded without any usage.",
    "success_is_agreed": "A decision and the attempt that it names disagree on whether it succeeded.",
    "tenants_are_apart": "Rows that belong together are of different organizations.",
    "usage_is_counted": "An hour's usage is not what the decisions opened in it used.",
    "wallet_holds_what_is_open": "What a wallet holds is not what its open decisions reserve.",
    "wallet_is_its_ledger": "A wallet's balance is not the sum of its ledger entries.",
}
_UNKNOWN = "This version of the command does not know what it means."

_FAULTS = """
    select invariant, found, organization_id, subject_id, detail
    from (
        select
            fault.*, count(*) over same as found,
            row_number() over (same order by fault.organization_id, fault.subject_id, fault.detail) as place
        from public.gateway_invariants(coalesce(%(since)s::timestamptz, '-infinity')) as fault
        window same as (partition by fault.invariant)
    ) as counted
    where place <= %(most)s
    order by invariant, place
"""
_OVERRUNS = """
    select provider, model, count(*), sum(overrun_nano_usd)::bigint
    from public.inferences
    where overrun_nano_usd > 0 and opened_at >= now() - make_interval(days => %(days)s)
    group by provider, model
    order by sum(overrun_nano_usd) desc, provider, model
"""
_LOSSES = """
    select count(*), coalesce(sum(amount_nano_usd), 0)::bigint
    from public.ledger_entries
    where kind = 'loss' and created_at >= now() - make_interval(days => %(days)s)
"""
# Of the last week, by the function's own defaults.
_DRIFTS = "select model, task, samples, predicted, realised from public.quality_drift()"
_PAST_LEASE = """
    select count(*), min(lease_expires_at)
    from public.routing_outcomes
    where outcome_status is null and lease_expires_at < now()
"""


class Fault(NamedTuple):
    """One row that breaks an invariant."""

    organization_id: UUID | None
    subject_id: UUID | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class Broken:
    """An invariant, how often it is broken, and the first rows that break it."""

    invariant: str
    found: int
    faults: Sequence[Fault]


class Overrun(NamedTuple):
    """What calls of a candidate cost beyond their bounds, nano-USD."""

    provider: str
    model: str
    attempts: int
    nano_usd: int


class Drift(NamedTuple):
    """A model whose answers in a task class were rated worse than predicted; both are means, 0 to 1."""

    model: str
    task: str
    samples: int
    predicted: float
    realised: float


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was found: what is wrong, and what is worth knowing."""

    broken: Sequence[Broken]
    overruns: Sequence[Overrun]
    drifts: Sequence[Drift]
    losses: int
    lost_nano_usd: int
    past_lease: int
    oldest_lease: datetime | None


def main(arguments: Sequence[str]) -> int:
    """Print what is wrong and what is worth knowing; return 0 for nothing wrong, 1 for something, 2 when it cannot tell."""
    given = _parser().parse_args(arguments)
    try:
        findings = examine(given.database_url, given.since)
    except psycopg.Error as error:
        told = reason(
            error,
            wrong_database="this is no database of a gateway",
            wrong_role="this role cannot examine every row",
        )
        sys.stderr.write(f"clearfloor doctor: {told}\n")
        return _CANNOT_TELL
    sys.stdout.write(report(findings))
    return _SOMETHING_FOUND if findings.broken else _NOTHING_FOUND


def examine(database_url: str, since: datetime | None = None) -> Findings:
    """Look for what is wrong, in what was opened since then (None: ever) and in all balances.

    Raises:
        psycopg.Error: the database cannot be reached, is no gateway's, or hides rows from this role.
    """
    recent = {"days": RECENT_DAYS}
    with open_transaction(
        database_url, statement_timeout_milliseconds=STATEMENT_TIMEOUT_MILLISECONDS, read_only=True
    ) as connection:
        broken = _broken(connection.execute(_FAULTS, {"since": since, "most": MOST_SUBJECTS}).fetchall())
        overruns = [Overrun(*row) for row in connection.execute(_OVERRUNS, recent)]
        drifts = [Drift(*row) for row in connection.execute(_DRIFTS)]
        ((losses, lost_nano_usd),) = connection.execute(_LOSSES, recent)
        ((past_lease, oldest_lease),) = connection.execute(_PAST_LEASE)
    return Findings(broken, overruns, drifts, losses, lost_nano_usd, past_lease, oldest_lease)


def report(findings: Findings) -> str:
    """Return the findings as text."""
    blocks = [_headline(findings.broken), *map(_told, findings.broken), _worth_knowing(findings)]
    return "\n".join("".join(f"{line}\n" for line in block) for block in blocks)


def moment(text: str) -> datetime:
    """Return the time that an ISO date or time names, in UTC unless it says otherwise.

    Raises:
        ValueError: it names none.
    """
    named = datetime.fromisoformat(text)
    return named if named.tzinfo else named.replace(tzinfo=UTC)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clearfloor doctor",
        description="Look for whatever breaks the record or the money. Nothing is changed.",
        epilog="exit code: 0 nothing is wrong, 1 something is, 2 the database cannot be asked",
    )
    parser.add_argument(
        "database_url", metavar="DATABASE_URL", help="postgresql://… of a role that sees every row"
    )
    parser.add_argument(
        "--since",
        type=moment,
        metavar="TIME",
        help="only what was opened since then, such as 2026-11-24 or 2026-11-24T12:00 (UTC); balances are always examined",
    )
    return parser


def _broken(rows: Sequence[tuple[str, int, UUID | None, UUID | None, str | None]]) -> list[Broken]:
    faults: dict[tuple[str, int], list[Fault]] = {}
    for invariant, found, organization_id, subject_id, detail in rows:
        faults.setdefault((invariant, found), []).append(Fault(organization_id, subject_id, detail))
    return [Broken(invariant, found, first) for (invariant, found), first in faults.items()]


def _headline(broken: Sequence[Broken]) -> list[str]:
    found = sum(entry.found for entry in broken)
    return [f"Rows that break an invariant: {found}"]


def _told(broken: Broken) -> list[str]:
    more = broken.found - len(broken.faults)
    return [
        f"{broken.invariant}: {broken.found}",
        f"  {MEANINGS.get(broken.invariant, _UNKNOWN)}",
        *(f"    {f.subject_id} of organization {f.organization_id}: {f.detail}" for f in broken.faults),
        *([f"    and {more} more"] if more else []),
    ]


def _worth_knowing(findings: Findings) -> list[str]:
    overruns = findings.overruns
    attempts, nano_usd = sum(entry.attempts for entry in overruns), sum(entry.nano_usd for entry in overruns)
    more = len(overruns) - MOST_CANDIDATES
    oldest = findings.oldest_lease
    first = f", the first since {oldest.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if oldest else ""
    return [
        f"Worth knowing, though not wrong (costs of the last {RECENT_DAYS} days, which the operator bears):",
        f"  Calls that cost more than their bound: {attempts}, by {usd(nano_usd)} USD",
        *(
            f"    {entry.provider} {entry.model}: {entry.attempts}, by {usd(entry.nano_usd)} USD"
            for entry in overruns[:MOST_CANDIDATES]
        ),
        *([f"    and {more} more candidates"] if more > 0 else []),
        f"  Charges that a wallet could not pay any more: {findings.losses}, of {usd(findings.lost_nano_usd)} USD",
        f"  Open decisions past their lease, which the next sweep closes: {findings.past_lease}{first}",
        *_drifting(findings.drifts),
    ]


def _drifting(drifts: Sequence[Drift]) -> list[str]:
    more = len(drifts) - MOST_CANDIDATES
    return [
        f"  Models whose answers of a task class were rated worse than predicted in the last week: {len(drifts)}",
        *(
            f"    {drift.model} {drift.task}: {drift.realised:.2f} instead of {drift.predicted:.2f}, rated {drift.samples} times"
            for drift in drifts[:MOST_CANDIDATES]
        ),
        *([f"    and {more} more"] if more > 0 else []),
    ]
