"""Reads the body of a chat completion: checks the fields that matter here, passes all others on untouched.

The body is read twice: into the few typed fields that matter, and into the JSON of each of its fields as it came, which
is what goes to the provider. No value that we do not look at is taken apart and put together again.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from backend.api.body import decode_body
from backend.api.message_parts import Message, count_media, needs_of, payload_bytes
from backend.errors import InvalidRequestError, ModelNotFoundError
from backend.routing.catalogue import Catalogue
from backend.routing.request import OnMiss, RoutingRequest
from backend.routing.task import Tasks
from backend.store.callers import Caller

AUTO = "auto"
_NANO_USD_PER_USD = 1_000_000_000
_MOST_CHOICES = 128
_MOST_OUTPUT_TOKENS = 10_000_000
_MOST_MODELS = 200
_MOST_FIELDS = 100
# Names of fields are recorded, since providers refuse some; what a caller writes is not, so that no name may be a text.
_FIELD_NAME = re.compile(r"[!-~]{1,64}")
# Each becomes an object of some hundred bytes here: 12 MB of `{},{}` took 600 MB.
_MOST_OBJECTS = 500_000
_FLOOR = re.compile(r"(?:0(?:\.[0-9]{1,15})?|1(?:\.0{1,15})?)")

OutputLimit = Annotated[int, Meta(gt=0, le=_MOST_OUTPUT_TOKENS)]


class Options(Struct, forbid_unknown_fields=True, frozen=True):
    """The ``clearfloor`` object of a body.

    Attributes:
        floor: least predicted quality, 0 to 1; else the model name's (``auto:0.8``), else the agent's.
        task: task class of the request; else a plain rule finds one.
        max_cost_usd: the most that a candidate may cost, by its bound.
        models: the only models to choose from.
        fallback: whether other candidates may be called when the first fails.
        clamp: whether the output limit may be lowered to what wallet and caps have left.
        on_miss: what becomes of the request where no candidate clears the floor: an error, or the best there is.
        strict: whether the floor is held against the lower bound of the predicted quality. Such a request never explores.
        explore: whether the request may go to a cheaper model first that may clear the floor, as often as the operator says.
    """

    floor: Annotated[float, Meta(ge=0, le=1)] | None = None
    task: str | None = None
    max_cost_usd: Annotated[float, Meta(ge=0, le=1_000_000)] | None = None
    models: Annotated[list[str], Meta(min_length=1, max_length=_MOST_MODELS)] | None = None
    fallback: bool = True
    clamp: bool = False
    on_miss: OnMiss = "reject"
    strict: bool = False
    explore: bool = True


class _StreamOptions(Struct, frozen=True):
    include_usage: bool | None = None


class _Tool(Struct, frozen=True):
    # A vendor's own tool, such as a web search, has a price of its own that no reservation covers.
    type: Literal["function", "custom"] = "function"


class _ResponseFormat(Struct, frozen=True):
    type: str | None = None


class ChatRequest(Struct, frozen=True):
    """The fields of a body that matter here; see :func:`read_chat_request`."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    messages: Annotated[list[Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=_MOST_CHOICES)] | None = None
    max_tokens: OutputLimit | None = None
    max_completion_tokens: OutputLimit | None = None
    tools: list[_Tool] | None = None
    functions: list[msgspec.Raw] | None = None
    response_format: _ResponseFormat | None = None
    modalities: list[str] | None = None
    clearfloor: Options | None = None

    @property
    def options(self) -> Options:
        """The ``clearfloor`` object, or what holds without one."""
        return self.clearfloor or Options()

    @property
    def output_limit(self) -> int | None:
        """The output limit that the caller names, in tokens."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def wants_usage(self) -> bool:
        """Whether a stream is to end with a usage report."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def offers_tools(self) -> bool:
        """Whether the model may call tools."""
        return bool(self.tools or self.functions)

    def needs(self, media: Mapping[str, int]) -> tuple[str, ...]:
        """Return what a candidate must be capable of, sorted."""
        needs = needs_of(media)
        if self.offers_tools:
            needs.add("tools")
        if self.response_format and self.response_format.type in ("json_object", "json_schema"):
            needs.add("json")
        if self.modalities and "audio" in self.modalities:
            needs.add("audio")
        return tuple(sorted(needs))

    def texts(self) -> Iterator[str]:
        """Yield the texts of all messages."""
        for message in self.messages:
            yield from message.texts()


