"""Which calls of a condition are found, and how they are told apart. What the planner does is for the integration tests."""

import pytest

from backend.policies.calls import Call, Place, UnreadableError, find_calls

UID = Call("auth.uid()", Place.BARE, takes_row=False)
FUNCTIONS = frozenset({("auth", "uid"), ("app", "is_member"), ("storage", "foldername"), ("App", "Mine")})


def found(condition: str) -> list[tuple[str, Place]]:
    """Return the calls that are found, with their places."""
    return [(call.text, call.place) for call in find_calls(condition, FUNCTIONS)]


@pytest.mark.parametrize(
    "condition",
    [
        "true",
        "(id = 1)",
        "(id = ( SELECT auth.uid() AS uid))",
        # Immutable ones, builtins, and another schema's function of the same name.
        "((lower(name) = app.normalized(name)) AND (now() > since) AND (CURRENT_USER = name) AND (other.uid() = id))",
        # Supabase's, volatile in older projects, and always of the row.
        "((storage.foldername(name))[1] = 'public'::text)",
    ],
)
def test_what_is_made_once_or_costs_nothing_is_left_alone(condition: str) -> None:
    """There is nothing to write in another way."""
    assert found(condition) == []


def test_current_setting_counts_though_nobody_names_it() -> None:
    """Of all builtins it alone."""
    assert [call.text for call in find_calls("(current_setting('a.b'::text) = x)", frozenset())] == [
        "current_setting(CAST('a.b' AS text))"
    ]


def test_one_call_is_told_once_for_each_place() -> None:
    """In the order in which they are written."""
    condition = "((a = auth.uid()) OR (b = auth.uid()) OR ( SELECT (auth.uid() = t.c)) OR (d = auth.uid()))"
    assert found(condition) == [("auth.uid()", Place.BARE), ("auth.uid()", Place.CORRELATED)]


def test_a_call_that_can_be_wrapped_is_told_without_its_arguments() -> None:
    """They are wrapped with it. One that takes a value of the row is told with them, because they can be wrapped alone."""
    assert find_calls("app.is_member(auth.uid())", FUNCTIONS) == [
        Call("app.is_member(auth.uid())", Place.BARE, takes_row=False)
    ]
    assert find_calls("app.is_member(team, auth.uid())", FUNCTIONS) == [
        Call("app.is_member(team, auth.uid())", Place.BARE, takes_row=True),
        UID,
    ]


@pytest.mark.parametrize(
    ("condition", "takes_row"),
    [
        ("app.is_member(1)", False),
        ("app.is_member(t.*)", True),
        ("app.is_member((t.address).city)", True),
        ("app.is_member(( SELECT teams.id FROM teams LIMIT 1))", False),
        ("app.is_member(( SELECT teams.id FROM teams WHERE (teams.name = t.name)))", True),
        ("app.is_member(( SELECT x.id FROM ( SELECT teams.id FROM teams) x))", False),
    ],
)
def test_a_value_of_the_row_is_told_from_one_that_is_not(condition: str, takes_row: bool) -> None:  # noqa: FBT001 - a case of the table
    """Whole, in parts, or through a sub-select."""
    assert [call.takes_row for call in find_calls(condition, FUNCTIONS)] == [takes_row]


@pytest.mark.parametrize(
    "source",
    [
        "( SELECT t.id FROM other t) x",
        "(a JOIN b ON ((EXISTS ( SELECT 1 FROM other t))))",
        "app.t t_1",
    ],
)
def test_a_name_that_is_hidden_does_not_hide_the_same_name_outside_of_it(source: str) -> None:
    """Out of reach is what a sub-select in FROM reads, and a table's own name where it has another there."""
    condition = "( SELECT (auth.uid() = t.owner) FROM {})"
    assert found(condition.format(source)) == [("auth.uid()", Place.CORRELATED)]


@pytest.mark.parametrize(
    "source",
    [
        "t",
        "other t",
        "( SELECT 1 AS owner) t",
        "app.rows() t(owner)",
        "(a JOIN t ON (true))",
        "(a JOIN b ON (true)) t(owner)",
        "(a JOIN b USING (owner) AS t)",
        "t TABLESAMPLE system (10)",
    ],
)
def test_what_a_query_reads_itself_is_not_outside_of_it(source: str) -> None:
    """Whatever kind of source gives it its name."""
    condition = "( SELECT (auth.uid() = t.owner) FROM {})"
    assert found(condition.format(source)) == [("auth.uid()", Place.SCANNING)]


def test_quoted_names_are_names() -> None:
    """And they stay quoted in what is told."""
    assert found('"App"."Mine"("Owner")') == [('"App"."Mine"("Owner")', Place.BARE)]


def test_what_cannot_be_parsed_says_why() -> None:
    """In one line."""
    with pytest.raises(UnreadableError, match=r"^syntax error at or near \"of\""):
        find_calls("(a is of\nnobody's)", FUNCTIONS)
