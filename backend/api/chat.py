"""POST /v1/chat/completions."""

from fastapi import APIRouter, Request, Response

from backend.api.body import read_body
from backend.api.chat_request import read_chat_request
from backend.api.parts import parts_of
from backend.api.stream_response import RelayResponse
from backend.dispatch.order import Order
from backend.dispatch.relay import Relay
from backend.errors import ClearfloorError
from backend.ids import uuid7
from backend.routing.catalogue import Catalogue
from backend.routing.rank import Scored, rank
from backend.store.callers import Caller
from backend.store.record import DecisionOpening
from backend.units import usd

router = APIRouter()

# A browser may read these across origins.
EXPOSED_HEADERS = tuple(
    f"x-clearfloor-{name}"
    for name in ("decision-id", "model", "provider", "quality", "floor", "attempts", "cost-usd")
)
_COST_HEADER = "x-clearfloor-cost-usd"


@router.post("/v1/chat/completions")
async def chat_completions(request: Request) -> Response:
    """Answer a chat completion by the cheapest model that clears its floor; plain, or streamed as events."""
    parts = parts_of(request)
    identity = await parts.identities.identify(request)
    content = await read_body(request, parts.settings.max_request_bytes)
    order = _order(content, identity.caller, parts.catalogue())
    try:
        delivery = await parts.dispatcher.dispatch(order)
    except ClearfloorError as error:
        if error.decision_id:
            error.headers = {**_headers(order, None, error.attempts), _COST_HEADER: "0"}
        raise
    headers = _headers(order, delivery.scored, delivery.attempts)
    if isinstance(delivery, Relay):
        return RelayResponse(delivery, headers)
    if delivery.completed:
        headers[_COST_HEADER] = usd(delivery.completed.charge_nano_usd)
    return Response(delivery.answer.body, media_type="application/json", headers=headers)


def _headers(order: Order, scored: Scored | None, attempts: int) -> dict[str, str]:
    """Return the headers of a decided request; ``none`` where there is nothing to tell."""
    facts = {
        "decision-id": order.decision.id,
        "model": scored and scored.candidate.model,
        "provider": scored and scored.candidate.provider,
        "quality": scored and scored.quality,
        "floor": order.decision.floor,
        "attempts": attempts,
    }
    return {f"x-clearfloor-{name}": "none" if fact is None else str(fact) for name, fact in facts.items()}


def _order(content: bytes, caller: Caller, catalogue: Catalogue) -> Order:
    """Decide a request: read it, rank the catalogue for it."""
    chat, body = read_chat_request(content)
    routing_request = chat.routing_request(body, len(content), caller, catalogue)
    ranking = rank(routing_request, catalogue)
    decision = DecisionOpening(
        id=uuid7(),
        organization_id=caller.organization_id,
        agent_id=caller.agent_id,
        api_key_id=caller.api_key_id,
        user_id=caller.user_id,
        requested_model=chat.model,
        requested_rule=routing_request.rule,
        floor=routing_request.floor,
        task=routing_request.task,
        stream=bool(chat.stream),
        catalogue_version=catalogue.version,
        routing_request=routing_request.to_record(),
        candidates=ranking.to_record(),
    )
    return Order(
        decision=decision,
        ranking=ranking,
        body=body,
        body_bytes=len(content),
        choices=routing_request.choices,
        output_limit_tokens=routing_request.output_limit_tokens,
        names_output_limit=chat.output_limit is not None,
        wants_usage=chat.wants_usage,
        may_fail_over=chat.clearfloor.fallback,
    )