Fields = Mapping[str, msgspec.Raw]
_CHAT_REQUEST = msgspec.json.Decoder(ChatRequest)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_chat_request(content: bytes) -> tuple[ChatRequest, Fields]:
    """Read a body: the fields that matter, and the JSON of each field to be passed on, without Clearfloor's own.

    Raises:
        InvalidRequestError: it is not JSON, or a field is missing or wrong; the error names it.
    """
    if content.count(b"{") > _MOST_OBJECTS:
        raise InvalidRequestError(f"The body has more than {_MOST_OBJECTS} objects.")
    chat = decode_body(_CHAT_REQUEST.decode, content, known_fields=Options.__struct_fields__)
    fields = decode_body(_FIELDS.decode, content)
    if len(fields) > _MOST_FIELDS:
        raise InvalidRequestError(f"The body has more than {_MOST_FIELDS} fields.")
    if not all(_FIELD_NAME.fullmatch(name) for name in fields):
        raise InvalidRequestError(
            "The name of a field is not 1 to 64 printable ASCII characters without blanks."
        )
    if chat.max_tokens and chat.max_completion_tokens and chat.max_tokens != chat.max_completion_tokens:
        raise InvalidRequestError(
            "`max_tokens` and `max_completion_tokens` differ: name one.", param="max_tokens"
        )
    return chat, {name: value for name, value in fields.items() if name != "clearfloor"}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the operator lets a request be judged by.

    Attributes:
        tasks: finds the task classes.
        quality_per_usd: what cost weighs against quality.
        exploration_share: the share, 0 to 1, of the requests that may explore that do.
        chance: returns a number from 0 to 1, but less than 1, at random.
    """

    tasks: Tasks = field(default_factory=Tasks)
    quality_per_usd: float = 0.0
    exploration_share: float = 0.0
    chance: Callable[[], float] = random.random

    def explores(self) -> bool:
        """Draw whether a request explores that may."""
        return self.chance() < self.exploration_share


def routing_request(  # noqa: PLR0913, PLR0917 # each decides a part of it
    chat: ChatRequest,
    fields: Fields,
    body_bytes: int,
    caller: Caller,
    catalogue: Catalogue,
    judgement: Judgement,
) -> RoutingRequest:
    """Return what routing is asked.

    Raises:
        InvalidRequestError: the floor is said twice, the model's name makes no sense or is ruled out, or there is no such
            task class, or a part of a message may cost nobody knows what.
        ModelNotFoundError: nobody runs the pinned model, or one of the models to choose from.
    """
    options = chat.options
    floor = _named_floor(chat.model, options.floor)
    pinned = None if _is_auto(chat.model) else chat.model
    _require_known_models(pinned, options.models, catalogue)
    if options.task is not None:
        _require_known_task(options.task, judgement.tasks.names | catalogue.tasks)
    cost = options.max_cost_usd
    media = count_media(chat.messages)
    text_bytes = body_bytes - payload_bytes(chat.messages)
    found = (
        judgement.tasks.named(options.task, chat.texts())
        if options.task is not None
        else judgement.tasks.found(chat.texts(), text_bytes, offers_tools=chat.offers_tools)
    )
    return RoutingRequest(
        rule="pinned_model" if pinned else "cheapest_clearing_floor",
        model=pinned,
        floor=caller.default_floor if floor is None and not pinned else floor,
        task=found.task,
        posterior=found.posterior,
        classifier=found.classifier,
        text_bytes=text_bytes,
        choices=chat.n or 1,
        output_limit_tokens=chat.output_limit or caller.default_max_output_tokens,
        media=media,
        fields=tuple(sorted(fields)),
        needs=chat.needs(media),
        max_cost_nano_usd=None if cost is None else int(Decimal(str(cost)) * _NANO_USD_PER_USD),
        models=tuple(sorted(options.models)) if options.models else None,
        clamp=options.clamp,
        on_miss=options.on_miss,
        strict=options.strict,
        # Drawn once and recorded, so that routing stays a function of the record.
        explores=pinned is None and options.explore and not options.strict and judgement.explores(),
        quality_per_usd=judgement.quality_per_usd,
        rate_snapshot=catalogue.rates.id,
    )


def _is_auto(model: str) -> bool:
    return model == AUTO or model.startswith(f"{AUTO}:")


def _named_floor(model: str, option: float | None) -> float | None:
    if not model.startswith(f"{AUTO}:"):
        return option
    if option is not None:
        raise InvalidRequestError(
            "The floor is named twice, in `model` and in `clearfloor.floor`.", param="model"
        )
    named = model.removeprefix(f"{AUTO}:")
    if not _FLOOR.fullmatch(named):
        raise InvalidRequestError(f"`{model}` names no floor: write `auto:0.8`, from 0 to 1.", param="model")
    return float(named)


def _require_known_models(pinned: str | None, models: list[str] | None, catalogue: Catalogue) -> None:
    known = set(catalogue.models)
    if pinned and pinned not in known:
        raise ModelNotFoundError(
            f"Nobody runs a model `{pinned}` here; GET /v1/models lists what there is.", param="model"
        )
    unknown = sorted(set(models or ()) - known)
    if unknown:
        raise ModelNotFoundError(
            f"Nobody runs {', '.join(unknown)} here; GET /v1/models lists what there is.",
            param="clearfloor.models",
        )
    if pinned and models and pinned not in models:
        raise InvalidRequestError(
            f"`model` pins {pinned}, which is not one of `clearfloor.models`.", param="clearfloor.models"
        )


def _require_known_task(task: str, known: frozenset[str]) -> None:
    if task not in known:
        raise InvalidRequestError(
            f"There is no task class `{task}`; there are {', '.join(sorted(known))}.", param="clearfloor.task"
        )
