"""From a text to a class, a score, a decision, feedback, a snapshot and another decision; and the first one computed again.

And what is learned of a model that is only explored.
"""

import hashlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from backend import cli
from backend.stack.stack import Stack
from backend.weights import CLASSIFIER_FILE
from tests.support.backend_process import BackendProcess
from tests.support.gateway_fixtures import CATALOGUE_REFRESH_SECONDS
from tests.support.polling import eventually
from tests.support.scene import DECISION_HEADER, Scene, open_scene

FLOOR = 0.6
PUBLISHED = 0.9
TEXT = "Write a Python function that reverses a linked list and explain its running time."
QUESTION = [{"role": "user", "content": TEXT}]


async def asked(scene: Scene, **options: Any) -> tuple[UUID, str]:
    """Ask for an answer at the floor; return the decision's id and the model that gave it."""
    response = await scene.chat(messages=QUESTION, clearfloor={"floor": FLOOR, **options})
    assert response.status_code == 200, response.text
    return UUID(response.headers[DECISION_HEADER]), response.headers["x-clearfloor-model"]


async def explained(scene: Scene) -> dict[str, Any]:
    """Return what would be decided now."""
    answer = await scene.http.post(
        f"{scene.backends[0].url}/v1/route/explain",
        json={"model": "auto", "messages": QUESTION, "clearfloor": {"floor": FLOOR, "models": scene.models}},
        headers={"authorization": f"Bearer {scene.tenant.api_key}"},
    )
    explanation: dict[str, Any] = answer.raise_for_status().json()
    return explanation


async def rate(scene: Scene, decision_id: UUID, score: float) -> None:
    """Rate an answer as its agent."""
    url = f"{scene.backends[0].url}/v1/decisions/{decision_id}/feedback"
    headers = {"authorization": f"Bearer {scene.tenant.api_key}"}
    (await scene.http.post(url, json={"score": score}, headers=headers)).raise_for_status()


async def publish_rates(scene: Scene) -> int:
    """Publish what was learned; wait until the backend has read it; return the snapshot's id."""
    (published,) = scene.rows.query("select public.publish_rates() as id")

    async def known() -> bool:
        return bool((await explained(scene))["routing_request"]["rate_snapshot"] >= published["id"])

    await eventually(known, "the backend has read the new rates")
    return int(published["id"])


async def test_feedback_changes_what_is_decided_and_not_what_was(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cheap model that disappoints in a class is left for it, within a number of feedbacks that its prior tells."""
    cheap, dear = await scene.offer(2, quality=PUBLISHED)
    first, model = await asked(scene)
    assert model == cheap.model
    decision = scene.decision()
    request = decision["routing_request"]
    task, probability = request["posterior"][0]
    assert (decision["task"], sum(p for _, p in request["posterior"])) == (task, pytest.approx(1))
    assert request["classifier"] == hashlib.sha256(CLASSIFIER_FILE.read_bytes()).hexdigest()
    assert decision["candidates"][0]["quality"] == pytest.approx(PUBLISHED)
    assert TEXT not in str(decision)

    # 12 answers at 0.9 against those that were useless: under 0.6 after more than 6, and some more where the class is not sure.
    for _ in range(int(10 / probability)):
        decision_id, _ = await asked(scene)
        await rate(scene, decision_id, 0)
    published = await publish_rates(scene)
    explanation = await explained(scene)
    assert [(entry["model"], entry["rejected"]) for entry in explanation["candidates"]] == [
        (dear.model, None),
        (cheap.model, "below_floor"),
    ]
    last, model = await asked(scene)
    assert model == dear.model
    # In another class the cheap one has nothing against it but its mean.
    assert (await asked(scene, task="law", floor=0.4))[1] == cheap.model
    # Of a class that is named and has kinds, the classifier has told which.
    named, model = await asked(scene, task="code")
    request = scene.decisions()[-1]["routing_request"]
    assert (model, request["posterior"]) == (dear.model, [["code", 1.0]])
    assert request["classifier"] == hashlib.sha256(CLASSIFIER_FILE.read_bytes()).hexdigest()

    url = scene.stack.endpoints.superuser_url
    for decision_id in (first, last, named):
        assert cli.main(["replay", url, "--decision", str(decision_id)]) == 0
        assert "1 equal" in capsys.readouterr().out
    assert cli.main(["replay", url, "--decision", str(first), "--with", "current"]) == 1
    told = capsys.readouterr().out
    assert f"{cheap.model} -> " in told
    assert dear.model in told
    assert cli.main(["replay", url, "--decision", str(last), "--with", "current"]) == 0
    # The same, asked of the rates alone; and of rates that there are not.
    assert cli.main(["replay", url, "--decision", str(first), "--with-rates", str(published)]) == 1
    assert f"{cheap.model} -> " in capsys.readouterr().out
    assert cli.main(["replay", url, "--decision", str(first), "--with-rates", "0"]) == 2


@pytest.fixture
async def exploring(stack: Stack) -> AsyncIterator[Scene]:
    """Set a scene with a backend that lets half of the requests explore."""
    variables = {
        "CLEARFLOOR_CATALOGUE_REFRESH_SECONDS": CATALOGUE_REFRESH_SECONDS,
        "CLEARFLOOR_EXPLORATION_SHARE": "0.5",
    }
    with BackendProcess(stack, **variables) as backend:
        async with open_scene(stack, backend) as scene:
            yield scene


async def test_a_model_that_is_better_than_was_published_is_found_by_exploring(
    exploring: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is tried now and then, and says so; once enough of its answers were good it is chosen like any other."""
    scene = exploring
    (cheap,) = await scene.offer(quality=FLOOR - 0.05)
    (dear,) = await scene.offer(quality=PUBLISHED)
    options = {"floor": FLOOR, "task": "code"}
    explored: list[UUID] = []
    # 12 answers at 0.55 and two that were good are 0.61. By chance alone not to get there in a hundred requests: never.
    for _ in range(100):
        response = await scene.chat(clearfloor=options)
        model, cleared = (response.headers[f"x-clearfloor-{name}"] for name in ("model", "floor-cleared"))
        assert (model, cleared) in {(cheap.model, "false"), (dear.model, "true")}
        if model == cheap.model:
            explored.append(UUID(response.headers[DECISION_HEADER]))
            await rate(scene, explored[-1], 1)
        if len(explored) == 2:
            break
    rules = {decision["id"]: decision["decision_rule"] for decision in scene.decisions()}
    assert [decision_id for decision_id, rule in rules.items() if rule == "exploration"] == explored
    await publish_rates(scene)
    response = await scene.chat(clearfloor={**options, "explore": False})
    told = [response.headers[f"x-clearfloor-{name}"] for name in ("model", "floor-cleared")]
    assert told == [cheap.model, "true"]

    for decision_id in explored:
        url = scene.stack.endpoints.superuser_url
        assert cli.main(["replay", url, "--decision", str(decision_id)]) == 0
        assert "1 equal" in capsys.readouterr().out
        # It would be called today, too, if perhaps at another expected cost: the mean answer is another one.
        cli.main(["replay", url, "--decision", str(decision_id), "--with", "current"])
        assert dear.model not in capsys.readouterr().out
