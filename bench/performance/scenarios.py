"""What is measured: each scenario once for one gateway, in one round."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.performance.audit import audited, check_answer, check_stream
from bench.performance.figures import Figures
from bench.performance.gateways import DIRECT, Gateway
from bench.performance.load import Load, Request, run_load
from bench.performance.provider import SLOW
from bench.performance.site import Site
from bench.performance.streams import run_streams

THROUGHPUT, LATENCY, STREAMS, WALLETS = "throughput", "latency", "streams", "wallets"
ONE_WALLET, MANY_WALLETS, MANY_AGENTS = "one_wallet", "many_wallets", "many_agents"
MANY_CONNECTIONS = 64
STREAMS_AT_ONCE = 16
CROWD_CONNECTIONS = 512
WARM_UP_SECONDS = 1.0
_THOUSAND = 1000

T = TypeVar("T")


@dataclass(frozen=True)
class Turn:
    """One round: its number from 0, how long a measure takes in it, and where its figures go."""

    number: int
    seconds: float
    figures: Figures

    def rotated(self, things: Sequence[T]) -> list[T]:
        """Return things in this round's order: each round begins with another."""
        at = self.number % len(things)
        return [*things[at:], *things[:at]]


@dataclass(frozen=True)
class Scenario:
    """A measure, and whether it says something of Clearfloor only."""

    measure: Callable[[Site, Gateway, Turn], None]
    is_ours_only: bool = False


def measure_throughput(site: Site, gateway: Gateway, turn: Turn) -> None:
    """Keep 64 connections busy, and see what each part uses for it."""
    load, used = _loaded(site, gateway, MANY_CONNECTIONS, turn.seconds)
    found = {"rate": load.requests_per_second, "failures": load.failures}
    turn.figures.add(THROUGHPUT, gateway.name, found | _latencies(load) | _per_thousand(used, load.requests))


def measure_latency(site: Site, gateway: Gateway, turn: Turn) -> None:
    """Send one request after the other, and see what a gateway adds to the direct call of the same round."""
    load, _ = _loaded(site, gateway, 1, turn.seconds)
    turn.figures.add(LATENCY, gateway.name, {"failures": load.failures})
    _add_compared(turn.figures, LATENCY, gateway, _latencies(load))


def measure_streams(site: Site, gateway: Gateway, turn: Turn) -> None:
    """Keep 16 streams running, and see what they cost and how much later they begin than direct ones."""
    request = gateway.request(stream=True)
    with audited(site, gateway) as tally:
        check_stream(gateway)
        warm_up = run_streams(request, STREAMS_AT_ONCE, WARM_UP_SECONDS)
        streams, used = _timed(site, gateway, lambda: run_streams(request, STREAMS_AT_ONCE, turn.seconds))
        tally.failed = warm_up.broken + streams.broken
        tally.answered = 1 + warm_up.whole + streams.whole
    used["load"] = streams.cpu_seconds
    costs = _per_thousand(used, streams.whole + streams.broken)
    turn.figures.add(STREAMS, gateway.name, {"failures": streams.broken} | costs)
    _add_compared(turn.figures, STREAMS, gateway, {"first": streams.first_milliseconds})


def measure_wallets(site: Site, gateway: Gateway, turn: Turn) -> None:
    """Let 512 callers wait for a slow provider: on one wallet, on many, and on one that many agents share."""
    crowds = {
        ONE_WALLET: site.wallet.api_keys,
        MANY_WALLETS: tuple(key for wallet in site.wallets for key in wallet.api_keys),
        MANY_AGENTS: site.shared_wallet.api_keys,
    }
    for name in turn.rotated(list(crowds)):
        requests = [gateway.request(model=SLOW, api_key=key) for key in crowds[name]]
        with audited(site, gateway) as tally:
            warm_up = run_load(requests, CROWD_CONNECTIONS, WARM_UP_SECONDS)
            load = run_load(requests, CROWD_CONNECTIONS, turn.seconds)
            tally.failed = warm_up.failures + load.failures
            tally.answered = warm_up.requests + load.requests - tally.failed
        found = {f"{name}_rate": load.requests_per_second, f"{name}_p99": load.p99_milliseconds}
        turn.figures.add(WALLETS, gateway.name, found)


SCENARIOS = {
    THROUGHPUT: Scenario(measure_throughput),
    LATENCY: Scenario(measure_latency),
    STREAMS: Scenario(measure_streams),
    WALLETS: Scenario(measure_wallets, is_ours_only=True),
}


def _loaded(site: Site, gateway: Gateway, connections: int, seconds: float) -> tuple[Load, dict[str, float]]:
    """Check an answer, warm up, measure; return the load and the processor time that each part used for it."""
    requests: list[Request] = [gateway.request()]
    with audited(site, gateway) as tally:
        check_answer(gateway)
        warm_up = run_load(requests, connections, WARM_UP_SECONDS)
        load, used = _timed(site, gateway, lambda: run_load(requests, connections, seconds))
        tally.failed = warm_up.failures + load.failures
        tally.answered = 1 + warm_up.requests + load.requests - tally.failed
    used["load"] = load.cpu_seconds
    return load, used


def _timed(site: Site, gateway: Gateway, measure: Callable[[], T]) -> tuple[T, dict[str, float]]:
    """Return what a measure found, and the processor time that each part used meanwhile."""
    before = site.cpu_seconds(gateway.pid)
    found = measure()
    after = site.cpu_seconds(gateway.pid)
    return found, {part: after[part] - before[part] for part in after}


def _latencies(load: Load) -> dict[str, float]:
    return {"p50": load.p50_milliseconds, "p99": load.p99_milliseconds}


def _per_thousand(used: dict[str, float], count: int) -> dict[str, float]:
    return {f"{part}_cpu": cpu / count * _THOUSAND for part, cpu in used.items()}


def _add_compared(figures: Figures, scenario: str, gateway: Gateway, found: dict[str, float]) -> None:
    """Add figures, and what they are more than those of the direct call, which each round measures first."""
    figures.add(scenario, gateway.name, found)
    if gateway.name != DIRECT:
        more = {
            f"{name}_added": value - figures.last(scenario, DIRECT, name) for name, value in found.items()
        }
        figures.add(scenario, gateway.name, more)
