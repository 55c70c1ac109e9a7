"""What must hold for an organization once nothing is under way."""

from uuid import UUID

from tests.support.tenant import Rows

_FAULTS = (
    "select invariant, subject_id, detail from public.gateway_invariants(of_organization => %(organization)s)"
)
_UNDER_WAY = """
    select 'nothing_is_under_way' as invariant, id as subject_id, decision_rule as detail from public.routing_outcomes
    where organization_id = %(organization)s and outcome_status is null
"""


def violations(rows: Rows, organization_id: UUID) -> list[str]:
    """Return every row that breaks an invariant, or is still open."""
    return [
        " ".join(str(value) for value in fault.values())
        for query in (_FAULTS, _UNDER_WAY)
        for fault in rows.query(query, organization=organization_id)
    ]
