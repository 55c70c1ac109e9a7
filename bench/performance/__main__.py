"""Measures the gateway end to end, against its peers.

Rounds are interleaved: each runs every gateway once, in another order, so that a machine that gets slower or faster
meanwhile favours none.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from backend.stack.errors import StackError
from bench.performance import gateways, report, scenarios
from bench.performance.figures import Figures
from bench.performance.gateways import Gateway
from bench.performance.site import Site, running_site

Measure = Callable[[Site, Gateway, float, Figures], None]
_SCENARIOS: dict[str, Measure] = {
    scenarios.THROUGHPUT: scenarios.measure_throughput,
    scenarios.LATENCY: scenarios.measure_latency,
}


def main() -> int:
    """Measure, print, and return the exit code."""
    given = _arguments()
    try:
        figures = _measured(given.only, given.rounds, given.seconds)
    except StackError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    sys.stdout.write(report.tables(figures) + "\n")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.performance", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each gateway is measured")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each measure takes")
    parser.add_argument(
        "--only", type=_names, default=list(_SCENARIOS), help=f"some of {','.join(_SCENARIOS)}"
    )
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = set(names) - set(_SCENARIOS)
    if unknown:
        raise argparse.ArgumentTypeError(f"no scenario is called {', '.join(sorted(unknown))}")
    return names


def _measured(names: Sequence[str], rounds: int, seconds: float) -> Figures:
    figures = Figures()
    with running_site() as site, ExitStack() as started:
        direct = gateways.direct(site.provider.url)
        measured = [
            started.enter_context(
                gateways.clearfloor(site.stack, site.data_api.url, site.wallet.api_keys[0], site.home)
            )
        ]
        for number in range(rounds):
            for name in names:
                # The direct call comes first: the others are compared with it.
                for gateway in (direct, *_rotated(measured, number)):
                    _say(f"round {number + 1} of {rounds}: {name}, {gateway.name}")
                    _SCENARIOS[name](site, gateway, seconds, figures)
    return figures


def _rotated(measured: Sequence[Gateway], number: int) -> list[Gateway]:
    at = number % len(measured)
    return [*measured[at:], *measured[:at]]


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
