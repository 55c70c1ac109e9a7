"""How vendors count tokens: what each reports, and whether inside its totals or on top of them.

A vendor is a row of ``CONVENTIONS``; ``providers.usage_convention`` in the catalogue names it. Sources, looked up 2026-11:

* ``openai``: https://platform.openai.com/docs/api-reference/chat/object; also Mistral, Groq, Together, OpenRouter, vLLM.
* ``deepseek``: cache reads under a name of its own, https://api-docs.deepseek.com/guides/kv_cache
* ``xai``: reasoning comes on top of ``completion_tokens``,
  https://docs.x.ai/docs/key-information/consumption-and-rate-limits
* ``gemini``: thoughts likewise, and some answers show them only in ``total_tokens``,
  https://ai.google.dev/gemini-api/docs/openai
* ``anthropic``: cache reads and writes come on top of ``input_tokens``, writes by lifetime,
  https://docs.claude.com/en/docs/build-with-claude/prompt-caching
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backend.providers.types import Usage

# No call uses more. A provider that reports more must not keep the call from being settled.
_MOST_TOKENS = 10**9
# Of figures that we do not know, a few; a report that is longer is no report of tokens.
_LONGEST_REPORT_CHARACTERS = 4_000

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UsageConvention:
    """Where a vendor reports each class of tokens.

    Attributes:
        input, output: the totals; without both there is no report.
        cache_read, cache_write: tokens read from and written to a cache. Writes of both lifetimes together.
        cache_write_1h: those of the writes that are kept for an hour.
        reasoning: what was thought before the answer.
        total: of everything; what is in it and nowhere else is reasoning, where that comes on top.
        has_cache_inside: cache reads and writes are part of ``input``.
        has_reasoning_inside: reasoning is part of ``output``.
    """

    input: Path = ("prompt_tokens",)
    output: Path = ("completion_tokens",)
    cache_read: Path = ("prompt_tokens_details", "cached_tokens")
    cache_write: Path = ("prompt_tokens_details", "cache_write_tokens")
    cache_write_1h: Path = ()
    reasoning: Path = ("completion_tokens_details", "reasoning_tokens")
    total: Path = ("total_tokens",)
    has_cache_inside: bool = True
    has_reasoning_inside: bool = True


CONVENTIONS: Mapping[str, UsageConvention] = {
    "openai": UsageConvention(),
    "deepseek": UsageConvention(cache_read=("prompt_cache_hit_tokens",)),
    "xai": UsageConvention(has_reasoning_inside=False),
    "gemini": UsageConvention(has_reasoning_inside=False),
    "anthropic": UsageConvention(
        input=("input_tokens",),
        output=("output_tokens",),
        cache_read=("cache_read_input_tokens",),
        cache_write=("cache_creation_input_tokens",),
        cache_write_1h=("cache_creation", "ephemeral_1h_input_tokens"),
        reasoning=(),
        total=(),
        has_cache_inside=False,
    ),
}


def read_usage(reported: Any, convention_name: str) -> Usage | None:  # noqa: ANN401 # whatever the provider sent
    """Return what a provider reports, in disjoint classes; None if its totals are missing or make no sense.

    Unknown is not zero: usage is estimated instead. A part that is larger than its total is cut to it.
    """
    if reported is None:
        return None
    convention = CONVENTIONS[convention_name]
    read, wrote = _count(reported, convention.input), _count(reported, convention.output)
    if read is None or wrote is None or len(str(reported)) > _LONGEST_REPORT_CHARACTERS:
        return None
    cache_read = _count(reported, convention.cache_read) or 0
    cache_write = _count(reported, convention.cache_write) or 0
    reasoning = _count(reported, convention.reasoning) or 0
    if convention.has_cache_inside:
        cache_read = min(cache_read, read)
        cache_write = min(cache_write, read - cache_read)
        read -= cache_read + cache_write
    if convention.has_reasoning_inside:
        reasoning = min(reasoning, wrote)
        wrote -= reasoning
    else:
        total = _count(reported, convention.total) or 0
        reasoning = max(reasoning, total - read - cache_read - cache_write - wrote)
    cache_write_1h = min(_count(reported, convention.cache_write_1h) or 0, cache_write)
    return Usage(
        input_tokens=read,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write - cache_write_1h,
        cache_write_1h_tokens=cache_write_1h,
        output_tokens=wrote,
        reasoning_tokens=reasoning,
        source="provider",
        convention=convention_name,
        reported=_figures(reported),
    )


def _figures(reported: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of a report by their names. What else a provider may put there is none of the record's."""
    figures: dict[str, Any] = {}
    for name, value in reported.items():
        if name.isprintable() and isinstance(value, dict | int | float):
            figures[name] = _figures(value) if isinstance(value, dict) else value
    return figures


def _count(reported: Any, path: Path) -> int | None:  # noqa: ANN401 # whatever the provider sent
    """Return the count at a path of the report, or None where there is none."""
    if not path:
        return None
    value = reported
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return min(value, _MOST_TOKENS) if type(value) is int and value >= 0 else None
