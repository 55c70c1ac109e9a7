"""One test's tenant, candidates and calls, with everything read back from outside: rows by SQL, calls by the journal."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar
from uuid import UUID

import httpx
import orjson

from backend.stack.stack import Stack
from tests.support.backend_process import BackendProcess
from tests.support.invariants import violations
from tests.support.polling import DEADLINE_SECONDS, eventually
from tests.support.tenant import Candidate, Rows, Tenant, open_rows

Behaviour = dict[str, object]
Decision = dict[str, Any]
T = TypeVar("T")

QUESTION = [{"role": "user", "content": "What is the answer?"}]
COMPLETIONS = "/v1/chat/completions"
DECISION_HEADER = "x-clearfloor-decision-id"


@dataclass
class Scene:
    """What one test works with. Calls go to the first backend unless another is named."""

    stack: Stack
    rows: Rows
    http: httpx.AsyncClient
    backends: Sequence[BackendProcess]
    tenant: Tenant
    tenants: list[Tenant] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    tasks: list["asyncio.Task[Any]"] = field(default_factory=list)

    @property
    def models(self) -> list[str]:
        """The names of this test's models, cheapest first."""
        return [candidate.model for candidate in self.candidates]

    @property
    def provider_url(self) -> str:
        """The base URL of the simulated provider."""
        return f"{self.stack.endpoints.simulator_url}/v1"

    def make_tenant(self, *, balance_nano_usd: int) -> Tenant:
        """Make another tenant, whose books are checked as well."""
        tenant = self.rows.tenant(balance_nano_usd=balance_nano_usd)
        self.tenants.append(tenant)
        return tenant

    async def offer(self, count: int = 1, *, base_url: str | None = None, **columns: Any) -> list[Candidate]:
        """Put more candidates into the catalogue, each dearer than those before; wait until every backend has them."""
        provider = self.rows.provider(base_url or self.provider_url)
        return await self.offer_of(provider, count, **columns)

    async def offer_of(
        self, provider: str, count: int = 1, *, is_callable: bool = True, **columns: Any
    ) -> list[Candidate]:
        """Do the same for a provider that is there; one that cannot be called is known, but not listed."""
        first = len(self.candidates) + 1
        made = [self.rows.candidate(provider, dearness=first + i, **columns) for i in range(count)]
        self.candidates += made
        await (self.until_listed(*made) if is_callable else self.until_known(*made))
        return made

    async def until_known(self, *candidates: Candidate) -> None:
        """Wait until the first backend's catalogue has the candidates: a request for them then fails for another reason."""
        options = {"models": [candidate.model for candidate in candidates], "task": "no such task"}

        async def known() -> bool:
            return (await self.chat(clearfloor=options)).status_code == HTTPStatus.BAD_REQUEST

        await eventually(known, "the new models are known")

    async def until_listed(self, *candidates: Candidate) -> None:
        """Wait until every backend's catalogue has the candidates' models."""
        expected = {candidate.model for candidate in candidates}
        for backend in self.backends:

            async def listed(backend: BackendProcess = backend) -> bool:
                return expected <= await self.listed_models(backend)

            await eventually(listed, f"{backend.url} lists the new models")

    async def listed_models(self, backend: BackendProcess | None = None) -> set[str]:
        """Return what a backend's GET /v1/models lists."""
        response = await self.get("/v1/models", backend=backend)
        return {model["id"] for model in response.json()["data"]}

    async def script(
        self, candidate: Candidate, *script: Behaviour, default: Behaviour | None = None
    ) -> None:
        """Say what the simulated provider does with the next calls, and with those after."""
        plan: dict[str, object] = {"script": script, "default": default or {"kind": "answer"}}
        (await self.http.put(self._model_url(candidate), json=plan)).raise_for_status()

    async def release(self, candidate: Candidate) -> None:
        """Let the stalled calls of a candidate answer."""
        (await self.http.post(f"{self._model_url(candidate)}/release")).raise_for_status()

    async def calls(self, candidate: Candidate) -> list[dict[str, Any]]:
        """Return the calls that the provider received for a candidate."""
        url = f"{self.stack.endpoints.simulator_url}/_control/journal"
        response = await self.http.get(url, params={"model": candidate.upstream_model})
        calls: list[dict[str, Any]] = response.json()["calls"]
        return calls

    async def called(self, *candidates: Candidate) -> list[int]:
        """Return how often each candidate was called; of all of this test's by default."""
        return [len(await self.calls(candidate)) for candidate in candidates or self.candidates]

    async def until_called(self, candidate: Candidate, times: int = 1, state: str | None = None) -> None:
        """Wait until a candidate has been called so often, and the last call is in that state."""

        async def reached() -> bool:
            calls = await self.calls(candidate)
            return len(calls) >= times and (state is None or calls[-1]["state"] == state)

        await eventually(reached, f"{candidate.upstream_model} is called {times} times ({state})")

    def request(
        self,
        *,
        key: str | None = None,
        backend: BackendProcess | None = None,
        headers: dict[str, str] | None = None,
        **body: Any,  # any field of a request
    ) -> httpx.Request:
        """Build a chat completion among this test's models; ``body`` adds or replaces fields."""
        options = {"models": self.models} | body.pop("clearfloor", {})
        whole = {"model": "auto", "messages": QUESTION, "clearfloor": options} | body
        url = f"{(backend or self.backends[0]).url}{COMPLETIONS}"
        return self.http.build_request("POST", url, json=whole, headers=self._headers(key) | (headers or {}))

    async def chat(self, **arguments: Any) -> httpx.Response:
        """Send a chat completion and read all of the answer."""
        return await self.http.send(self.request(**arguments))

    async def open_stream(self, **arguments: Any) -> httpx.Response:
        """Send a streamed chat completion; the caller reads, and closes it."""
        return await self.http.send(self.request(stream=True, **arguments), stream=True)

    def start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Do something in the background; it is cancelled at the end of the test if it still runs."""
        task = asyncio.create_task(work)
        self.tasks.append(task)
        return task

    async def get(
        self,
        path: str,
        *,
        key: str | None = None,
        backend: BackendProcess | None = None,
        **arguments: Any,
    ) -> httpx.Response:
        """Get something from a backend with the tenant's key, or another."""
        url = f"{(backend or self.backends[0]).url}{path}"
        return await self.http.get(
            url, headers=self._headers(key) | arguments.pop("headers", {}), **arguments
        )

    def decisions(self, tenant: Tenant | None = None) -> list[Decision]:
        """Return a tenant's decisions as they stand in the table, oldest first, each with its attempts in order."""
        organization = (tenant or self.tenant).organization_id
        decisions = self.rows.query(
            "select * from public.routing_outcomes where organization_id = %(id)s order by id",
            id=organization,
        )
        attempts = self.rows.query(
            "select * from public.inferences where organization_id = %(id)s order by attempt_number",
            id=organization,
        )
        for decision in decisions:
            decision["attempts"] = [a for a in attempts if a["routing_outcome_id"] == decision["id"]]
        return decisions

    def decision(self, tenant: Tenant | None = None) -> Decision:
        """Return the only decision of a tenant."""
        (decision,) = self.decisions(tenant)
        return decision

    async def completed(self) -> Decision:
        """Wait until the only decision is completed; return it."""

        async def one() -> Decision | None:
            decisions = self.decisions()
            return decisions[0] if decisions and decisions[0]["outcome_status"] else None

        decision = await eventually(one, "the decision is completed")
        assert decision is not None
        return decision

    async def until_attempt_is_open(self, number: int = 1) -> Decision:
        """Wait until the only decision has its attempt of this number open; return it."""

        async def one() -> Decision | None:
            decisions = self.decisions()
            statuses = [a["status"] for a in decisions[0]["attempts"]] if decisions else []
            return decisions[0] if len(statuses) == number and statuses[-1] == "open" else None

        decision = await eventually(one, f"attempt {number} is open")
        assert decision is not None
        return decision

    def wallet(self) -> tuple[int, int]:
        """Return the tenant's balance and what of it is held, nano-USD."""
        query = "select balance_nano_usd, held_nano_usd from public.wallets where organization_id = %(id)s"
        (row,) = self.rows.query(query, id=self.tenant.organization_id)
        return row["balance_nano_usd"], row["held_nano_usd"]

    def cooldowns(self) -> list[UUID]:
        """Return which of this test's candidates cool down by the table."""
        query = "select candidate_id from public.candidate_cooldowns where candidate_id = any(%(ids)s) and until > now()"
        rows = self.rows.query(query, ids=[candidate.id for candidate in self.candidates])
        return [row["candidate_id"] for row in rows]

    async def until_settled(self) -> None:
        """Wait until nothing is under way and every invariant holds, for every tenant of this test."""
        for tenant in self.tenants:

            async def broken(tenant: Tenant = tenant) -> list[str]:
                return violations(self.rows, tenant.organization_id)

            await eventually(broken, "every invariant holds", until=lambda found: not found)

    async def close(self) -> None:
        """End what the test left running and take its candidates out of the catalogue."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        with contextlib.suppress(httpx.HTTPError):
            for candidate in self.candidates:
                await self.http.post(f"{self._model_url(candidate)}/release")
        providers = [candidate.provider for candidate in self.candidates]
        self.rows.query(
            "update public.providers set enabled = false where name = any(%(names)s)", names=providers
        )

    def _headers(self, key: str | None) -> dict[str, str]:
        return {"authorization": f"Bearer {key or self.tenant.api_key}"}

    def _model_url(self, candidate: Candidate) -> str:
        return f"{self.stack.endpoints.simulator_url}/_control/models/{candidate.upstream_model}"


@asynccontextmanager
async def open_scene(
    stack: Stack, *backends: BackendProcess, balance_nano_usd: int | None = None
) -> AsyncIterator[Scene]:
    """Set a scene on a stack with one or more backends; after the test check the books of every tenant of it."""
    async with AsyncExitStack() as exits:
        rows = exits.enter_context(open_rows(stack.endpoints.superuser_url))
        http = await exits.enter_async_context(httpx.AsyncClient(timeout=DEADLINE_SECONDS))
        tenant = rows.tenant() if balance_nano_usd is None else rows.tenant(balance_nano_usd=balance_nano_usd)
        scene = Scene(stack, rows, http, backends, tenant, [tenant])
        exits.push_async_callback(scene.close)
        yield scene
        await scene.until_settled()


def facts(decision: Decision) -> tuple[str, str, int | None, list[str]]:
    """Return what a decision came to: outcome, rule, number of the linked attempt, and its attempts' statuses."""
    attempts = decision["attempts"]
    linked = [a["attempt_number"] for a in attempts if a["id"] == decision["inference_id"]]
    number = linked[0] if decision["inference_id"] else None
    return decision["outcome_status"], decision["decision_rule"], number, [a["status"] for a in attempts]


def error_code(response: httpx.Response) -> str:
    """Return the code of an error answer, which must be OpenAI's envelope."""
    error = response.json()["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    code: str = error["code"]
    return code


def events(text: str) -> list[dict[str, Any]]:
    """Return the JSON events of a stream; ``[DONE]`` is not one of them."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [orjson.loads(line) for line in lines if line != "[DONE]"]


def contents(text: str) -> str:
    """Return the text that a stream's events add up to."""
    choices = [choice for event in events(text) for choice in event.get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def first_content(pieces: AsyncIterator[str]) -> str:
    """Read a stream's pieces up to its first content; return that."""
    text = ""
    async for piece in pieces:
        text += piece
        if contents(text):
            return contents(text)
    raise AssertionError(f"the stream ended without content: {text}")
