"""Answers as they are handed back, and sealed to be handed back again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from uuid import UUID

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from backend.dispatch.attempt import Attempt
from backend.store.record import DecisionOpening


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller is told of a decision beside the answer. None: there is nothing to tell."""

    decision_id: UUID
    rule: str
    task: str
    model: str | None = None
    provider: str | None = None
    quality: float | None = None
    quality_bound: float | None = None
    floor: float | None
    floor_cleared: bool | None = None
    attempts: int
    clamped_max_tokens: int | None = None

    @classmethod
    def of(cls, decision: DecisionOpening, attempts: int, answered: Attempt | None = None) -> Self:
        """Return the facts of a decision after so many attempts; ``answered`` is the one that did."""
        if answered is None:
            return cls(
                decision_id=decision.id,
                rule=decision.requested_rule,
                task=decision.task,
                floor=decision.floor,
                attempts=attempts,
            )
        scored = answered.scored
        return cls(
            decision_id=decision.id,
            rule=decision.requested_rule,
            task=decision.task,
            model=scored.candidate.model,
            provider=scored.candidate.provider,
            quality=scored.quality,
            quality_bound=scored.quality_bound,
            floor=decision.floor,
            floor_cleared=None if decision.floor is None else scored.rejected is None,
            attempts=attempts,
            clamped_max_tokens=answered.output_limit_tokens if answered.is_clamped else None,
        )


class _Sealed(msgspec.Struct, frozen=True):
    facts: Facts
    body: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """A plain answer. ``charge_nano_usd`` None: the record was away, the completion goes on."""

    facts: Facts
    body: bytes
    charge_nano_usd: int | None
    is_replay: bool = False


class Vault:
    """Seals answers for the record and opens them again.

    ``keys`` are Fernet keys: the first one seals, all of them open, so that keys can be rotated.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def seal(self, facts: Facts, body: bytes) -> str:
        """Return an answer as ciphertext, in printable characters."""
        return self._fernet.encrypt(msgspec.msgpack.encode(_Sealed(facts, body))).decode()

    def open(self, sealed: str, decision_id: UUID, charge_nano_usd: int) -> Delivery | None:
        """Return the answer of a decision; None if it is another's, or sealed with a key that is gone or by another version."""
        try:
            answer = msgspec.msgpack.decode(self._fernet.decrypt(sealed), type=_Sealed)
        except (InvalidToken, msgspec.DecodeError):
            return None
        if answer.facts.decision_id != decision_id:
            return None
        return Delivery(answer.facts, answer.body, charge_nano_usd, is_replay=True)
