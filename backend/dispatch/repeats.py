"""Requests with one Idempotency-Key are one request: one is carried out, those that repeat it wait for what becomes of it."""

import asyncio
import time
from contextlib import suppress
from uuid import UUID

from backend.dispatch.answers import Delivery
from backend.dispatch.dispatcher import Dispatcher
from backend.dispatch.order import Order
from backend.dispatch.relay import Relay
from backend.errors import IdempotencyKeyReusedError, RequestDoneError, RequestInProgressError
from backend.store.record import KeyHeldError, KeyHolder
from backend.units import usd


async def dispatch_once(dispatcher: Dispatcher, order: Order) -> Delivery | Relay:
    """Carry an order out, unless another one has its Idempotency-Key: then return that one's answer, if it is stored.

    Raises:
        IdempotencyKeyReusedError: the other one's body is not the same.
        RequestInProgressError: the other one is not over, and this one has waited long enough.
        RequestDoneError: the other one is over, and its answer is not stored.
        ClearfloorError: as :meth:`Dispatcher.dispatch` does.
    """
    deadline = time.monotonic() + dispatcher.settings.idempotency_wait_seconds
    while True:
        with suppress(KeyHeldError):
            return await dispatcher.dispatch(order)
        # Until the key is free again, as nothing came of the other one.
        while holder := await dispatcher.record.find_key_holder(order.decision):
            _require_same_body(order, holder)
            if holder.outcome_status:
                return _replay(dispatcher, holder)
            _require_time(holder.decision_id, deadline)
            await asyncio.sleep(dispatcher.settings.idempotency_poll_seconds)


def _require_same_body(order: Order, holder: KeyHolder) -> None:
    if holder.body_hash != order.decision.body_hash:
        raise IdempotencyKeyReusedError(
            f"This Idempotency-Key stands for another body, that of decision {holder.decision_id}. Nothing was called:"
            " use a new key for a new request.",
            decision_id=holder.decision_id,
        )


def _require_time(decision_id: UUID, deadline: float) -> None:
    if time.monotonic() >= deadline:
        raise RequestInProgressError(
            f"The request with this Idempotency-Key, decision {decision_id}, is still under way. Nothing was called a"
            " second time: send it again after `Retry-After`.",
            decision_id=decision_id,
            retry_after_seconds=RequestInProgressError.RETRY_AFTER_SECONDS,
        )


def _replay(dispatcher: Dispatcher, holder: KeyHolder) -> Delivery:
    charge = holder.charge_nano_usd or 0
    if holder.answer and dispatcher.vault:
        delivery = dispatcher.vault.open(holder.answer, holder.decision_id, charge)
        if delivery:
            return delivery
    raise RequestDoneError(
        f"The request with this Idempotency-Key is over: decision {holder.decision_id}, {holder.outcome_status}, charged"
        f" {usd(charge)} USD. Its answer is not stored, and nothing was called a second time."
        f" GET /v1/decisions/{holder.decision_id} has its record; to ask again use a new key.",
        decision_id=holder.decision_id,
        details={
            "decision_id": str(holder.decision_id),
            "outcome_status": holder.outcome_status,
            "charge_usd": usd(charge),
        },
    )
