"""Answers that are sealed for the record, and what opens them."""

import msgspec
import pytest
from cryptography.fernet import Fernet

from backend.dispatch.answers import Delivery, Facts, Vault
from backend.ids import uuid7

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))
FACTS = Facts(
    decision_id=uuid7(),
    rule="cheapest_clearing_floor",
    task="chat",
    model="model",
    provider="provider",
    quality=0.8,
    quality_bound=0.7,
    floor=0.7,
    floor_cleared=True,
    attempts=2,
    clamped_max_tokens=None,
)
BODY = b'{"choices": []}'


@pytest.mark.parametrize("keys", [[OLD], [NEW, OLD]])
def test_an_answer_is_opened_by_any_key_that_is_left(keys: list[str]) -> None:
    """The newest seals, all open. The charge is the decision's, and not what was sealed."""
    sealed = Vault([OLD]).seal(FACTS, BODY)
    assert Vault(keys).open(sealed, FACTS.decision_id, 7) == Delivery(FACTS, BODY, 7, is_replay=True)


def test_an_answer_that_cannot_be_opened_is_none() -> None:
    """Its key is gone, it is another decision's, somebody wrote on it, or another version made it."""
    sealed = Vault([OLD]).seal(FACTS, BODY)
    of_another_version = Fernet(OLD).encrypt(msgspec.msgpack.encode({"body": 1})).decode()
    assert Vault([NEW]).open(sealed, FACTS.decision_id, 7) is None
    assert Vault([OLD]).open(sealed, uuid7(), 7) is None
    assert Vault([OLD]).open(sealed[:-4] + "AAA=", FACTS.decision_id, 7) is None
    assert Vault([OLD]).open(of_another_version, FACTS.decision_id, 7) is None
