"""The lines that tell what was found."""

from backend.policies.policy import Policy
from backend.policies.report import examine

UID = ("auth", "uid")
IS_MEMBER = ("app", "is_member")


def policy(name: str, using: str | None = None, with_check: str | None = None) -> Policy:
    """Return a policy of the table ``public.teams``."""
    return Policy("public", "teams", name, using, with_check, frozenset({UID, IS_MEMBER}))


def test_a_call_is_told_with_its_policy_and_what_to_write_instead() -> None:
    """One line for each condition's call, and the count."""
    report = examine([policy("Members write", "(id = auth.uid())", "( SELECT (auth.uid() = teams.id))")])
    assert report.text() == (
        'public.teams "Members write" USING: auth.uid() is bare: it is made for each row. Write `(select auth.uid())`.\n'
        'public.teams "Members write" WITH CHECK: auth.uid() is in a sub-select that refers to a row outside of it:'
        " it is made for each such row. Write `(select auth.uid())`.\n"
        "Policies read: 1; calls made for each row: 2\n"
    )


def test_a_call_that_takes_a_value_of_the_row_is_to_be_turned_round() -> None:
    """To wrap it would change nothing."""
    (finding,) = examine([policy("Members read", "app.is_member(id)")]).findings
    assert finding == (
        'public.teams "Members read" USING: app.is_member(id) is bare: it is made for each row. It takes a value of the row,'
        " so it cannot be hoisted: compare with what a function without one returns, as in"
        " `team_id in (select my_team_ids())`."
    )


def test_a_condition_that_cannot_be_parsed_hides_no_other() -> None:
    """It is told beside what was found, and counted by itself."""
    report = examine([policy("odd", "(a is of b)", "(id = auth.uid())"), policy("fine", "true")])
    assert len(report.findings) == 1
    finding, unreadable, summary = report.text().splitlines()
    assert finding == report.findings[0]
    assert unreadable == (
        'public.teams "odd" USING: it cannot be parsed (syntax error at or near "of", at index 13). Look at it by hand.'
    )
    assert summary == "Policies read: 2; calls made for each row: 1; conditions not understood: 1"
