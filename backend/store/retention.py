"""Retention of the record: how long decisions are kept the database knows, and deletes what is older when asked."""

from backend.store.client import DataApi


async def delete_old_decisions(api: DataApi, batch_size: int) -> int:
    """Delete up to ``batch_size`` completed decisions, with their attempts, that are older than ``public.retention`` says.

    Returns how many; none where nothing says how long they are kept. Tried once.

    Raises:
        StoreUnavailableError: the record cannot be reached.
    """
    deleted = await api.call("delete_old_decisions", {"batch_size": batch_size})
    return int(deleted)
