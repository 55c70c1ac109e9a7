"""Made-up catalogues, requests and settings, each with what a test does not care about filled in."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

import msgspec

from backend.dispatch.order import Order
from backend.ids import uuid7
from backend.routing.catalogue import Catalogue
from backend.routing.rank import rank
from backend.routing.request import RoutingRequest
from backend.settings import Settings
from backend.store.callers import Caller
from backend.store.record import DecisionOpening

Json = dict[str, Any]

SUPABASE_URL = "http://supabase.test"
SECRET_KEY = "sb_secret_canary-of-the-record"
PUBLISHABLE_KEY = "sb_publishable_for-callers"
NAMESPACE = UUID("019a0000-0000-7000-8000-000000000000")
ORGANIZATION = UUID("019a0000-0000-7000-8000-0000000000a1")
AGENT = UUID("019a0000-0000-7000-8000-0000000000a2")
USER = UUID("019a0000-0000-7000-8000-0000000000a3")
API_KEY = UUID("019a0000-0000-7000-8000-0000000000a4")
PRICE_CLASSES = ("input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning")
QUESTION = [{"role": "user", "content": "What is the answer?"}]


def settings(**changes: Any) -> Settings:  # settings are of many types
    """Return settings of a test; changes by the field's name, Supabase's own by their variable's."""
    supabase = {
        "SUPABASE_URL": SUPABASE_URL,
        "SUPABASE_SECRET_KEY": SECRET_KEY,
        "SUPABASE_PUBLISHABLE_KEY": PUBLISHABLE_KEY,
    }
    return Settings.model_validate({**supabase, **changes})


def caller(**changes: Any) -> Caller:  # fields are of many types
    """Return an agent that calls by its key."""
    fields = {
        "organization_id": ORGANIZATION,
        "agent_id": AGENT,
        "api_key_id": API_KEY,
        "user_id": None,
        "default_floor": 0.7,
        "default_max_output_tokens": 1024,
        "baseline_model": None,
    }
    return Caller(**{**fields, **changes})


def price(identity: UUID, **changes: int) -> Json:
    """Return a price version of one tier as the catalogue has it, in nano-USD per million tokens."""
    return {"id": str(identity), "tiers": [tier(**changes)]}


def tier(above_input_tokens: int = 0, **changes: int) -> Json:
    """Return a tier of a price, in nano-USD per million tokens."""
    classes = (
        dict.fromkeys(PRICE_CLASSES, 100) | {"cache_read": 50, "output": 400, "reasoning": 400} | changes
    )
    amounts = {f"{name}_nano_usd_per_mtok": amount for name, amount in classes.items()}
    return {"above_input_tokens": above_input_tokens, **amounts}


def candidate(
    model: str, provider: str = "acme", *, prices: Mapping[str, int] | None = None, **changes: Any
) -> Json:
    """Return a candidate as the catalogue's snapshot has it. Its provider knows it as ``<provider>/<model>``."""
    return {
        "id": str(uuid5(NAMESPACE, f"{provider}/{model}")),
        "provider": provider,
        "model": model,
        "upstream_model": f"{provider}/{model}",
        "wire_format": "openai",
        "base_url": f"http://{provider}.test/v1",
        "api_key_variable": None,
        "output_limit_field": "max_tokens",
        "usage_convention": "openai",
        "refused_fields": ["service_tier"],
        "context_window_tokens": 100_000,
        "max_output_tokens": 10_000,
        "input_overhead_tokens": 256,
        "max_image_tokens": 1000,
        "max_file_tokens": None,
        "max_audio_tokens": None,
        "capabilities": ["json", "tools", "vision"],
        "price": price(uuid5(NAMESPACE, f"price of {provider}/{model}"), **(prices or {})),
        "qualities": {"general": 0.8},
        **changes,
    }


def ladder(count: int, **changes: Any) -> list[Json]:  # fields are of many types
    """Return candidates ``model-1``, ``model-2`` … of providers ``provider-1`` …, each dearer than those before."""
    return [
        candidate(f"model-{i}", f"provider-{i}", prices={"output": i * 1000_000_000}, **changes)
        for i in range(1, count + 1)
    ]


def catalogue(*candidates: Mapping[str, Any], version: int = 7) -> Catalogue:
    """Return the catalogue of some snapshot's entries."""
    return Catalogue.from_record(version, candidates)


def routing_request(**changes: Any) -> RoutingRequest:  # fields are of many types
    """Return a request for any model at a floor of 0.7."""
    fields: Json = {
        "rule": "cheapest_clearing_floor",
        "model": None,
        "floor": 0.7,
        "task": "chat",
        "text_bytes": 400,
        "choices": 1,
        "output_limit_tokens": 1024,
    }
    return RoutingRequest(**{**fields, **changes})


def order(
    candidates: Sequence[Mapping[str, Any]],
    request: RoutingRequest | None = None,
    *,
    stream: bool = False,
    body: Json | None = None,
    **changes: Any,  # fields are of many types
) -> Order:
    """Return what dispatch is asked: the request, ranked over the candidates, with the body of a question."""
    request = request or routing_request()
    snapshot = catalogue(*candidates)
    ranking = rank(request, snapshot)
    decision = DecisionOpening(
        id=uuid7(),
        organization_id=ORGANIZATION,
        agent_id=AGENT,
        api_key_id=API_KEY,
        user_id=None,
        requested_model=request.model or "auto",
        requested_rule=request.rule,
        floor=request.floor,
        task=request.task,
        stream=stream,
        catalogue_version=snapshot.version,
        metered_tokens=1124,
        dearest_price_id=None,
        baseline_price_id=None,
        idempotency_key=None,
        body_hash="00" * 32,
        routing_request=request.to_record(),
        candidates=ranking.to_record(),
    )
    fields: Json = {
        "decision": decision,
        "ranking": ranking,
        "body": raw_fields(
            body or {"model": "auto", "messages": QUESTION, **({"stream": True} if stream else {})}
        ),
        "choices": request.choices,
        "output_limit_tokens": request.output_limit_tokens,
        "wants_usage": False,
        "may_fail_over": True,
        "may_clamp": request.clamp,
    }
    return Order(**{**fields, **changes})


def raw_fields(body: Json) -> dict[str, msgspec.Raw]:
    """Return a body as it is passed on: each field's JSON."""
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in body.items()}
