"""Reads the body of a chat completion: checks the fields that matter here, passes all others on untouched."""

from decimal import Decimal
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backend.errors import InvalidRequestError, NotFoundError
from backend.routing.catalogue import Catalogue
from backend.routing.request import RoutingRequest
from backend.routing.task import classify, needed_capabilities
from backend.store.callers import Caller

AUTO = "auto"
_NANO_USD_PER_USD = 1_000_000_000
_MOST_CHOICES = 128
_MOST_OUTPUT_TOKENS = 10_000_000
_MOST_MODELS = 200
_MOST_LEVELS = 254

OutputLimit = Annotated[int, Field(gt=0, le=_MOST_OUTPUT_TOKENS)]


class Options(BaseModel):
    """The ``clearfloor`` object of a body.

    Attributes:
        floor: least predicted quality, 0 to 1; else the model name's (``auto:0.8``), else the agent's.
        task: task class of the request; else a plain rule finds one.
        max_cost_usd: the most that a candidate may cost, by its bound.
        models: the only models to choose from.
        fallback: whether other candidates may be tried when the first fails.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    floor: Annotated[float, Field(ge=0, le=1)] | None = None
    task: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")] | None = None
    max_cost_usd: Annotated[float, Field(ge=0, le=1_000_000)] | None = None
    models: Annotated[list[str], Field(min_length=1, max_length=_MOST_MODELS)] | None = None
    fallback: bool = True


class _StreamOptions(BaseModel):
    model_config = ConfigDict(strict=True)

    include_usage: bool | None = None


class ChatRequest(BaseModel):
    """The fields of a body that matter here; see :func:`read_chat_request`."""

    model_config = ConfigDict(strict=True)

    model: Annotated[str, Field(min_length=1, max_length=200)]
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=_MOST_CHOICES)] | None = None
    max_tokens: OutputLimit | None = None
    max_completion_tokens: OutputLimit | None = None
    clearfloor: Options = Field(default_factory=Options)

    @property
    def output_limit(self) -> int | None:
        """The output limit that the caller names, in tokens."""
        limits = [limit for limit in (self.max_tokens, self.max_completion_tokens) if limit]
        return max(limits, default=None)

    @property
    def wants_usage(self) -> bool:
        """Whether a stream is to end with a usage report."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def routing_request(
        self, body: dict[str, Any], body_bytes: int, caller: Caller, catalogue: Catalogue
    ) -> RoutingRequest:
        """Return what routing is asked.

        Raises:
            InvalidRequestError: the floor is said twice, or the model's name makes no sense or is ruled out.
            NotFoundError: nobody runs the pinned model, or one of the models to choose from.
        """
        floor = _named_floor(self.model, self.clearfloor.floor)
        pinned = None if _is_auto(self.model) else self.model
        _require_known(pinned, self.clearfloor.models, catalogue)
        cost = self.clearfloor.max_cost_usd
        return RoutingRequest(
            rule="pinned_model" if pinned else "cheapest_clearing_floor",
            model=pinned,
            floor=caller.default_floor if floor is None and not pinned else floor,
            task=self.clearfloor.task or classify(body, body_bytes),
            body_bytes=body_bytes,
            choices=self.n or 1,
            output_limit_tokens=self.output_limit or caller.default_max_output_tokens,
            needs=needed_capabilities(body),
            max_cost_nano_usd=None if cost is None else int(Decimal(str(cost)) * _NANO_USD_PER_USD),
            models=tuple(sorted(self.clearfloor.models)) if self.clearfloor.models else None,
        )


def read_chat_request(content: bytes) -> tuple[ChatRequest, dict[str, Any]]:
    """Read a body: the fields that matter, and what is to be passed on, without Clearfloor's own.

    Raises:
        InvalidRequestError: it is not JSON, or a field is missing or wrong; the error names it.
    """
    try:
        body = orjson.loads(content)
        # orjson reads 1024 levels and writes 254: found out now, not when the decision is open.
        orjson.dumps(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"The body is not JSON: {error}.") from error
    except orjson.JSONEncodeError as error:
        raise InvalidRequestError(
            f"The body is nested too deeply: {_MOST_LEVELS} levels at the most."
        ) from error
    try:
        chat = ChatRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or None
        raise InvalidRequestError(f"`{field or 'body'}` is wrong: {first['msg']}.", param=field) from error
    return chat, {name: value for name, value in body.items() if name != "clearfloor"}


def _is_auto(model: str) -> bool:
    return model == AUTO or model.startswith(f"{AUTO}:")


def _named_floor(model: str, option: float | None) -> float | None:
    if not model.startswith(f"{AUTO}:"):
        return option
    if option is not None:
        raise InvalidRequestError(
            "The floor is named twice, in `model` and in `clearfloor.floor`.", param="model"
        )
    try:
        floor = float(model.removeprefix(f"{AUTO}:"))
    except ValueError:
        floor = -1.0
    if not 0 <= floor <= 1:
        raise InvalidRequestError(f"`{model}` names no floor: write `auto:0.8`, from 0 to 1.", param="model")
    return floor


def _require_known(pinned: str | None, models: list[str] | None, catalogue: Catalogue) -> None:
    known = set(catalogue.models)
    if pinned and pinned not in known:
        raise NotFoundError(
            f"Nobody runs a model `{pinned}` here; GET /v1/models lists what there is.", param="model"
        )
    unknown = sorted(set(models or ()) - known)
    if unknown:
        raise NotFoundError(f"Nobody runs {', '.join(unknown)} here.", param="clearfloor.models")
    if pinned and models and pinned not in models:
        raise InvalidRequestError(
            f"`model` pins {pinned}, which is not one of `clearfloor.models`.", param="clearfloor.models"
        )
