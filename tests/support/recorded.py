"""Decisions in the record, made as the backend makes them: ranked by the current catalogue, and opened by its function."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from psycopg.types.json import Jsonb

from backend.ids import earliest_uuid7, uuid7
from backend.routing.catalogue import Catalogue
from backend.routing.rank import rank
from backend.routing.request import RoutingRequest
from tests.support.tenant import Rows, Tenant


class RecordedDecisions:
    """Opens decisions of one tenant."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._tenant: Tenant = rows.tenant()

    def open(self, *, hours_ago: int = 0, **request: Any) -> UUID:
        """Open a decision of a request for any model at a floor of 0.5, unless said otherwise; return its id."""
        fields: dict[str, Any] = {
            "rule": "cheapest_clearing_floor",
            "model": None,
            "floor": 0.5,
            "task": "chat",
            "text_bytes": 4_000,
            "choices": 1,
            "output_limit_tokens": 100,
        }
        asked = RoutingRequest(**fields | request)
        ((state,),) = (row.values() for row in self._rows.query("select public.read_catalogue()"))
        ranking = rank(asked, Catalogue.from_record(state["version"], state["candidates"]))
        first = ranking.eligible[0]
        made = datetime.now(UTC) - timedelta(hours=hours_ago)
        decision_id = UUID(int=earliest_uuid7(made).int + uuid7().int % 2**32)
        opening = {
            "id": decision_id,
            "organization_id": self._tenant.organization_id,
            "agent_id": self._tenant.agent_id,
            "api_key_id": self._tenant.api_key_id,
            "requested_model": asked.model or "auto",
            "requested_rule": asked.rule,
            "floor": asked.floor,
            "task": asked.task,
            "stream": False,
            "catalogue_version": state["version"],
            "routing_request": asked.to_record(),
            "candidates": ranking.to_record(),
            "lease_seconds": 60,
            "inference_id": uuid7(),
            "candidate_id": first.candidate.id,
            "price_id": first.candidate.price.id,
            "bound_nano_usd": first.bound_nano_usd,
        }
        item = Jsonb([opening], dumps=orjson.dumps)
        ((answers,),) = (
            row.values() for row in self._rows.query("select public.insert_decisions(%(item)s)", item=item)
        )
        assert answers[0]["error"] is None, answers
        return decision_id
