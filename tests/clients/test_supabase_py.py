"""supabase-py as two tenants against a real PostgREST: each reads what is its own, never the other's, and writes nothing.

A client carries one member's token; clients may share connections.
"""

from collections.abc import Iterator
from typing import Any, cast

import httpx
import pytest
from postgrest.exceptions import APIError
from postgrest.types import CountMethod

from backend.stack.stack import Stack
from supabase import Client, ClientOptions, create_client
from tests.clients.conftest import Reader
from tests.support.tenant import Rows, open_rows

MAX_ROWS = 1000
BEFORE_ALL = "2026-01-01"
REFUSED = "42501"
DECISION = (
    "inference:inferences!routing_outcomes_inference_fkey(id),"
    "attempts:inferences!inferences_routing_outcome_fkey(id, attempt_number, status)"
)
# Each table that members may read, and the column that says whose a row is.
_READABLE = """
    select class.relname as table, owner.attname as owner
    from pg_class as class
    inner join pg_attribute as owner
        on owner.attrelid = class.oid
        and owner.attname = case class.relname when 'organizations' then 'id' else 'organization_id' end
    where class.relnamespace = 'public'::regnamespace and class.relkind in ('r', 'p', 'v', 'm') and not class.relispartition
        and has_column_privilege('authenticated', class.oid, owner.attnum, 'select')
    order by class.relname
"""


@pytest.fixture
def rows(stack: Stack) -> Iterator[Rows]:
    """Read past row level security."""
    with open_rows(stack.endpoints.superuser_url) as rows:
        yield rows


@pytest.fixture
def clients(stack: Stack, readers: tuple[Reader, Reader]) -> Iterator[dict[str, Client]]:
    """Make each reader's client, by organization."""
    with httpx.Client() as http:
        made = {reader.organization_id: make_client(stack, http) for reader in readers}
        for reader in readers:
            made[reader.organization_id].postgrest.auth(reader.token)
        yield made


@pytest.fixture(params=[0, 1], ids=["the first tenant", "the second tenant"])
def mine(request: pytest.FixtureRequest, readers: tuple[Reader, Reader]) -> Reader:
    """Take each reader's side in turn."""
    return readers[request.param]


@pytest.fixture
def theirs(mine: Reader, readers: tuple[Reader, Reader]) -> Reader:
    """Return the other reader."""
    return readers[1] if mine is readers[0] else readers[0]


@pytest.fixture
def client(mine: Reader, clients: dict[str, Client]) -> Client:
    """Return the client with the token of the side that is taken."""
    return clients[mine.organization_id]


def make_client(stack: Stack, http: httpx.Client) -> Client:
    """Make a client with the publishable key, that nobody has signed in with."""
    options = ClientOptions(httpx_client=http, auto_refresh_token=False, persist_session=False)
    return create_client(stack.endpoints.supabase_url, stack.endpoints.publishable_key, options)


def found(query: Any) -> list[dict[str, Any]]:
    """Return the rows of an answer."""
    return cast("list[dict[str, Any]]", query.execute().data)


def ids(query: Any) -> list[str]:
    """Return the ids of an answer's rows."""
    return [row["id"] for row in found(query)]


def code(query: Any) -> str | None:
    """Return the code of a refusal; None for an answer."""
    try:
        query.execute()
    except APIError as error:
        return error.code
    return None


def readable_tables(rows: Rows) -> list[tuple[str, str]]:
    """Return the tables that members may read, each with the column that says whose a row is."""
    return [(row["table"], row["owner"]) for row in rows.query(_READABLE)]


def owners(rows: Rows, table: str, owner: str) -> list[str]:
    """Return whose each of a table's rows is."""
    query = f"select {owner}::text as owner from public.{table}"  # noqa: S608 # names from the catalogue
    return [row["owner"] for row in rows.query(query)]


def test_lists_and_filters(client: Client, mine: Reader) -> None:
    """Newest first; by agent and outcome."""
    decisions = client.table("routing_outcomes")
    assert ids(decisions.select("id").order("id", desc=True).limit(5)) == mine.decisions[:5]
    answered = decisions.select("id").eq("agent_id", mine.agent_id).eq("outcome_status", "succeeded")
    assert ids(answered.order("id", desc=True)) == mine.decisions[:2]


def test_paging_by_id_reads_every_row_once(client: Client, mine: Reader) -> None:
    """Where one answer is cut, silently."""
    assert len(found(client.table("routing_outcomes").select("id"))) == MAX_ROWS < len(mine.decisions)
    read: list[str] = []
    while True:
        page = client.table("routing_outcomes").select("id").order("id", desc=True).limit(MAX_ROWS)
        read += (ended := ids(page.lt("id", read[-1]) if read else page))
        if not ended:
            break
    assert read == mine.decisions


def test_a_count_goes_beyond_what_an_answer_can_have(client: Client, mine: Reader) -> None:
    """And sends no row."""
    answer = client.table("routing_outcomes").select("id", count=CountMethod.exact, head=True).execute()
    assert (answer.count, answer.data) == (len(mine.decisions), [])


