"""Measures the gateway end to end, against its peers.

Rounds are interleaved: each runs every gateway once, in another order, so that a machine that gets slower or faster
meanwhile favours none.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from backend.stack.errors import StackError
from bench.performance import document, plot, report
from bench.performance.audit import AuditError
from bench.performance.conditions import Conditions
from bench.performance.figures import Figures
from bench.performance.gateways import direct
from bench.performance.peers import PEERS
from bench.performance.programs import require_programs
from bench.performance.resources import RESOURCES, measure_resources, note_idle
from bench.performance.scenarios import SCENARIOS, Turn
from bench.performance.site import Site, running_site

_NAMES = (*SCENARIOS, RESOURCES)
_ROUNDS = 3
_SECONDS = 4.0


def main() -> int:
    """Measure, print, write if asked to, and return the exit code."""
    given = _arguments()
    try:
        require_programs()
        figures, conditions = _measured(given.only, given.rounds, given.seconds)
    except (StackError, AuditError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    text = report.text(figures, conditions)
    sys.stdout.write(f"{text}\n")
    if given.write:
        plot.draw(figures, document.FOLDER)
        document.replace(document.PERFORMANCE, text)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.performance", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="how often each gateway is measured")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="how long each measure takes")
    parser.add_argument("--only", type=_names, default=_NAMES, help=f"some of {','.join(_NAMES)}")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and its plot")
    return parser.parse_args()


def _names(text: str) -> Sequence[str]:
    names = text.split(",")
    unknown = set(names) - set(_NAMES)
    if unknown:
        raise argparse.ArgumentTypeError(f"nothing is called {', '.join(sorted(unknown))}")
    return names


def _measured(names: Sequence[str], rounds: int, seconds: float) -> tuple[Figures, Conditions]:
    figures = Figures()
    with running_site() as site:
        conditions = Conditions.found(site, rounds, seconds)
        with ExitStack() as stack:
            _start(site, stack, conditions, figures)
            for number in range(rounds):
                _run_round(site, conditions, names, Turn(number, seconds, figures))
        if RESOURCES in names:
            _say("start and memory, Clearfloor")
            measure_resources(site, seconds, figures)
        conditions.decisions = site.records.decisions()
    return figures, conditions


def _start(site: Site, stack: ExitStack, conditions: Conditions, figures: Figures) -> None:
    """Start Clearfloor and its peers, until ``stack`` is left; a peer that cannot be had is noted with the reason."""
    conditions.gateways.append(stack.enter_context(site.clearfloor()))
    for name, peer in PEERS.items():
        _say(f"starting {name}")
        try:
            gateway = stack.enter_context(peer(site.provider.url, site.home))
        except StackError as error:
            conditions.missing[name] = str(error)
            continue
        note_idle(gateway, figures)
        conditions.gateways.append(gateway)


def _run_round(site: Site, conditions: Conditions, names: Sequence[str], turn: Turn) -> None:
    for name in names:
        if (scenario := SCENARIOS.get(name)) is None:
            continue
        rotated = turn.rotated(conditions.gateways)
        # The direct call comes first: the others are compared with it.
        measured = (
            [gateway for gateway in rotated if gateway.is_ours]
            if scenario.is_ours_only
            else [direct(site.provider.url), *rotated]
        )
        for gateway in measured:
            _say(f"round {turn.number + 1}: {name}, {gateway.name}")
            try:
                scenario.measure(site, gateway, turn)
            except AuditError as error:
                # What is wrong with a peer is told; what is wrong with Clearfloor ends the run.
                if gateway.name not in PEERS:
                    raise
                conditions.missing[f"{gateway.name}, {name}"] = str(error)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
