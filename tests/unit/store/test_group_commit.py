"""Group commit: few calls, no waits of its own, and every item has an answer of its own."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import StoreUnavailableError
from backend.store.client import LockHeldError, RecordError
from backend.store.group_commit import NEVER, GroupCommit, Item

ONE, OTHER, THIRD = (UUID(int=number) for number in (1, 2, 3))
AWAY = StoreUnavailableError("away", retry_after_seconds=1.0)
LOCKED = LockHeldError("locked", retry_after_seconds=1.0)
WRONG_VALUE = RecordError("no", "22P02")
NO_RIGHT = RecordError("no", "42501")
BATCH_ITEMS = 4
TURNS = 30


@dataclass
class Record:
    """A record that answers each item with its content, after ``fault`` has had a look at the batch."""

    fault: Callable[[Sequence[bytes]], Exception | None] = lambda _: None
    batches: list[list[bytes]] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    gate: asyncio.Event | None = None

    async def call(self, items: Sequence[bytes]) -> list[dict[str, Any]]:
        """Answer a batch, once the gate is open if there is one."""
        self.batches.append(list(items))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await (self.gate.wait() if self.gate else asyncio.sleep(0))
        finally:
            self.under_way -= 1
        if error := self.fault(items):
            raise error
        return [{"content": item} for item in items]


def group_commit(record: Record, most_waiting: int = 100) -> GroupCommit:
    """Return a group commit with small batches."""
    return GroupCommit(record.call, batch_items=BATCH_ITEMS, most_waiting=most_waiting)


def put(commit: GroupCommit, *names: str, organization: UUID = ONE, deadline: float = NEVER) -> list[Item]:
    """Put items, one a name."""
    items = [Item(name.encode(), organization, deadline) for name in names]
    for item in items:
        commit.put(item)
    return items


async def turns() -> None:
    """Let everything that can go on go on."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


def told(item: Item) -> tuple[object, ...]:
    """Return the error that an item was answered with."""
    return told_by(item.answer.exception())


def told_by(error: BaseException | None) -> tuple[object, ...]:
    """Return what an error says."""
    return type(error), str(error), getattr(error, "code", None)


async def contents(items: Sequence[Item]) -> list[str]:
    """Return what the items were answered with."""
    return [(await item.answer)["content"].decode() for item in items]


async def test_an_item_that_finds_nothing_under_way_is_sent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle gateway adds no wait: nothing is scheduled for later."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("there are no timers")

    for name in ("call_later", "call_at"):
        monkeypatch.setattr(asyncio.get_running_loop(), name, refuse)
    record = Record()
    (item,) = put(group_commit(record), "a")
    await turns()
    assert item.answer.done()
    assert record.batches == [[b"a"]]


async def test_what_comes_together_goes_together() -> None:
    """In the order in which it came, each with its own answer."""
    record = Record()
    items = put(group_commit(record), "a", "b", "c")
    assert await contents(items) == ["a", "b", "c"]
    assert record.batches == [[b"a", b"b", b"c"]]


async def test_while_one_batch_is_under_way_the_next_one_fills() -> None:
    """It goes when the first is back, with all that came meanwhile."""
    record = Record(gate=asyncio.Event())
    commit = group_commit(record)
    items = put(commit, "a")
    await turns()
    for name in "bcd":
        items += put(commit, name)
        await turns()
    assert record.batches == [[b"a"]]
    assert record.gate
    record.gate.set()
    assert await contents(items) == ["a", "b", "c", "d"]
    assert record.batches == [[b"a"], [b"b", b"c", b"d"]]


async def test_a_full_batch_does_not_wait_but_a_third_one_does() -> None:
    """At most two are under way, none larger than a batch may be."""
    record = Record(gate=asyncio.Event())
    commit = group_commit(record)
    items = put(commit, "a")
    await turns()
    items += put(commit, *"bcdefghijk")
    await turns()
    assert record.batches == [[b"a"], [b"b", b"c", b"d", b"e"]]
    assert record.gate
    record.gate.set()
    assert "".join(await contents(items)) == "abcdefghijk"
    assert record.most_under_way == 2
    assert max(map(len, record.batches)) == BATCH_ITEMS


