"""`clearfloor demo`: sends each scene's request and reads its rows back as the tenant, then as a stranger."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import httpx

from backend.demo.report import next_lines, outcome_of, scene_lines, wallet_lines
from backend.demo.scenes import SCENES, Scene
from backend.demo.site import TIMEOUT_SECONDS, Site, read_settings
from backend.stack.errors import StackError
from backend.stack.stack import HOME


def main(arguments: Sequence[str]) -> int:
    """Run the tour; the exit code is 1 when a request did not come to what its scene says."""
    parser = argparse.ArgumentParser(
        prog="clearfloor demo", description="Send five requests and show the rows they leave behind."
    )
    parser.add_argument("--settings", type=Path, default=HOME / "dev.env", help="as `clearfloor up` wrote it")
    settings = read_settings(parser.parse_args(arguments).settings)
    with httpx.Client(timeout=TIMEOUT_SECONDS) as http:
        try:
            return _tour(Site(settings, http))
        except httpx.TransportError as error:
            raise StackError(
                f"{error.request.url} cannot be reached ({error}): run `make up`; `make status` tells what runs."
            ) from error


def _tour(site: Site) -> int:
    before = site.tenant.wallet()
    decisions = [_play(site, number, scene) for number, scene in enumerate(SCENES, start=1)]
    charged = sum(decision["charge_nano_usd"] for decision, _ in decisions)
    _say(wallet_lines(before, site.tenant.wallet(), charged))
    _say(next_lines(site.url, site.rest_url, decisions[-1][0]["id"]))
    return 0 if all(as_expected for _, as_expected in decisions) else 1


def _play(site: Site, number: int, scene: Scene) -> tuple[dict[str, Any], bool]:
    """Return the decision of a scene, and whether it came to what was expected."""
    answer = site.send(scene)
    decision_id = answer.headers.get("x-clearfloor-decision-id")
    if decision_id is None:
        raise StackError(f"the backend made no decision, it answered {answer.status_code}: {answer.text}")
    rows = site.tenant.rows(decision_id)
    _say(scene_lines(number, scene, answer, rows, site.other_tenant.rows(decision_id)))
    outcome = outcome_of(answer, rows)
    if outcome != scene.expected:
        _say([f"   UNEXPECTED: {outcome}", f"   instead of: {scene.expected}"])
    return rows.decisions[0], outcome == scene.expected


def _say(lines: Iterable[str]) -> None:
    sys.stdout.write("\n".join([*lines, "", ""]))
    sys.stdout.flush()
