"""What members do is sent again only where that is no second change."""

from typing import Any

import httpx
import pytest

from backend.errors import ConflictError, InvalidRequestError, StoreUnavailableError
from backend.store.client import DataApi
from backend.store.management import manage
from tests.unit.boundary import Postgrest, record_http
from tests.unit.samples import ORGANIZATION, USER, settings


async def managed(postgrest: Postgrest, function: str) -> Any:
    """Have a member call a function."""
    api = DataApi(settings(), record_http(postgrest))
    return await manage(api, function, acting_user_id=USER, organization_id=ORGANIZATION, retry_seconds=5.0)


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("function", ["create_agent", "create_api_key", "rotate_api_key", "add_member"])
async def test_a_new_row_whose_answer_is_lost_is_asked_for_again(function: str) -> None:
    """Its id was made beforehand: there is one."""
    postgrest = Postgrest({function: [httpx.ReadTimeout("lost"), {"id": "made"}]})
    assert await managed(postgrest, function) == {"id": "made"}
    assert len(postgrest.requests) == 2


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("function", ["remove_member", "change_member", "change_agent", "set_spend_cap"])
async def test_a_change_whose_answer_is_lost_is_not_made_twice(function: str) -> None:
    """The second one would be judged by the first, or undo what somebody did in between."""
    postgrest = Postgrest({function: [httpx.ReadTimeout("lost"), {"id": "changed"}]})
    with pytest.raises(StoreUnavailableError):
        await managed(postgrest, function)
    assert len(postgrest.requests) == 1


@pytest.mark.parametrize(
    ("code", "told", "expected"),
    [("PT409", "It is taken.", ConflictError), ("22023", "It is none.", InvalidRequestError)],
)
async def test_a_refusal_of_ours_is_told_in_its_words(
    code: str, told: str, expected: type[Exception]
) -> None:
    """They are meant for the caller."""
    answer = httpx.Response(
        409, json={"code": code, "message": told, "details": None, "hint": "Try another."}
    )
    with pytest.raises(expected, match=f"{told} Try another."):
        await managed(Postgrest({"add_member": [answer]}), "add_member")


async def test_the_database_s_own_words_are_not_told() -> None:
    """A value that it cannot hold is one all the same."""
    words = "unsupported Unicode escape sequence"
    answer = httpx.Response(400, json={"code": "22P05", "message": words, "details": None, "hint": None})
    with pytest.raises(InvalidRequestError, match="cannot hold") as raised:
        await managed(Postgrest({"create_agent": [answer]}), "create_agent")
    assert words not in str(raised.value)
