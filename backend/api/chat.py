"""POST /v1/chat/completions."""

from fastapi import APIRouter, Request, Response

from backend.api.body import read_body
from backend.api.chat_request import read_chat_request
from backend.api.parts import parts_of
from backend.api.stream_response import RelayResponse
from backend.dispatch.order import Delivery, Order
from backend.dispatch.relay import Relay
from backend.ids import uuid7
from backend.routing.rank import rank
from backend.store.record import DecisionOpening
from backend.units import usd

router = APIRouter()

# A browser may read these across origins.
EXPOSED_HEADERS = tuple(
    f"x-clearfloor-{name}"
    for name in ("decision-id", "model", "provider", "quality", "floor", "attempts", "cost-usd")
)


@router.post("/v1/chat/completions")
async def chat_completions(request: Request) -> Response:
    """Answer a chat completion by the cheapest model that clears its floor; plain, or streamed as events."""
    parts = parts_of(request)
    identity = await parts.identities.identify(request)
    content = await read_body(request, parts.settings.max_request_bytes)
    chat, body = read_chat_request(content)
    catalogue = parts.catalogue()
    caller = identity.caller
    routing_request = chat.routing_request(body, len(content), caller, catalogue)
    ranking = rank(routing_request, catalogue)
    order = Order(
        decision=DecisionOpening(
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
        ),
        ranking=ranking,
        body=body,
        body_bytes=len(content),
        choices=routing_request.choices,
        output_limit_tokens=routing_request.output_limit_tokens,
        names_output_limit=chat.output_limit is not None,
        wants_usage=chat.wants_usage,
        may_fail_over=chat.clearfloor.fallback,
    )
    delivery = await parts.dispatcher.dispatch(order)
    if isinstance(delivery, Relay):
        return RelayResponse(delivery, headers=_headers(order, delivery))
    headers = _headers(order, delivery)
    if delivery.completed:
        headers["x-clearfloor-cost-usd"] = usd(delivery.completed.charge_nano_usd)
    return Response(delivery.answer.body, media_type="application/json", headers=headers)


def _headers(order: Order, delivery: Delivery | Relay) -> dict[str, str]:
    scored = delivery.scored
    headers = {
        "x-clearfloor-decision-id": str(order.decision.id),
        "x-clearfloor-model": scored.candidate.model,
        "x-clearfloor-provider": scored.candidate.provider,
        "x-clearfloor-attempts": str(delivery.attempts),
    }
    if scored.quality is not None:
        headers["x-clearfloor-quality"] = f"{scored.quality:g}"
    if order.decision.floor is not None:
        headers["x-clearfloor-floor"] = f"{order.decision.floor:g}"
    return headers
