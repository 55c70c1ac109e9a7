"""`clearfloor policies check` says of a policy what the planner does with it."""

import json
import re
from collections.abc import Iterator
from typing import LiteralString
from urllib.parse import urlsplit

import psycopg
import pytest

from backend import cli
from backend.policies import command
from backend.policies.calls import Place
from backend.policies.catalogue import read_policies
from backend.policies.report import Report, examine
from backend.stack.stack import Stack
from tests.support.commands import limited_url, one_line
from tests.support.databases import Database, new_database

ROWS = 50
# The most calls that one of the conditions below contains.
WRITTEN_CALLS = 3

# Functions that count their own calls.
COUNTING: LiteralString = """
create schema private;
grant usage on schema private to authenticated;
create sequence private.calls;
grant usage on sequence private.calls to authenticated;
create or replace function auth.uid() returns uuid language plpgsql stable as $$
begin
    perform nextval('private.calls');
    return '00000000-0000-7000-8000-000000000001';
end
$$;
create or replace function auth.jwt() returns jsonb language plpgsql stable as $$
begin
    perform nextval('private.calls');
    return '{"sub": "00000000-0000-7000-8000-000000000001", "app_metadata": {"team": "1"}}';
end
$$;
create function private.my_team() returns integer language plpgsql stable as $$
begin
    perform nextval('private.calls');
    return 1;
end
$$;
create function private.my_teams() returns setof integer language plpgsql volatile as $$
begin
    perform nextval('private.calls');
    return query select 1;
end
$$;
create function private.is_mine(team integer) returns boolean language plpgsql volatile as $$
begin
    perform nextval('private.calls');
    return team = 1;
end
$$;
create function private.is_mine(team text) returns boolean language sql immutable as 'select team = $$1$$';
-- In FROM the planner replaces it by its body, which counts.
create function private.inlined_teams() returns setof integer language sql stable
    as 'select 1 where auth.uid() is not null';
"""
TABLES: LiteralString = """
create table public.documents (id integer, team integer, owner uuid);
create table public.members (team integer, user_id uuid);
insert into public.documents select number, number, gen_random_uuid() from generate_series(1, %(rows)s) as number;
insert into public.members select number, gen_random_uuid() from generate_series(1, %(rows)s) as number;
analyze public.documents, public.members;
-- In FROM the planner replaces it by its body, too, with the argument as it was written.
create function private.teams_of(member uuid) returns setof integer language sql stable
    as 'select team from public.members where user_id = member';
alter table public.documents enable row level security;
grant select, insert on public.documents to authenticated;
grant select on public.members to authenticated;
"""