async def test_a_full_queue_refuses_what_has_cost_nothing_yet_and_never_what_is_paid_for() -> None:
    """With the time to come back; what waits already is not touched."""
    record = Record(gate=asyncio.Event())
    commit = group_commit(record, most_waiting=2)
    soon = time.monotonic() + 60
    items = put(commit, "a", deadline=soon)
    await turns()
    items += put(commit, "b", "c", deadline=soon)
    with pytest.raises(StoreUnavailableError) as raised:
        put(commit, "d", deadline=soon)
    assert raised.value.retry_after_seconds
    items += put(commit, "e")
    assert record.gate
    record.gate.set()
    assert await contents(items) == ["a", "b", "c", "e"]


@pytest.mark.usefixtures("waits")
async def test_a_value_that_the_record_does_not_take_fails_its_own_item_only() -> None:
    """Whoever it was sent with is written, under the same ids."""
    record = Record(lambda items: WRONG_VALUE if b"c" in items else None)
    items = put(group_commit(record), "a", "b", "c", "d")
    await turns()
    assert await contents([*items[:2], items[3]]) == ["a", "b", "d"]
    assert told(items[2]) == told_by(WRONG_VALUE)
    assert record.batches == [[b"a", b"b", b"c", b"d"], [b"a", b"b"], [b"c", b"d"], [b"c"], [b"d"]]


@pytest.mark.usefixtures("waits")
async def test_an_organization_whose_wallet_is_locked_keeps_nobody_else_waiting() -> None:
    """It is set apart with what comes of it meanwhile, and taken in again once it is through."""
    is_locked = True
    record = Record(lambda items: LOCKED if is_locked and any(item[:1] == b"x" for item in items) else None)
    commit = group_commit(record)
    locked = put(commit, "x1", organization=OTHER)
    healthy = put(commit, "a", organization=ONE) + put(commit, "b", organization=THIRD)
    assert await contents(healthy) == ["a", "b"]
    # In one turn: but for the first of them they would go together.
    locked += put(commit, "x2", organization=OTHER)
    healthy = put(commit, "c", organization=ONE)
    assert await contents(healthy) == ["c"]
    assert not [batch for batch in record.batches if b"x2" in batch and b"c" in batch]
    assert [b"c"] in record.batches
    assert not any(item.answer.done() for item in locked)
    is_locked = False
    assert await contents(locked) == ["x1", "x2"]
    await turns()
    both = put(commit, "x3", organization=OTHER) + put(commit, "d", organization=ONE)
    assert await contents(both) == ["x3", "d"]
    assert record.batches[-1] == [b"x3", b"d"]


@pytest.mark.usefixtures("waits")
async def test_a_lock_that_is_gone_leaves_no_trace() -> None:
    """Whoever was set apart for it goes together again, with what comes while it is under way."""
    faults: list[Exception] = [LOCKED]
    record = Record(lambda _: faults.pop() if faults else None)
    commit = group_commit(record)
    for _ in range(20):
        put(commit, "a", organization=ONE)
        put(commit, "b", organization=OTHER)
        await asyncio.sleep(0)
    await turns()
    record.batches.clear()
    assert await contents(put(commit, "a", organization=ONE) + put(commit, "b", organization=OTHER)) == [
        "a",
        "b",
    ]
    assert record.batches == [[b"a", b"b"]]


@pytest.mark.usefixtures("waits")
async def test_what_somebody_can_mend_fails_an_opening_and_only_delays_a_completion() -> None:
    """And whoever it was sent with is written."""
    is_mended = False
    record = Record(lambda items: NO_RIGHT if not is_mended and {b"x", b"y"} & set(items) else None)
    commit = group_commit(record)
    (innocent, opening) = put(commit, "a", "y", deadline=time.monotonic() + 60)
    (completion,) = put(commit, "x")
    assert await contents([innocent]) == ["a"]
    await turns()
    assert told(opening) == told_by(NO_RIGHT)
    assert await contents(put(commit, "b")) == ["b"]
    assert not completion.answer.done()
    is_mended = True
    assert await contents([completion]) == ["x"]


