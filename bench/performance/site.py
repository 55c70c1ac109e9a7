"""All that a measure runs against: a durable stack, the front, the mock provider, wallets."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from backend.stack.ports import free_port
from backend.stack.stack import HOME, Stack
from bench.fill import fill
from bench.performance.cpu import cpu_seconds
from bench.performance.data_api import DataApi
from bench.performance.gateways import Gateway, clearfloor
from bench.performance.records import Records, Wallet, open_records
from bench.performance.servers import Server, running_module
from bench.world import Tenant, World

BENCH_HOME = HOME / "bench"
CROWD = 256
# In the record before anything is measured, and analysed, as autovacuum does within a minute: until then Postgres plans for
# tables of which it knows nothing, and the plans of foreign keys read more of them the larger they are.
FIRST_DECISIONS = 10_000


@dataclass(frozen=True)
class Site:
    """Where the measures are taken."""

    home: Path
    stack: Stack
    data_api: DataApi
    provider: Server
    records: Records
    # One with one agent, one with many agents, and many with one agent each.
    wallet: Wallet
    shared_wallet: Wallet
    wallets: tuple[Wallet, ...]

    def provider_calls(self) -> dict[str, int]:
        """Return how many calls the provider has had so far, by behaviour."""
        calls: dict[str, int] = httpx.get(f"{self.provider.url}/calls", trust_env=False).json()
        return calls

    def clearfloor(self) -> AbstractContextManager[Gateway]:
        """Run Clearfloor against this site."""
        return clearfloor(self.stack, self.data_api.url, self.wallet.api_keys[0], self.home)

    def world(self) -> World:
        """Return the site as the benches of the schema know it, for :func:`bench.fill.fill`."""
        candidates, version = self.records.catalogue()
        return World(self.stack, [], [], candidates, version)

    def fill_tenants(self) -> list[Tenant]:
        """Return those that filled rows belong to: the first, whose requests are measured, gets half of them."""
        return [
            Tenant(wallet.organization_id, wallet.agent_ids[0], wallet.agent_ids[0])
            for wallet in (self.wallet, *self.wallets)
        ]

    def cpu_seconds(self, gateway_pid: int | None) -> dict[str, float]:
        """Return the processor time used so far by each part, by its name."""
        processes = self.stack.processes
        roots = {
            "gateway": [gateway_pid] if gateway_pid else [],
            "database": [processes["postgres"].pid, processes["postgrest"].pid],
            "front": [self.data_api.pid],
            "provider": [self.provider.pid],
        }
        return {part: cpu_seconds(pids) for part, pids in roots.items()}


@contextmanager
def running_site() -> Iterator[Site]:
    """Start everything but the gateways, with some decisions in the record, and remove it afterwards.

    The data lies below the project's folder, on a disk: a temporary folder may be in memory, where writing through
    (fsync) costs nothing.
    """
    BENCH_HOME.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="site-", dir=BENCH_HOME))
    # Postgres may run as another user than this one: it must be able to pass through.
    home.chmod(0o711)
    port = free_port()
    try:
        with (
            Stack(home, durable=True) as stack,
            DataApi(stack) as data_api,
            running_module("provider", "bench.performance.provider", home, port, "/calls") as provider,
            open_records(stack) as records,
        ):
            records.add_catalogue(provider.url)
            site = Site(
                *(home, stack, data_api, provider, records),
                wallet=records.add_wallet(),
                shared_wallet=records.add_wallet(agents=CROWD),
                wallets=tuple(records.add_wallet() for _ in range(CROWD)),
            )
            fill(site.world(), site.fill_tenants(), FIRST_DECISIONS)
            records.settle_balances()
            yield site
    finally:
        shutil.rmtree(home, ignore_errors=True)
