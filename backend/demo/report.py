"""The demo's output: plain lines, aligned, no colour."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from backend.demo.scenes import Outcome, Scene
from backend.demo.site import Rows
from backend.units import usd

_LABEL_WIDTH = 10
_TEXT_WIDTH = 100


def scene_lines(
    number: int, scene: Scene, answer: httpx.Response, rows: Rows, other_rows: Rows
) -> Iterator[str]:
    """Yield what is shown of one request: the answer, and the rows as each tenant sees them."""
    (decision,) = rows.decisions
    yield f"{number}. {scene.title}"
    yield from _labelled("answer", textwrap.wrap(f"{answer.status_code}  {_said(answer)}", _TEXT_WIDTH))
    yield _line("decision", decision["id"])
    yield _line("", f"{decision['decision_rule']}, {decision['outcome_status']}")
    reserved, charged = usd(decision["reserved_nano_usd"]), usd(decision["charge_nano_usd"])
    yield _line("", f"floor {decision['floor']:g}, reserved {reserved} USD, charged {charged} USD")
    yield _line("ranking", ", ".join(_candidate(candidate) for candidate in decision["candidates"]))
    yield from _labelled("attempts", [_attempt(attempt) for attempt in decision["attempts"]])
    yield from _labelled("ledger", [_entry(entry) for entry in rows.ledger_entries])
    yield _line(
        "other org",
        f"sees {len(other_rows.decisions)} decisions, {len(other_rows.inferences)} attempts,"
        f" {len(other_rows.ledger_entries)} ledger entries of it",
    )


def outcome_of(answer: httpx.Response, rows: Rows) -> Outcome:
    """Return what a request came to, by its answer and its rows."""
    (decision,) = rows.decisions
    attempts = ((a["model"], a["status"], a["http_calls"]) for a in decision["attempts"])
    return Outcome(answer.status_code, decision["outcome_status"], tuple(attempts))


def wallet_lines(before: Mapping[str, int], after: Mapping[str, int], charged_nano_usd: int) -> Iterator[str]:
    """Yield the wallet before and after."""
    yield "Wallet"
    for label, wallet in (("before", before), ("after", after)):
        balance, held = usd(wallet["balance_nano_usd"]), usd(wallet["held_nano_usd"])
        yield _line(label, f"{balance} USD, of which {held} held")
    yield _line("charged", f"{usd(charged_nano_usd)} USD by these requests")


def next_lines(url: str, rest_url: str, decision_id: str) -> Iterator[str]:
    """Yield where to look next."""
    yield "Look next"
    yield _line("why", f"GET {url}/v1/decisions/{decision_id}")
    yield _line("rows", f"GET {rest_url}/routing_outcomes?order=id.desc, as a member")
    yield _line("again", f'clearfloor replay "$DATABASE_URL" --decision {decision_id}')
    yield _line("keys", "all of them are in .clearfloor/dev.env")
    yield _line("docs", "docs/api.md, docs/operating.md")


def _said(answer: httpx.Response) -> str:
    body = answer.json()
    if answer.is_success:
        text: str = body["choices"][0]["message"]["content"]
        return text
    return f"{body['error']['code']}: {body['error']['message']}"


def _candidate(candidate: Mapping[str, Any]) -> str:
    reason = f" ({candidate['rejected']})" if candidate["rejected"] else ""
    return f"{candidate['model']} {candidate['quality']:g}{reason}"


def _attempt(attempt: Mapping[str, Any]) -> str:
    calls = f"{attempt['http_calls']} HTTP call{'' if attempt['http_calls'] == 1 else 's'}"
    status = f"{attempt['status']} {attempt['http_status'] or attempt['error_class'] or ''}"
    cost = f"{usd(attempt['cost_nano_usd'])} USD"
    return f"{attempt['attempt_number']}  {attempt['model']:<12}{status:<15}{calls:<14}{cost}"


def _entry(entry: Mapping[str, Any]) -> str:
    amount = usd(entry["amount_nano_usd"])
    return f"{entry['kind']}  {entry['debit_account']} -> {entry['credit_account']}  {amount} USD"


def _labelled(label: str, texts: list[str]) -> Iterator[str]:
    for index, text in enumerate(texts or ["none"]):
        yield _line("" if index else label, text)


def _line(label: str, text: str) -> str:
    return f"   {label:<{_LABEL_WIDTH}}{text}"