@pytest.mark.usefixtures("waits")
async def test_what_only_gets_through_alone_keeps_nobody_from_getting_through() -> None:
    """Too much for the record together, say, and it answers nothing at all."""
    record = Record(lambda items: AWAY if sum(map(len, items)) > 100 else None)
    commit = group_commit(record)
    large = put(commit, "x" * 60, "y" * 60, "z" * 101)
    innocent = put(commit, *"abcdefgh")
    assert await contents(innocent) == list("abcdefgh")
    assert await contents(large[:2]) == ["x" * 60, "y" * 60]
    assert not large[2].answer.done()
    record.batches.clear()
    for _ in range(5):
        assert await contents(put(commit, "i", "j")) == ["i", "j"]
        await turns()
    assert not [batch for batch in record.batches if large[2].content in batch and len(batch) > 1]


@pytest.mark.usefixtures("waits")
async def test_batches_grow_again_once_the_record_is_back() -> None:
    """An absence must not leave everybody alone."""
    faults = [AWAY, AWAY, AWAY]
    record = Record(lambda _: faults.pop() if faults else None)
    commit = group_commit(record)
    await contents(put(commit, *"abcd"))
    for name in "efgh":
        await contents(put(commit, name))
    record.batches.clear()
    assert await contents(put(commit, *"ijkl")) == list("ijkl")
    assert record.batches == [[b"i", b"j", b"k", b"l"]]


@pytest.mark.usefixtures("waits")
async def test_however_many_are_set_apart_they_make_two_calls_at_a_time() -> None:
    """The others need connections, too."""
    faults: list[Exception] = [LOCKED]
    record = Record(lambda _: faults.pop() if faults else None)
    commit = GroupCommit(record.call, batch_items=10, most_waiting=100)
    items = [put(commit, "a", organization=UUID(int=number))[0] for number in range(8)]
    await contents(items)
    assert record.most_under_way == 2


async def test_an_item_whose_time_is_up_when_its_turn_comes_is_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The record is slow, and its caller has no time left for a provider."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    record = Record(gate=asyncio.Event())
    commit = group_commit(record)
    first = put(commit, "a")
    await turns()
    (late,) = put(commit, "b", deadline=101.0)
    now = 102.0
    assert record.gate
    record.gate.set()
    await contents(first)
    await turns()
    assert isinstance(late.answer.exception(), StoreUnavailableError)
    assert record.batches == [[b"a"]]


async def test_who_waits_far_behind_while_the_record_is_away_ends_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the failure of whatever is before it, not once it is its turn."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    record = Record(lambda _: AWAY, gate=asyncio.Event())
    commit = group_commit(record)
    put(commit, "a")
    await turns()
    items = put(commit, *"bcdefghijklm", deadline=101.0)
    now = 102.0
    assert record.gate
    record.gate.set()
    await turns()
    assert all(item.answer.done() for item in items)
    assert [item.answer.exception() for item in items]


async def test_a_batch_has_no_more_bytes_than_get_through_in_time() -> None:
    """Stored answers may have megabytes."""
    record = Record()
    large = "x" * (600 * 1024)
    await contents(put(group_commit(record), large, large, "a"))
    assert [len(batch) for batch in record.batches] == [1, 2]


@pytest.mark.usefixtures("waits")
async def test_while_the_record_is_away_openings_end_in_time_wherever_they_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those in a batch and those behind it; what is paid for is written once the record is back."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    is_away = True
    record = Record(lambda _: AWAY if is_away else None)
    commit = group_commit(record)
    sent = put(commit, "a", deadline=101.0) + put(commit, "b")
    await asyncio.sleep(0)
    behind = put(commit, "c", deadline=101.0) + put(commit, "d")
    await turns()
    assert not any(item.answer.done() for item in (*sent, *behind))
    now = 102.0
    await turns()
    for item in (sent[0], behind[0]):
        assert isinstance(item.answer.exception(), StoreUnavailableError)
    is_away = False
    record.batches.clear()
    assert await contents([sent[1], behind[1]]) == ["b", "d"]
    assert not {b"a", b"c"} & {item for batch in record.batches for item in batch}


