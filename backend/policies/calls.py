"""Finds the calls in a policy's condition that Postgres may make more than once a query.

A sub-select that refers to nothing outside of itself is evaluated once a query: by itself as an InitPlan, behind IN, ANY or
ALL as a hashed or materialized SubPlan. In it a call is made once if there is no FROM whose rows it could be made for, or
if it is what that FROM reads. Anywhere else the plan decides how often it is made, and at worst it is for each row.

A tree says what a name refers to, because Postgres prints every column in a sub-select with its table's name, which no other
table in reach has, and a column outside of all sub-selects without one.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum

from pglast import ast, parse_sql
from pglast.parser import ParseError
from pglast.stream import RawStream

from backend.policies.policy import FunctionName

# Of all builtins, because it is what a policy reads claims with. The others that are not immutable, such as now(), either
# cost no more than a comparison or work on a value of the row, such as to_char().
_CURRENT_SETTING = ("current_setting",)
# Supabase's, for an object's path. They are volatile in older projects, though all they do is to split their argument.
_SPLIT_A_PATH = frozenset({("storage", "extension"), ("storage", "filename"), ("storage", "foldername")})
_NO_TABLE = ""


class UnreadableError(Exception):
    """The parser does not take what Postgres printed. The message is the parser's, one line."""


class Place(StrEnum):
    """Where a call stands, as the end of a sentence that says how often it is made."""

    ONCE = "is made once"
    BARE = "is bare: it is made for each row"
    CORRELATED = "is in a sub-select that refers to a row outside of it: it is made for each such row"
    SCANNING = "is in a sub-select that reads rows: it is made for each of them"


@dataclass(frozen=True, slots=True)
class Call:
    """A call that may be made for each row.

    Attributes:
        text: the call in SQL, such as ``auth.uid()``.
        takes_row: an argument is a value of a row, so that no sub-select could hoist the call.
    """

    text: str
    place: Place
    takes_row: bool


def find_calls(condition: str, functions: AbstractSet[FunctionName]) -> list[Call]:
    """Return the calls of these functions and of ``current_setting`` that may be made for each row, each text and place once.

    Raises:
        UnreadableError: the condition cannot be parsed.
    """
    try:
        (statement,) = parse_sql(f"select {condition}")
    except ParseError as error:
        raise UnreadableError(" ".join(str(error).split())) from error
    counted = functions - _SPLIT_A_PATH | {_CURRENT_SETTING}
    parts = _children(statement.stmt)
    return list(dict.fromkeys(call for part in parts for call in _calls(part, Place.BARE, counted)))


def _calls(node: object, place: Place, counted: AbstractSet[FunctionName]) -> Iterator[Call]:
    """Yield the calls in a node of the tree that stands at a place."""
    match node:
        case ast.FuncCall() if place is not Place.ONCE and _name(node) in counted:
            takes_row = bool(_references(node))
            yield Call(RawStream()(node), place, takes_row)
            if not takes_row:
                return  # To wrap it wraps its arguments.
        case ast.SubLink():
            yield from _calls(node.testexpr, place, counted)
            yield from _calls(node.subselect, Place.ONCE, counted)
            return
        case ast.SelectStmt():
            place = _inside(node, place)
        case ast.RangeFunction() if place is not Place.CORRELATED and not _references(node):
            # Once, but not its arguments for sure: where its body takes its place they stand in that, bare.
            arguments = tuple(tuple(_children(function)) for function, _ in node.functions or ())
            yield from _calls(arguments, place, counted)
            return
    for child in _children(node):
        yield from _calls(child, place, counted)


def _inside(select: ast.SelectStmt, around: Place) -> Place:
    """Return the place that a query's expressions are; it is a sub-select of an expression, or it stands in such a one."""
    if around is Place.CORRELATED or _references(select):
        return Place.CORRELATED
    # Without a FROM of its own it may be flattened into the query around it, whose rows its expressions are made for then.
    return Place.SCANNING if select.fromClause else around


def _references(node: object) -> set[str]:
    """Return the tables outside of a node that its columns are of; a column without a table's name is of ``_NO_TABLE``."""
    if isinstance(node, ast.ColumnRef):
        first, *others = node.fields or ()
        return {first.sval if others else _NO_TABLE}
    found = {name for child in _children(node) for name in _references(child)}
    # Only a column that a join has merged goes without a table's name in there, and it is the query's own.
    return found - {_NO_TABLE, *_sources(node.fromClause)} if isinstance(node, ast.SelectStmt) else found


def _sources(node: object) -> Iterator[str]:
    """Yield the names that a FROM gives to what it reads."""
    match node:
        case ast.Alias():
            yield str(node.aliasname)
        case ast.RangeVar(alias=None):
            yield str(node.relname)
        case ast.SelectStmt():
            return  # Its names are its own.
    for child in _children(node):
        yield from _sources(child)


def _children(node: object) -> Iterator[object]:
    match node:
        case tuple():
            yield from node
        case ast.Node():
            yield from (getattr(node, attribute) for attribute in node)


def _name(call: ast.FuncCall) -> FunctionName:
    return tuple(part.sval for part in call.funcname or ())
