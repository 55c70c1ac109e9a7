"""What the demo talks to: the backend, the Data API as one of two tenants, and the simulated provider's control."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from backend.demo.scenes import CHEAPEST_MODEL, Scene
from backend.stack.errors import StackError

# Longer than the longest wait of a scene (a 429 with Retry-After: 1) by far.
TIMEOUT_SECONDS = 30.0
_NAMES = (
    "CLEARFLOOR_URL",
    "CLEARFLOOR_API_KEY",
    "CLEARFLOOR_TENANT_TOKEN",
    "CLEARFLOOR_OTHER_TENANT_TOKEN",
    "SUPABASE_URL",
    "SUPABASE_PUBLISHABLE_KEY",
    "SIMULATOR_URL",
)
# Two foreign keys join decisions and attempts, so the embed has to name the one it means.
_DECISION = (
    "id,decision_rule,outcome_status,floor,candidates,reserved_nano_usd,charge_nano_usd,"
    "attempts:inferences!inferences_routing_outcome_fkey"
    "(attempt_number,model,status,http_status,http_calls,error_class,cost_nano_usd)"
)


@dataclass(frozen=True, slots=True)
class Rows:
    """What a tenant sees of one decision: its row with ``attempts``, and its ledger entries. Money in nano-USD."""

    decisions: list[dict[str, Any]]
    inferences: list[dict[str, Any]]
    ledger_entries: list[dict[str, Any]]


class Tenant:
    """Reads through the Data API as a signed-in member: row level security decides what there is."""

    def __init__(self, http: httpx.Client, settings: Mapping[str, str], token: str) -> None:
        self._http = http
        self._rest_url = f"{settings['SUPABASE_URL']}/rest/v1"
        self._headers = {"apikey": settings["SUPABASE_PUBLISHABLE_KEY"], "Authorization": f"Bearer {token}"}

    def rows(self, decision_id: str) -> Rows:
        """Read everything that one decision left behind."""
        of_decision = {"routing_outcome_id": f"eq.{decision_id}"}
        decision = {
            "select": _DECISION,
            "id": f"eq.{decision_id}",
            "attempts.order": "attempt_number",
        }
        return Rows(
            self._read("routing_outcomes", decision),
            self._read("inferences", {"select": "id", **of_decision}),
            self._read(
                "ledger_entries",
                {"select": "kind,debit_account,credit_account,amount_nano_usd"} | of_decision,
            ),
        )

    def wallet(self) -> dict[str, int]:
        """Read ``balance_nano_usd`` and ``held_nano_usd``."""
        (wallet,) = self._read("wallets", {"select": "balance_nano_usd,held_nano_usd"})
        return wallet

    def _read(self, table: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        answer = self._http.get(f"{self._rest_url}/{table}", params=query, headers=self._headers)
        if answer.is_error:
            raise StackError(
                f"the Data API refused to read {table}: {answer.text} (`make down up` makes new tokens)"
            )
        rows: list[dict[str, Any]] = answer.json()
        return rows


class Site:
    """The running parts, by the settings that `clearfloor up` has written."""

    def __init__(self, settings: Mapping[str, str], http: httpx.Client) -> None:
        self._settings = settings
        self._http = http
        self.url = settings["CLEARFLOOR_URL"]
        self.rest_url = f"{settings['SUPABASE_URL']}/rest/v1"
        self.tenant = Tenant(http, settings, settings["CLEARFLOOR_TENANT_TOKEN"])
        self.other_tenant = Tenant(http, settings, settings["CLEARFLOOR_OTHER_TENANT_TOKEN"])

    def send(self, scene: Scene) -> httpx.Response:
        """Send a scene's request, the provider behaving as it says; afterwards it answers plainly again."""
        key, agent = self._settings["CLEARFLOOR_API_KEY"], {}
        if scene.agent:
            key, agent = self._settings["CLEARFLOOR_TENANT_TOKEN"], {"x-clearfloor-agent": scene.agent}
        with self._faults(scene):
            return self._http.post(
                f"{self.url}/v1/chat/completions",
                json=scene.body(),
                headers={"Authorization": f"Bearer {key}", **agent},
            )

    @contextmanager
    def _faults(self, scene: Scene) -> Iterator[None]:
        if not scene.faults:
            yield
            return
        control = f"{self._settings['SIMULATOR_URL']}/_control/models/{CHEAPEST_MODEL}"
        self._http.put(control, json={"script": scene.faults}).raise_for_status()
        try:
            yield
        finally:
            self._http.put(control, json={}).raise_for_status()


def read_settings(file: Path) -> dict[str, str]:
    """Read what `clearfloor up` has written.

    Raises:
        StackError: nothing was ever started here, or the file is not from this version.
    """
    if not file.exists():
        raise StackError("nothing is up: run `make up` first.")
    pairs = (line.partition("=") for line in file.read_text().splitlines() if line.strip())
    settings = {name: value for name, _, value in pairs}
    missing = [name for name in _NAMES if not settings.get(name)]
    if missing:
        raise StackError(f"{file} lacks {', '.join(missing)}: run `make down up`.")
    return settings