ONCE = [
    "owner = (select auth.uid())",
    "owner = (select (auth.jwt() ->> 'sub')::uuid)",
    "owner = ((select auth.jwt()) ->> 'sub')::uuid",
    "team = (select ((select auth.jwt()) -> 'app_metadata' ->> 'team')::integer)",
    "(select auth.uid() is not null) and team = (select private.my_team())",
    "(select private.is_mine(1)) or team = 2",
    "(select private.is_mine(private.my_team())) or team = 2",
    "team = any (array(select private.my_teams()))",
    "team in (select private.my_teams())",
    "team in (select mine from private.my_teams() as mine)",
    "team in (select mine from private.inlined_teams() as mine)",
    "team in (select members.team from members, private.my_teams() as mine where members.team = mine)",
    "team in (select members.team from members join private.my_teams() as mine on members.team = mine)",
    "team in (select team from members where user_id = (select auth.uid()))",
    "team not in (select private.my_teams())",
    "team in (select private.teams_of(auth.uid()))",
    "team in (select theirs from private.teams_of((select auth.uid())) as theirs)",
    "owner <> all (select auth.uid())",
    "owner in (values (auth.uid()), (null))",
    "owner in (select auth.uid() union all select (auth.jwt() ->> 'sub')::uuid)",
    "(owner, team) = (select auth.uid(), private.my_team())",
    "exists (select where auth.uid() is not null) or team = 2",
    "exists (select from members where members.team = documents.team and user_id = (select auth.uid()))",
    "exists (select from members where members.team = documents.team and documents.team in (select private.my_teams()))",
    "case when team = 1 then owner = (select auth.uid()) else team = (select private.my_team()) end",
    "private.is_mine(team::text)",
    "(select private.is_mine('1')) or team = 2",
    "owner = (with me as (select auth.uid() as id) select (select me.id from me limit 1))",
]
FOR_EACH_ROW = {
    "owner = auth.uid()": Place.BARE,
    "auth.uid() is null": Place.BARE,
    "owner = (auth.jwt() ->> 'sub')::uuid": Place.BARE,
    "owner = ((select auth.jwt()) ->> 'sub')::uuid or owner = (auth.jwt() ->> 'sub')::uuid": Place.BARE,
    "private.is_mine(team)": Place.BARE,
    "team = 2 or private.is_mine(private.my_team() + 1)": Place.BARE,
    "coalesce(owner = auth.uid(), false)": Place.BARE,
    "auth.uid() in (select user_id from members)": Place.BARE,
    "auth.uid() in (select user_id from members where members.team = documents.team)": Place.BARE,
    "(select auth.uid() = owner)": Place.CORRELATED,
    "(select owner = auth.uid() or team = 2)": Place.CORRELATED,
    "(select private.is_mine(team))": Place.CORRELATED,
    "(select private.is_mine(d.team) from (select documents.team) as d)": Place.CORRELATED,
    "owner in (select auth.uid() union all select documents.owner)": Place.CORRELATED,
    "exists (select where owner = auth.uid() or team = 2)": Place.CORRELATED,
    "exists (select from members where members.team = documents.team and user_id = auth.uid())": Place.CORRELATED,
    "team in (select team from members where (select auth.uid() = members.user_id))": Place.CORRELATED,
    "exists (select from members, lateral (select documents.team) as d where auth.uid() = user_id)": Place.CORRELATED,
    "exists (select from private.inlined_teams() as mine where mine <= documents.team)": Place.CORRELATED,
    "exists (select from (select mine from private.inlined_teams() as mine) as mine where mine <= documents.team)": (
        Place.CORRELATED
    ),
    "team in (select team from members where user_id = auth.uid())": Place.SCANNING,
    "team in (select team from members where private.is_mine(members.team))": Place.SCANNING,
    "team in (select members.team from members full join members as others using (team) where private.is_mine(team))": (
        Place.SCANNING
    ),
    "team in (select team from members, (select auth.uid() as id) as me where user_id = me.id)": Place.SCANNING,
    "team in (with me as (select auth.uid() as id) select team from members, me where user_id = me.id)": Place.SCANNING,
    "team in (select theirs from private.teams_of(auth.uid()) as theirs)": Place.SCANNING,
    "exists (select from members, private.is_mine(members.team) as mine where mine is null)": Place.SCANNING,
}