def test_a_decision_with_both_of_its_embeds(client: Client, mine: Reader) -> None:
    """The attempt that it names is the last of its attempts."""
    decision = client.table("routing_outcomes").select(DECISION).eq("id", mine.decisions[0])
    (row,) = found(decision.order("attempt_number", foreign_table="attempts"))
    assert [attempt["status"] for attempt in row["attempts"]] == ["failed", "succeeded"]
    assert row["inference"]["id"] == row["attempts"][1]["id"]


def test_usage_savings_and_wallet(client: Client, mine: Reader) -> None:
    """Usage is paged by a range: it has more rows than an answer, too."""
    usage: list[dict[str, Any]] = []
    while len(usage) % MAX_ROWS == 0:
        query = client.rpc("usage_by", {"bucket": "month", "since": BEFORE_ALL}).order("bucket_start")
        for column in ("agent_id", "model", "provider", "outcome_status"):
            query = query.order(column)
        usage += found(query.range(len(usage), len(usage) + MAX_ROWS - 1))
    assert sum(row["decisions"] for row in usage) == len(mine.decisions) == len(usage)
    assert sum(row["charge_nano_usd"] for row in usage) == mine.charge_nano_usd
    assert sum(row["saved_nano_usd"] or 0 for row in usage) == mine.saved_nano_usd
    (wallet,) = found(client.table("wallets").select("balance_nano_usd, held_nano_usd"))
    assert wallet == {"balance_nano_usd": mine.balance_nano_usd, "held_nano_usd": 0}


def test_no_table_shows_the_others_rows(client: Client, mine: Reader, theirs: Reader, rows: Rows) -> None:
    """By no filter, alternative, count or range, whatever tables there are; and the other has rows in each of them."""
    own, other = mine.organization_id, theirs.organization_id
    for table, owner in readable_tables(rows):
        there = owners(rows, table, owner)
        assert {own, other} <= set(there), f"{table}: give both readers rows, in tests/clients/conftest.py"
        readable = client.table(table).select
        alternative = f"{owner}.eq.{other},{owner}.neq.{other}"
        seen = readable(owner, count=CountMethod.exact).or_(alternative).execute()
        assert {row[owner] for row in cast("list[dict[str, Any]]", seen.data)} == {own}, table
        assert seen.count == there.count(own), table
        assert found(readable(owner).eq(owner, other)) == [], table
        assert found(readable(owner).neq(owner, own)) == [], table
        assert readable(owner, count=CountMethod.exact, head=True).neq(owner, own).execute().count == 0, table
        beyond = readable(owner).order(owner).range(there.count(own), there.count(own) + MAX_ROWS)
        assert found(beyond) == [], table


def test_an_embed_shows_nothing_of_the_others(client: Client, mine: Reader, theirs: Reader) -> None:
    """Neither side of a join does."""
    decision = "decision:routing_outcomes!inferences_routing_outcome_fkey"
    own = {"organization_id": mine.organization_id}
    attempts = client.table("inferences")
    assert (
        found(attempts.select(f"organization_id, {decision}(organization_id)"))
        == [own | {"decision": own}] * 3
    )
    embedded = attempts.select(f"organization_id, {decision}!inner(id)")
    assert found(embedded.eq("decision.organization_id", theirs.organization_id)) == []


def test_usage_shows_nothing_of_the_others(client: Client, theirs: Reader) -> None:
    """Not to who asks for it."""
    usage = client.rpc("usage_by", {"bucket": "day", "since": BEFORE_ALL})
    assert found(usage.eq("agent_id", theirs.agent_id)) == []


def test_no_table_is_written_to(client: Client, mine: Reader, theirs: Reader, rows: Rows) -> None:
    """Neither own rows nor the other's are added, changed or deleted, whatever tables there are."""
    for table, owner in readable_tables(rows):
        for organization_id in (mine.organization_id, theirs.organization_id):
            row = {owner: organization_id}
            answers = [
                code(client.table(table).insert(row)),
                code(client.table(table).update(row).eq(owner, organization_id)),
                code(client.table(table).delete().eq(owner, organization_id)),
            ]
            assert answers == [REFUSED] * 3, table


def test_a_function_of_the_backends_is_refused(client: Client, mine: Reader) -> None:
    """A member cannot top up its wallet."""
    entry = {"entry_id": mine.decisions[0], "organization_id": mine.organization_id, "amount_nano_usd": 1}
    assert code(client.rpc("top_up_wallet", entry)) == REFUSED


def test_clients_that_share_connections_share_no_identity(
    clients: dict[str, Client], readers: tuple[Reader, Reader]
) -> None:
    """Each goes on reading as its own member, whoever was last."""
    for reader in readers * 2:
        (organization,) = found(clients[reader.organization_id].table("organizations").select("id"))
        assert organization["id"] == reader.organization_id


def test_a_member_who_signs_in_reads_what_is_its_own(stack: Stack, mine: Reader) -> None:
    """With a password, at Supabase Auth's endpoint."""
    with httpx.Client() as http:
        client = make_client(stack, http)
        assert code(client.table("organizations").select("id")) == REFUSED
        client.auth.sign_in_with_password({"email": mine.email, "password": mine.password})
        assert ids(client.table("organizations").select("id")) == [mine.organization_id]
        assert (
            ids(client.table("routing_outcomes").select("id").order("id", desc=True).limit(5))
            == mine.decisions[:5]
        )
