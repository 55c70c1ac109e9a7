"""What would become of the catalogue: found, written, or tried out on recorded decisions."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import psycopg

from backend.catalogue.candidate import Candidate, Provider
from backend.catalogue.comparison import Finding, Offer, Verdict, compare, find_offers
from backend.catalogue.database import (
    read_candidates,
    read_models,
    read_providers,
    write_candidates,
    write_figures,
)
from backend.catalogue.qualities import QualityFinding, compare_qualities
from backend.ids import uuid7
from backend.prices import comparison as price_comparison
from backend.prices.database import read_candidates as read_priced_candidates
from backend.prices.database import write_prices
from backend.prices.library import SOURCE as PRICE_SOURCE
from backend.replay.comparison import Change, Compared, changed_decisions
from backend.replay.database import read_current_catalogue, read_decisions

# As the table has it: the name stands in response headers, and `auto` is what asks for no model.
_MODEL_NAME = re.compile(r"(?!auto(?:$|:))[!-~]{1,200}")


@dataclass(frozen=True, slots=True)
class Selection:
    """What is asked for.

    Attributes:
        provider: only this provider of the catalogue; None: all that are enabled.
        models: only these of its models, by the library's ids, and new ones among them are added. Empty: the candidates that
            the catalogue has.
        name: what the one new model is called in the catalogue; None: as in the library.
    """

    provider: str | None = None
    models: Sequence[str] = ()
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """What library and publications say of the catalogue."""

    providers: Sequence[Provider]
    candidates: Sequence[Finding]
    qualities: Sequence[QualityFinding]
    offers: Sequence[Offer]

    @property
    def profiles(self) -> int:
        """How many candidates are to be written."""
        return sum(finding.profile is not None for finding in self.candidates)

    @property
    def figures(self) -> int:
        """How many qualities are to be written."""
        return sum(len(finding.figures) for finding in self.qualities)


def find_update(connection: psycopg.Connection, selection: Selection) -> Update:
    """Compare what is selected with the library and the publications; nothing is written."""
    providers = read_providers(connection, selection.provider)
    candidates = read_candidates(connection, selection.provider)
    findings = [
        _refused(compare(candidate), candidates)
        for provider in providers
        for candidate in _selected(provider, candidates, selection)
    ]
    models = read_models(connection, (finding.candidate for finding in findings))
    qualities = [finding for model in models if (finding := compare_qualities(model))]
    offers = [offer for provider in providers for offer in find_offers(provider, candidates)]
    return Update(providers, findings, qualities, offers)


def write(connection: psycopg.Connection, update: Update) -> None:
    """Write what was found."""
    write_candidates(connection, update.candidates)
    write_figures(connection, update.qualities)


def try_out(connection: psycopg.Connection, update: Update, since: datetime, most: int) -> Compared[Change]:
    """Tell which of the newest decisions an update would have changed; nothing of it stays.

    The database itself says what its catalogue would be: the update is written and undone. New candidates count at the prices
    that `clearfloor prices apply` would then give them.

    Raises:
        NotRecomputableError: the catalogue is of another version than this one.
    """
    current = read_current_catalogue(connection)
    with connection.transaction(force_rollback=True):
        write(connection, update)
        _price_new_candidates(connection, update)
        proposed = read_current_catalogue(connection)
    return changed_decisions(read_decisions(connection, since, most), lambda _: current, proposed)


def _selected(
    provider: Provider, candidates: Sequence[Candidate], selection: Selection
) -> Iterator[Candidate]:
    """Yield a provider's enabled candidates, or those that are named, made anew where there are none."""
    own = [candidate for candidate in candidates if candidate.provider == provider]
    if not selection.models:
        yield from (candidate for candidate in own if candidate.enabled)
    for upstream_model in dict.fromkeys(selection.models):
        there = [candidate for candidate in own if candidate.upstream_model == upstream_model]
        name = selection.name or upstream_model
        yield from there or [Candidate(uuid7(), provider, name, upstream_model, None)]


def _refused(finding: Finding, candidates: Sequence[Candidate]) -> Finding:
    """Return a finding without what the table would refuse: a new candidate whose name is taken, or is none."""
    candidate = finding.candidate
    if finding.verdict != Verdict.NEW_CANDIDATE:
        return finding
    names = {other.model for other in candidates if other.provider == candidate.provider}
    if candidate.model in names:
        note = "the provider runs another model by that name here: give it one with --as"
    elif not _MODEL_NAME.fullmatch(candidate.model):
        note = "no model can be called so here: give it a name with --as"
    else:
        return finding
    return replace(finding, verdict=Verdict.NOT_REPRESENTABLE, note=note, profile=None)


def _price_new_candidates(connection: psycopg.Connection, update: Update) -> None:
    new = {finding.candidate.id for finding in update.candidates if finding.verdict == Verdict.NEW_CANDIDATE}
    # The time of the transaction, by which the current prices are told.
    (moment,) = connection.execute("select now()").fetchall()[0]
    findings = [
        price_comparison.compare(candidate, moment)
        for candidate in read_priced_candidates(connection, moment)
        if candidate.id in new
    ]
    write_prices(
        connection,
        [(finding.candidate, finding.tiers) for finding in findings if finding.tiers],
        moment,
        PRICE_SOURCE,
    )
