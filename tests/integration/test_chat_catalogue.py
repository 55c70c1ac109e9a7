"""The catalogue is read anew all the time: no restart for a model, a price or a provider. And keys stay unseen."""

import hashlib
from datetime import UTC, datetime, timedelta

from backend.ids import uuid7
from tests.support.gateway_fixtures import CANARY, CANARY_VARIABLE
from tests.support.polling import eventually
from tests.support.scene import Behaviour, Scene, error_code
from tests.support.tenant import Rows


async def test_a_new_model_can_be_called_without_a_restart(scene: Scene) -> None:
    """It is listed, and routed to."""
    known = await scene.listed_models()
    (candidate,) = await scene.offer()
    assert candidate.model not in known
    assert (await scene.chat(model=candidate.model)).status_code == 200


async def test_a_new_price_is_used_without_a_restart_and_old_rows_keep_theirs(scene: Scene) -> None:
    """The attempt keeps the version that bound it; the new one decides who is the cheapest."""
    first, second = await scene.offer(2)
    assert (await scene.chat()).headers["x-clearfloor-model"] == first.model
    new_price = uuid7()
    scene.rows.price(first, new_price, dearness=50)

    async def second_is_cheapest() -> bool:
        return (await scene.chat()).headers["x-clearfloor-model"] == second.model

    await eventually(second_is_cheapest, "the new price is known")
    assert (await scene.chat(model=first.model)).status_code == 200
    attempts = [attempt for decision in scene.decisions() for attempt in decision["attempts"]]
    assert attempts[0]["price_id"] == first.price_id
    assert attempts[-1]["price_id"] == new_price
    versions = [decision["catalogue_version"] for decision in scene.decisions()]
    assert versions[0] != versions[-1]


async def test_a_candidate_without_a_current_price_cannot_be_routed_to(scene: Scene) -> None:
    """Neither one whose price was never entered nor one whose first price is of the future."""
    without = scene.rows.candidate(scene.rows.provider(scene.provider_url), priced=False)
    later = scene.rows.candidate(scene.rows.provider(scene.provider_url), priced=False)
    scene.rows.price(later, uuid7(), 1, valid_from=datetime.now(UTC) + timedelta(days=1))
    (priced,) = await scene.offer()

    async def gone() -> bool:
        return {without.model, later.model}.isdisjoint(await scene.listed_models())

    await eventually(gone, "candidates without a price are not listed")
    assert priced.model in await scene.listed_models()
    for candidate in (without, later):
        response = await scene.chat(model=candidate.model, clearfloor={"models": [priced.model]})
        assert (response.status_code, error_code(response)) == (404, "model_not_found")
    assert await scene.called(without, later) == [0, 0]


async def test_a_disabled_provider_is_gone_without_a_restart(scene: Scene) -> None:
    """Its models are no longer listed; the others go on."""
    disabled, other = await scene.offer(1) + await scene.offer(1)
    query = "update public.providers set enabled = false where name = %(name)s"
    scene.rows.query(query, name=disabled.provider)

    async def gone() -> bool:
        return disabled.model not in await scene.listed_models()

    await eventually(gone, "the disabled provider's model is not listed")
    response = await scene.chat(clearfloor={"models": [other.model]})
    assert response.headers["x-clearfloor-model"] == other.model
    assert (await scene.chat(model=disabled.model, clearfloor={"models": [other.model]})).status_code == 404


def tables_with(rows: Rows, text: str) -> list[str]:
    """Return every table of the project, and of Supabase's, that has a text anywhere in a row."""
    query = "select schemaname, tablename from pg_tables where schemaname in ('public', 'private', 'auth')"
    found = []
    for table in rows.query(query):
        name = f'"{table["schemaname"]}"."{table["tablename"]}"'
        hits = rows.query(
            f"select 1 from {name} as entry where position(%(text)s in entry::text) > 0 limit 1",  # noqa: S608
            text=text,
        )
        found += [name] if hits else []
    return found


async def test_the_providers_key_reaches_the_provider_and_nobody_else(scene: Scene) -> None:
    """It is in no row, no answer and no log, whether the call succeeds, fails or is refused."""
    provider = scene.rows.provider(scene.provider_url, api_key_variable=CANARY_VARIABLE)
    (candidate,) = await scene.offer_of(provider)
    failures: list[Behaviour] = [{"kind": "status", "status": status} for status in (400, 500)]
    await scene.script(candidate, *failures, {"kind": "disconnect"}, {"kind": "malformed", "body": "<"})
    responses = [await scene.chat() for _ in range(5)] + [await scene.chat(stream=True)]
    await scene.script(candidate, {"kind": "status", "status": 401})
    responses += [await scene.chat(), await scene.get("/v1/decisions"), await scene.get("/v1/models")]
    expected = hashlib.sha256(f"Bearer {CANARY}".encode()).hexdigest()
    calls = await scene.calls(candidate)
    assert len(calls) == 7
    assert {call["headers"]["authorization_sha256"] for call in calls} == {expected}
    for response in responses:
        assert CANARY not in response.text
        assert CANARY not in str(response.headers)
    assert CANARY not in scene.backends[0].log()
    assert tables_with(scene.rows, CANARY) == []
    assert tables_with(scene.rows, candidate.upstream_model), "the search finds what is there"


async def test_the_callers_secrets_are_in_no_row_and_no_log(scene: Scene) -> None:
    """Neither the API key nor the access token nor the prompt."""
    await scene.offer()
    token = scene.stack.mint_user_token(scene.tenant.user_id, scene.tenant.organization_id)
    prompt = f"The secret of {uuid7()}"
    messages = [{"role": "user", "content": prompt}]
    for key in (scene.tenant.api_key, token):
        assert (await scene.chat(key=key, messages=messages)).status_code == 200
    for secret in (scene.tenant.api_key, token, prompt, scene.stack.endpoints.secret_key):
        assert secret not in scene.backends[0].log()
        assert tables_with(scene.rows, secret) == []
