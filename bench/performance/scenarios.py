"""What is measured: each scenario once for one gateway, in one round."""

from bench.performance.audit import audited, check_answer
from bench.performance.figures import Figures
from bench.performance.gateways import DIRECT, Gateway
from bench.performance.load import Load, run_load
from bench.performance.site import Site

THROUGHPUT, LATENCY = "throughput", "latency"
MANY_CONNECTIONS = 64
_WARM_UP_SECONDS = 1.0
_THOUSAND = 1000


def measure_throughput(site: Site, gateway: Gateway, seconds: float, figures: Figures) -> None:
    """Keep 64 connections busy, and see what each part uses for it."""
    load, used = _loaded(site, gateway, MANY_CONNECTIONS, seconds)
    figures.add(
        THROUGHPUT,
        gateway.name,
        rate=load.requests_per_second,
        p50=load.p50_milliseconds,
        p99=load.p99_milliseconds,
        failures=load.failures,
        **{f"{part}_cpu": cpu / load.requests * _THOUSAND for part, cpu in used.items()},
    )


def measure_latency(site: Site, gateway: Gateway, seconds: float, figures: Figures) -> None:
    """Send one request after the other, and see what a gateway adds to the direct call of the same round."""
    load, _ = _loaded(site, gateway, 1, seconds)
    figures.add(
        LATENCY, gateway.name, p50=load.p50_milliseconds, p99=load.p99_milliseconds, failures=load.failures
    )
    if gateway.name != DIRECT:
        added = {
            f"{metric}_added": figures.last(LATENCY, gateway.name, metric)
            - figures.last(LATENCY, DIRECT, metric)
            for metric in ("p50", "p99")
        }
        figures.add(LATENCY, gateway.name, **added)


def _loaded(site: Site, gateway: Gateway, connections: int, seconds: float) -> tuple[Load, dict[str, float]]:
    """Check an answer, warm up, measure; return the load and the processor time that each part used for it."""
    requests = [gateway.request()]
    with audited(site, gateway) as tally:
        check_answer(gateway)
        warm_up = run_load(requests, connections, _WARM_UP_SECONDS)
        before = site.cpu_seconds(gateway.pid)
        load = run_load(requests, connections, seconds)
        used = {part: after - before[part] for part, after in site.cpu_seconds(gateway.pid).items()}
        tally.failed = warm_up.failures + load.failures
        tally.answered = 1 + warm_up.requests + load.requests - tally.failed
    return load, used | {"load": load.cpu_seconds}
