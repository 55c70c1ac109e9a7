"""What must hold for an organization once nothing is under way, as SQL that finds the opposite."""

from uuid import UUID

from tests.support.tenant import Rows

VIOLATIONS = {
    "a decision is open": """
        select id from public.routing_outcomes where organization_id = %(organization)s and outcome_status is null
    """,
    "an attempt is open": """
        select id from public.inferences where organization_id = %(organization)s and status = 'open'
    """,
    "a wallet holds funds for nothing": """
        select held_nano_usd from public.wallets where organization_id = %(organization)s and held_nano_usd <> 0
    """,
    "a wallet is not the sum of its ledger": """
        select wallet.balance_nano_usd from public.wallets as wallet
        where wallet.organization_id = %(organization)s and wallet.balance_nano_usd <> (
            select coalesce(sum(case
                when entry.credit_account = 'wallet' then entry.amount_nano_usd
                when entry.debit_account = 'wallet' then -entry.amount_nano_usd
            end), 0)
            from public.ledger_entries as entry where entry.organization_id = wallet.organization_id
        )
    """,
    "a charge is not its settlement": """
        select decision.id from public.routing_outcomes as decision
        where decision.organization_id = %(organization)s and decision.charge_nano_usd is distinct from (
            select coalesce(sum(entry.amount_nano_usd), 0) from public.ledger_entries as entry
            where entry.routing_outcome_id = decision.id and entry.kind = 'settlement'
        )
    """,
    "a charge exceeds its reservation": """
        select id from public.routing_outcomes
        where organization_id = %(organization)s and charge_nano_usd > reserved_nano_usd
    """,
    "charge and overrun are not the cost of the linked attempt": """
        select decision.id from public.routing_outcomes as decision
        inner join public.inferences as inference on decision.inference_id = inference.id
        where decision.organization_id = %(organization)s
            and decision.outcome_status not in ('failed_other', 'abandoned')
            and decision.charge_nano_usd + inference.overrun_nano_usd <> inference.cost_nano_usd
    """,
    "a decision and its linked attempt disagree about success": """
        select decision.id from public.routing_outcomes as decision
        inner join public.inferences as inference on decision.inference_id = inference.id
        where decision.organization_id = %(organization)s
            and (decision.outcome_status = 'succeeded') <> (inference.status = 'succeeded')
    """,
    "a succeeded attempt is not linked": """
        select inference.id from public.inferences as inference
        inner join public.routing_outcomes as decision on inference.routing_outcome_id = decision.id
        where inference.organization_id = %(organization)s and inference.status = 'succeeded'
            and decision.inference_id is distinct from inference.id
    """,
    "the linked attempt is not the last one made": """
        select decision.id from public.routing_outcomes as decision
        where decision.organization_id = %(organization)s and decision.inference_id is distinct from (
            select inference.id from public.inferences as inference
            where inference.routing_outcome_id = decision.id and inference.status <> 'not_sent'
            order by inference.attempt_number desc limit 1
        )
    """,
    "attempts are not numbered from 1 without a gap": """
        select routing_outcome_id from public.inferences where organization_id = %(organization)s
        group by routing_outcome_id having min(attempt_number) <> 1 or max(attempt_number) <> count(*)
    """,
    "a cost is not what its tokens cost at its price version": """
        select inference.id from public.inferences as inference
        inner join public.prices as price on inference.price_id = price.id
        where inference.organization_id = %(organization)s and inference.cost_nano_usd <> private.cost_nano_usd(
            price.tiers, (
                inference.input_tokens, inference.cache_read_tokens, inference.cache_write_tokens,
                inference.cache_write_1h_tokens, inference.output_tokens, inference.reasoning_tokens
            )::private.tokens
        )
    """,
    "a cap's counter is not what its window holds and was charged": """
        select counter.spend_cap_id from public.spend_counters as counter
        inner join public.spend_caps as cap on counter.spend_cap_id = cap.id
        where counter.organization_id = %(organization)s and (
            counter.held_nano_usd <> 0 or counter.charged_nano_usd <> (
                select coalesce(sum(decision.charge_nano_usd), 0) from public.routing_outcomes as decision
                where decision.organization_id = cap.organization_id
                    and (cap.agent_id is null or cap.agent_id = decision.agent_id)
                    and counter.window_start = (
                        select slice.window_start from private.windows(decision.opened_at) as slice
                        where slice.window_kind = cap.window_kind
                    )
            )
        )
    """,
}


def violations(rows: Rows, organization_id: UUID) -> list[str]:
    """Return the name of every invariant that does not hold, with how many rows break it."""
    found = {name: len(rows.query(query, organization=organization_id)) for name, query in VIOLATIONS.items()}
    return [f"{name} ({count})" for name, count in found.items() if count]
