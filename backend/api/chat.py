"""POST /v1/chat/completions."""

import hashlib
from uuid import UUID

import msgspec
from fastapi import Request, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from backend.api.body import read_body
from backend.api.connection import CallerLeftError, while_connected
from backend.api.decide import Decided, decide
from backend.api.errors import error_response
from backend.api.idempotency import idempotency_key
from backend.api.parts import parts_of
from backend.api.stream_response import RelayResponse
from backend.dispatch.answers import Facts
from backend.dispatch.order import Order
from backend.dispatch.relay import Relay
from backend.dispatch.repeats import dispatch_once
from backend.errors import ClearfloorError
from backend.ids import uuid7
from backend.routing.rank import Ranking, Scored, cheapest_of
from backend.routing.request import RoutingRequest
from backend.store.callers import Caller
from backend.store.record import DecisionOpening
from backend.units import usd

# A browser may read these across origins.
EXPOSED_HEADERS = tuple(
    f"x-clearfloor-{name.replace('_', '-')}" for name in (*Facts.__struct_fields__, "cost_usd", "replayed")
)
_COST_HEADER = "x-clearfloor-cost-usd"
_REPLAYED_HEADER = "x-clearfloor-replayed"
# nginx' word for a caller that did not wait. Nobody is there to read it.
_CALLER_LEFT_STATUS = 499
# A mean over task classes has sixteen digits, of which nobody needs more than these.
_DIGITS = 6


class ChatCompletions:
    """Answers chat completions by the cheapest model that clears their floor; plain, or streamed as events.

    An ASGI application of its own, so that what FastAPI does for every route need not be done: docs/decisions/0014.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            response = await _answer(Request(scope, receive))
        except ClearfloorError as error:
            response = error_response(error)
        await response(scope, receive, send)


PATH = "/v1/chat/completions"
ROUTE = Route(PATH, ChatCompletions(), methods=["POST"])


async def _answer(request: Request) -> Response:
    parts = parts_of(request)
    # The opening of the decision asks the database again: what was found seconds ago will do.
    identity = await parts.identities.identify(request, is_checked_again=True)
    key = idempotency_key(request)
    content = await read_body(request, parts.settings.max_request_bytes)
    decided = decide(content, identity.caller, parts.catalogue(), parts.judgement)
    order = _order(decided, identity.caller, key, content)
    del content
    try:
        delivery = await while_connected(request, dispatch_once(parts.dispatcher, order))
    except CallerLeftError:
        return Response(status_code=_CALLER_LEFT_STATUS)
    except ClearfloorError as error:
        if error.decision_id == order.decision.id:
            error.headers = {**_headers(Facts.of(order.decision, error.attempts)), _COST_HEADER: "0"}
        raise
    headers = _headers(delivery.facts)
    if isinstance(delivery, Relay):
        return RelayResponse(delivery, headers, grace_seconds=parts.settings.completion_wait_seconds)
    if delivery.charge_nano_usd is not None:
        headers[_COST_HEADER] = usd(delivery.charge_nano_usd)
    headers[_REPLAYED_HEADER] = "true" if delivery.is_replay else "false"
    return Response(delivery.body, media_type="application/json", headers=headers)


def _headers(facts: Facts) -> dict[str, str]:
    """Return the headers of a decided request; ``none`` where there is nothing to tell."""
    told = msgspec.structs.asdict(facts)
    return {f"x-clearfloor-{name.replace('_', '-')}": _told(fact) for name, fact in told.items()}


def _told(fact: object) -> str:
    if isinstance(fact, bool):
        return str(fact).lower()
    if isinstance(fact, float):
        return f"{fact:.{_DIGITS}g}"
    return "none" if fact is None else str(fact)


def _order(decided: Decided, caller: Caller, key: str | None, content: bytes) -> Order:
    """Make the order to carry a decided request out."""
    chat, asked, ranking = decided.chat, decided.asked, decided.ranking
    named = caller.baseline_model
    baseline = cheapest_of(named, asked, decided.catalogue) if named else None
    decision = DecisionOpening(
        id=uuid7(),
        organization_id=caller.organization_id,
        agent_id=caller.agent_id,
        api_key_id=caller.api_key_id,
        user_id=caller.user_id,
        requested_model=chat.model,
        requested_rule=decided.rule,
        floor=asked.floor,
        task=asked.task,
        stream=bool(chat.stream),
        catalogue_version=decided.catalogue.version,
        metered_tokens=_metered_tokens(asked, ranking),
        dearest_price_id=_price_id(ranking.dearest),
        baseline_price_id=_price_id(baseline),
        idempotency_key=key,
        body_hash=hashlib.sha256(content).hexdigest() if key else None,
        routing_request=asked.to_record(),
        candidates=ranking.to_record(),
    )
    return Order(
        decision=decision,
        ranking=ranking,
        body=decided.fields,
        choices=asked.choices,
        output_limit_tokens=asked.output_limit_tokens,
        wants_usage=chat.wants_usage,
        may_fail_over=chat.options.fallback,
        may_clamp=asked.clamp,
    )


def _price_id(scored: Scored | None) -> UUID | None:
    return scored.candidate.price.id if scored else None


def _metered_tokens(asked: RoutingRequest, ranking: Ranking) -> int:
    """Return what a request takes from its rate limits until it is known what it used."""
    most = max((scored.expected_input_tokens for scored in ranking.eligible), default=None)
    return 0 if most is None else most + asked.choices * asked.output_limit_tokens
