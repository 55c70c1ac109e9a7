"""How soon Clearfloor is ready, and what memory it takes: at once, after many requests, after streams that broke."""

import time

from bench.performance.audit import audited
from bench.performance.cpu import largest_resident_megabytes
from bench.performance.figures import Figures
from bench.performance.gateways import Gateway
from bench.performance.load import run_load
from bench.performance.provider import BROKEN
from bench.performance.scenarios import MANY_CONNECTIONS, STREAMS_AT_ONCE
from bench.performance.site import Site
from bench.performance.streams import run_broken_streams

RESOURCES = "resources"
FIRST_REQUESTS = 10_000
ALL_REQUESTS = 100_000
# Half by callers that hang up, half by the provider.
BROKEN_STREAMS = 1_000
_STARTS = 5
_IDLE_SECONDS = 1.0
# So many times a measure's seconds is given to all the requests; a slow gateway serves as many as it can.
_PATIENCE = 20


def note_idle(gateway: Gateway, figures: Figures) -> None:
    """Note when a gateway was ready, and its memory before its first request."""
    time.sleep(_IDLE_SECONDS)
    if gateway.pid is not None and gateway.ready_seconds is not None:
        idle = largest_resident_megabytes(gateway.pid)
        figures.add(RESOURCES, gateway.name, {"ready": gateway.ready_seconds, "idle": idle})


def measure_resources(site: Site, seconds: float, figures: Figures) -> None:
    """Start Clearfloor some times, and load the last one."""
    for number in range(_STARTS):
        with site.clearfloor() as gateway:
            note_idle(gateway, figures)
            if number == _STARTS - 1:
                _load_and_break(site, gateway, seconds * _PATIENCE, figures)


def _load_and_break(site: Site, gateway: Gateway, seconds: float, figures: Figures) -> None:
    started = time.monotonic()
    served = 0
    for metric, until in (("after_first", FIRST_REQUESTS), ("after_all", ALL_REQUESTS)):
        left = max(1.0, seconds - (time.monotonic() - started))
        with audited(site, gateway) as tally:
            load = run_load([gateway.request()], MANY_CONNECTIONS, left, most_requests=until - served)
            tally.failed = load.failures
            tally.answered = load.requests - load.failures
        served += load.requests
        figures.add(RESOURCES, gateway.name, {metric: _memory(gateway), f"{metric}_requests": served})
    _break_streams(site, gateway)
    figures.add(RESOURCES, gateway.name, {"after_broken": _memory(gateway)})


def _break_streams(site: Site, gateway: Gateway) -> None:
    request = gateway.request(model=BROKEN, stream=True)
    with audited(site, gateway) as tally:
        for hang_up in (True, False):
            streams = run_broken_streams(request, STREAMS_AT_ONCE, BROKEN_STREAMS // 2, hang_up=hang_up)
            tally.answered += streams.whole
            tally.broken += streams.broken


def _memory(gateway: Gateway) -> float:
    return largest_resident_megabytes(gateway.pid) if gateway.pid is not None else 0.0