@pytest.fixture(scope="module")
def database(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Make a database with functions that count their calls, and two tables."""
    with new_database(stack, tmp_path_factory.mktemp("policies") / "workdir") as database:
        superuser = urlsplit(stack.endpoints.superuser_url)._replace(path=urlsplit(database.url).path)
        with psycopg.connect(superuser.geturl()) as connection:
            connection.execute(COUNTING)
            connection.execute("grant all on schema private to postgres")
        with psycopg.connect(database.url) as connection, psycopg.ClientCursor(connection) as cursor:
            cursor.execute(TABLES, {"rows": ROWS})
        yield database


@pytest.fixture
def connection(database: Database) -> Iterator[psycopg.Connection]:
    """Connect for one test, whose policies are gone with it."""
    with psycopg.connect(database.url) as connection:
        yield connection
        connection.rollback()


def allow(connection: psycopg.Connection, name: str, rest: str) -> None:
    """Make a policy of the documents."""
    connection.execute(f"create policy {name} on public.documents {rest}".encode())


def report(connection: psycopg.Connection) -> Report:
    """Examine the policies that a transaction sees, and leave its search path as it was."""
    with connection.transaction(force_rollback=True):
        return examine(read_policies(connection))


def calls(connection: psycopg.Connection, statement: LiteralString) -> int:
    """Return how many calls a statement of a signed-in user makes."""

    def count() -> int:
        ((reached,),) = connection.execute("select nextval('private.calls')").fetchall()
        return int(reached)

    before = count()
    with connection.transaction(force_rollback=True):
        connection.execute("set local role authenticated")
        connection.execute(statement)
    return count() - before - 1


def read(connection: psycopg.Connection) -> int:
    """Return how many calls it takes to read the documents."""
    return calls(connection, "select from public.documents")


@pytest.mark.parametrize("condition", ONCE)
def test_what_the_planner_hoists_is_not_reported(connection: psycopg.Connection, condition: str) -> None:
    """However it is written, and however often the call is there."""
    allow(connection, "form", f"for select to authenticated using ({condition})")
    assert read(connection) <= WRITTEN_CALLS
    assert report(connection) == Report(1, [], [])


@pytest.mark.parametrize("condition", FOR_EACH_ROW)
def test_what_the_planner_runs_for_each_row_is_reported(
    connection: psycopg.Connection, condition: str
) -> None:
    """With the place at which the call stands."""
    allow(connection, "form", f"for select to authenticated using ({condition})")
    assert read(connection) >= ROWS
    assert FOR_EACH_ROW[condition] in "".join(report(connection).findings)


@pytest.mark.parametrize(
    ("condition", "finding"),
    [
        ("owner = (select auth.uid()) or team > 0", None),
        ("team > 0 and auth.uid() is not null", Place.BARE),
        ("team > 0 and (select auth.uid() is not null or team = 2)", Place.CORRELATED),
    ],
)
def test_what_is_written_is_judged_as_what_is_read(
    connection: psycopg.Connection, condition: str, finding: Place | None
) -> None:
    """A statement that writes many rows checks each."""
    allow(connection, "form", f"for insert to authenticated with check ({condition})")
    made = calls(connection, "insert into public.documents (team) select team from public.members")
    findings = "".join(report(connection).findings)
    if finding is None:
        assert (made <= WRITTEN_CALLS, findings) == (True, "")
    else:
        assert made >= ROWS
        assert 'public.documents "form" WITH CHECK: auth.uid() ' + finding in findings


def test_a_bare_call_is_made_once_where_an_index_is_read(connection: psycopg.Connection) -> None:
    """So it is reported: the next plan may read the table."""
    allow(connection, "form", "for select to authenticated using (owner = auth.uid())")
    connection.execute("create index on public.documents (owner)")
    assert read(connection) <= WRITTEN_CALLS
    connection.execute("set local enable_indexscan = off")
    connection.execute("set local enable_bitmapscan = off")
    assert read(connection) >= ROWS
    assert len(report(connection).findings) == 1


def test_current_setting_is_found_and_other_builtins_are_not(connection: psycopg.Connection) -> None:
    """It is how claims are read; the others cost nothing, or work on the row."""
    bare = "team::text = current_setting('app.team', true)"
    allow(
        connection,
        "form",
        f"to authenticated using ({bare} and now() > to_timestamp(team) and current_user <> 'x')",
    )
    (finding,) = report(connection).findings
    assert finding == (
        "public.documents \"form\" USING: current_setting(CAST('app.team' AS text), TRUE) is bare: it is made for each row."
        " Write `(select current_setting(CAST('app.team' AS text), TRUE))`."
    )


def test_a_function_is_told_from_others_of_its_name(connection: psycopg.Connection) -> None:
    """By what the policy itself depends on: there is an immutable one for text, and a volatile one for numbers."""
    allow(connection, "by_number", "for select to authenticated using (private.is_mine(team))")
    allow(connection, "by_text", "for select to authenticated using (private.is_mine(team::text))")
    assert [finding.partition(" USING")[0] for finding in report(connection).findings] == [
        'public.documents "by_number"'
    ]


def test_names_are_read_whole_whatever_the_search_path_is(connection: psycopg.Connection) -> None:
    """With its schema on the path a function is printed without it."""
    allow(connection, "form", "for select to authenticated using (owner = auth.uid())")
    connection.execute("set local search_path = auth, private, public")
    printed = connection.execute("select qual from pg_policies").fetchall()
    assert printed == [("(owner = uid())",)]
    assert len(report(connection).findings) == 1


def test_the_command_reports_schemas_of_the_project_and_storage(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not those that Supabase maintains; one schema alone if asked; 1 for findings, 0 for none, 2 for no policy at all."""
    in_schemas = "".join(
        f"create schema {schema};"
        f"create table {schema}.objects (owner uuid);"
        f"create policy own on {schema}.objects using (owner = {call});"
        for schema, call in (
            ("storage", "auth.uid()"),
            ("vault", "auth.uid()"),
            ("tidy", "(select auth.uid())"),
        )
    )
    database.execute(in_schemas)
    finding = 'storage.objects "own" USING: auth.uid() is bare: it is made for each row. Write `(select auth.uid())`.\n'
    try:
        assert cli.main(["policies", "check", database.url]) == 1
        assert capsys.readouterr().out == f"{finding}Policies read: 2; calls made for each row: 1\n"
        assert cli.main(["policies", "check", database.url, "--schema", "tidy"]) == 0
        assert capsys.readouterr().out == "Policies read: 1; calls made for each row: 0\n"
        assert cli.main(["policies", "check", database.url, "--schema", "nowhere"]) == 2
        assert one_line(capsys) == "clearfloor policies: no table of the schema nowhere has a policy."
    finally:
        database.execute("drop schema storage, vault, tidy cascade")


def test_the_transaction_cannot_write(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the command would do in it."""
    monkeypatch.setattr(
        command, "read_policies", lambda opened, _: opened.execute("create table public.new ()")
    )
    assert cli.main(["policies", "check", database.url]) == 2
    assert "read-only transaction" in one_line(capsys)


def test_any_role_may_ask(stack: Stack, database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    """The catalogue is everybody's to read."""
    with limited_url(stack, database) as url:
        assert cli.main(["policies", "check", url]) == 0
    assert capsys.readouterr().out == "Policies read: 0; calls made for each row: 0\n"


def test_our_own_policies_call_nothing_for_each_row(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them, in every schema."""
    assert cli.main(["policies", "check", stack.endpoints.database_url]) == 0
    summary = re.fullmatch(r"Policies read: (\d+); calls made for each row: 0\n", capsys.readouterr().out)
    assert summary
    assert int(summary[1]) > 0


def test_it_finds_what_the_advisor_misses_and_not_what_that_has_wrong(database: Database) -> None:
    """The advisor looks for text: one wrapped call hides a bare one, and a wrapped expression looks like a bare call."""
    mixed = "owner = ((select auth.jwt()) ->> 'sub')::uuid or team = (auth.jwt() ->> 'team')::integer"
    wrapped = "owner = (select (auth.jwt() ->> 'sub')::uuid)"
    database.execute(
        f"create policy mixed on public.documents for select to authenticated using ({mixed});"
        f"create policy wrapped on public.documents for delete to authenticated using ({wrapped});"
    )
    try:
        answer = database.cli("db", "advisors", "--type", "performance", "--level", "warn")
        with psycopg.connect(database.url) as connection:
            findings = report(connection).findings
    finally:
        database.execute("drop policy mixed on public.documents; drop policy wrapped on public.documents")
    told = [lint["detail"] for lint in json.loads(answer.stdout) if lint["name"] == "auth_rls_initplan"]
    assert (len(told), "`wrapped`" in told[0]) == (1, True)
    assert [finding.partition(" USING")[0] for finding in findings] == ['public.documents "mixed"']
