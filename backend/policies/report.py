"""What is told of policies: one line a finding, and what to write instead."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from backend.policies.calls import Call, UnreadableError, find_calls
from backend.policies.policy import Policy

_TURN_ROUND = (
    "It takes a value of the row, so it cannot be hoisted: compare with what a function without one returns,"
    " as in `team_id in (select my_team_ids())`"
)


@dataclass(frozen=True, slots=True)
class Report:
    """What was found.

    Attributes:
        findings: a line for each call that may be made for each row.
        unreadable: a line for each condition that could not be parsed.
    """

    policies: int
    findings: Sequence[str]
    unreadable: Sequence[str]

    def text(self) -> str:
        """Return the lines, and a summary as the last."""
        summary = f"Policies read: {self.policies}; calls made for each row: {len(self.findings)}"
        cannot_tell = f"; conditions not understood: {len(self.unreadable)}" if self.unreadable else ""
        return "".join(f"{line}\n" for line in (*self.findings, *self.unreadable, summary + cannot_tell))


def examine(policies: Sequence[Policy]) -> Report:
    """Look for calls that may be made for each row; a condition that cannot be parsed keeps no other from being told."""
    findings: list[str] = []
    unreadable: list[str] = []
    for policy, clause, condition in _conditions(policies):
        subject = f'{policy.schema}.{policy.table} "{policy.name}" {clause}:'
        try:
            calls = find_calls(condition, policy.functions)
        except UnreadableError as error:
            unreadable.append(f"{subject} it cannot be parsed ({error}). Look at it by hand.")
        else:
            findings += [f"{subject} {_told(call)}" for call in calls]
    return Report(len(policies), findings, unreadable)


def _conditions(policies: Sequence[Policy]) -> Iterator[tuple[Policy, str, str]]:
    for policy in policies:
        for clause, condition in (("USING", policy.using), ("WITH CHECK", policy.with_check)):
            if condition is not None:
                yield policy, clause, condition


def _told(call: Call) -> str:
    remedy = _TURN_ROUND if call.takes_row else f"Write `(select {call.text})`"
    return f"{call.text} {call.place}. {remedy}."
