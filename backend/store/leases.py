"""Leases of open decisions: whose process lives renews its own, and what ran out is swept."""

from collections.abc import Sequence
from uuid import UUID

from backend.store.client import DataApi


async def renew_leases(api: DataApi, decisions: Sequence[UUID], lease_seconds: int) -> None:
    """Renew the leases of those of the decisions that are open. Tried once.

    Raises:
        StoreUnavailableError: the record cannot be reached.
    """
    ids = [str(decision) for decision in decisions]
    await api.call("renew_leases", {"decisions": ids, "lease_seconds": lease_seconds})


async def sweep_decisions(api: DataApi, batch_size: int) -> int:
    """Close up to ``batch_size`` decisions whose lease has run out, and delete as many keys and answers whose time is up.

    Returns how many, of whatever there were most. Tried once.

    Raises:
        StoreUnavailableError: the record cannot be reached.
    """
    swept = await api.call("sweep_decisions", {"batch_size": batch_size})
    return int(swept)