async def test_a_second_batch_fills_from_what_comes_one_by_one() -> None:
    """It does not wait for the first one, which may hang."""
    record = Record(gate=asyncio.Event())
    commit = group_commit(record)
    items = put(commit, "a")
    for name in "bcde":
        await turns()
        items += put(commit, name)
    await turns()
    assert record.batches == [[b"a"], [b"b", b"c", b"d", b"e"]]
    assert record.gate
    record.gate.set()
    assert "".join(await contents(items)) == "abcde"


async def test_callers_who_have_left_take_no_room() -> None:
    """Of the queue only the living count."""
    record = Record(gate=asyncio.Event())
    commit = group_commit(record, most_waiting=2)
    soon = time.monotonic() + 60
    items = put(commit, "a", deadline=soon)
    await turns()
    for item in put(commit, "b", "c", deadline=soon):
        item.answer.cancel()
    items += put(commit, "d", deadline=soon)
    assert record.gate
    record.gate.set()
    assert await contents(items) == ["a", "d"]


async def test_each_caller_has_an_error_of_its_own() -> None:
    """What is written into one, such as a decision's id, is nobody else's."""
    record = Record(lambda _: NO_RIGHT)
    items = put(group_commit(record), "a", "b", deadline=time.monotonic() + 60)
    await turns()
    one, other = (item.answer.exception() for item in items)
    assert one is not other


async def test_an_item_that_nobody_waits_for_any_more_is_not_sent() -> None:
    """Its caller has left before it was its turn."""
    record = Record(gate=asyncio.Event())
    commit = group_commit(record)
    items = put(commit, "a")
    await turns()
    items += put(commit, "b", "c")
    items[1].answer.cancel()
    assert record.gate
    record.gate.set()
    assert await contents([items[0], items[2]]) == ["a", "c"]
    assert record.batches == [[b"a"], [b"c"]]


@pytest.mark.usefixtures("waits")
async def test_a_fault_of_ours_leaves_nobody_waiting_and_loses_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged; what is paid for is tried again."""
    faults = [ZeroDivisionError()]
    record = Record(lambda _: faults.pop() if faults else None)
    commit = group_commit(record)
    (opening,) = put(commit, "a", deadline=time.monotonic() + 60)
    (completion,) = put(commit, "b")
    with pytest.raises(StoreUnavailableError):
        await opening.answer
    assert "fault of ours" in caplog.text
    assert await contents([completion]) == ["b"]


ARRIVALS = st.lists(
    st.tuples(st.sampled_from([ONE, OTHER, THIRD]), st.booleans(), st.booleans()), min_size=1, max_size=40
)


@pytest.mark.usefixtures("waits")
@given(
    arrivals=ARRIVALS,
    faults=st.lists(st.sampled_from([None, AWAY, LOCKED, NO_RIGHT]), max_size=30),
    bad=st.sets(st.integers(0, 39)),
)
async def test_whatever_goes_wrong_every_item_is_answered_once_with_its_own_answer(
    arrivals: list[tuple[UUID, bool, bool]], faults: list[Exception | None], bad: set[int]
) -> None:
    """Never more than a batch in a call. What is paid for is written, but for what makes no sense."""

    def fault(items: Sequence[bytes]) -> Exception | None:
        if faults and (error := faults.pop()):
            return error
        return WRONG_VALUE if any(int(item) in bad for item in items) else None

    record = Record(fault)
    commit = group_commit(record)
    items: list[Item] = []
    for number, (organization, is_paid_for, waits) in enumerate(arrivals):
        deadline = NEVER if is_paid_for else time.monotonic() + 60
        items += put(commit, str(number), organization=organization, deadline=deadline)
        if waits:
            await asyncio.sleep(0)
    answers = await asyncio.gather(*(item.answer for item in items), return_exceptions=True)
    for number, (item, answer) in enumerate(zip(items, answers, strict=True)):
        if isinstance(answer, dict):
            assert answer["content"] == item.content
            assert number not in bad
        elif item.deadline == NEVER:
            assert told(item) == told_by(WRONG_VALUE)
            assert number in bad
        else:
            assert told(item) in (told_by(WRONG_VALUE), told_by(NO_RIGHT))
    assert max(map(len, record.batches)) <= BATCH_ITEMS
