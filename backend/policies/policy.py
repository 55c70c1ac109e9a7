"""A policy as the catalogue has it."""

from dataclasses import dataclass

# A function's name as Postgres prints it with nothing on the search path: (schema, name), or (name,) of a builtin.
FunctionName = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy with its conditions, printed by Postgres with every name outside of ``pg_catalog`` qualified.

    Attributes:
        using: the condition on rows that are there; None without one.
        with_check: the condition on rows that are written; None without one.
        functions: those that it calls and that are not immutable, without the builtins.
    """

    schema: str
    table: str
    name: str
    using: str | None
    with_check: str | None
    functions: frozenset[FunctionName]
