"""The catalogue's providers, candidates and qualities, and what is written to them."""

from collections.abc import Iterable, Sequence

import psycopg

from backend.catalogue.candidate import Candidate, Profile, Provider
from backend.catalogue.comparison import Finding
from backend.catalogue.published import Figure
from backend.catalogue.qualities import Model, QualityFinding

# A catalogue is some hundred rows.
STATEMENT_TIMEOUT_MILLISECONDS = 60_000

_ONE_WRITER = "select pg_advisory_xact_lock(hashtextextended('clearfloor.catalogue', 0))"
_PROVIDERS = """
    select name, base_url
    from public.providers
    where enabled and (%(provider)s::text is null or name = %(provider)s)
    order by name
"""
_CANDIDATES = """
    select
        candidate.id, candidate.provider, provider.base_url, candidate.model, candidate.upstream_model,
        candidate.context_window_tokens, candidate.max_output_tokens, candidate.capabilities, candidate.enabled
    from public.candidates as candidate
    inner join public.providers as provider on candidate.provider = provider.name
    where %(provider)s::text is null or candidate.provider = %(provider)s
    order by candidate.provider, candidate.model
"""
# All of a model's names, whichever provider is asked about: they have to be names of one and the same model.
_UPSTREAM_MODELS = "select model, array_agg(upstream_model) from public.candidates group by model"
_FIGURES = """
    select task, quality, source, measured_on from public.model_qualities where model = %s order by task
"""
_UPDATE = """
    update public.candidates
    set context_window_tokens = %s, max_output_tokens = %s, capabilities = %s
    where id = %s
"""
_INSERT_MODEL = "insert into public.models (name, description) values (%s, %s) on conflict (name) do nothing"
_INSERT = """
    insert into public.candidates
        (id, provider, model, upstream_model, context_window_tokens, max_output_tokens, capabilities)
    values (%s, %s, %s, %s, %s, %s, %s)
"""
_UPSERT_FIGURE = """
    insert into public.model_qualities (model, task, quality, source, measured_on)
    values (%s, %s, %s, %s, %s)
    on conflict (model, task) do update
    set quality = excluded.quality, source = excluded.source, measured_on = excluded.measured_on
"""


def wait_for_other_writers(connection: psycopg.Connection) -> None:
    """Let no other transaction of this command read or write until this one ends."""
    connection.execute(_ONE_WRITER)


def read_providers(connection: psycopg.Connection, provider: str | None) -> list[Provider]:
    """Return the enabled providers: the one of that name, or all."""
    return [Provider(*row) for row in connection.execute(_PROVIDERS, {"provider": provider})]


def read_candidates(connection: psycopg.Connection, provider: str | None) -> list[Candidate]:
    """Return the candidates, disabled ones too, of a provider or of all."""
    rows = connection.execute(_CANDIDATES, {"provider": provider})
    return [
        Candidate(
            id=identity,
            provider=Provider(name, base_url),
            model=model,
            upstream_model=upstream_model,
            current=Profile(context_window, max_output, frozenset(capabilities)),
            enabled=enabled,
        )
        for (
            identity,
            name,
            base_url,
            model,
            upstream_model,
            context_window,
            max_output,
            capabilities,
            enabled,
        ) in rows
    ]


def read_models(connection: psycopg.Connection, candidates: Iterable[Candidate]) -> list[Model]:
    """Return the models of candidates, also of new ones, with all the names that providers give them."""
    names: dict[str, set[str]] = {}
    for candidate in candidates:
        names.setdefault(candidate.model, set()).add(candidate.upstream_model)
    for model, upstream_models in connection.execute(_UPSTREAM_MODELS):
        names.get(model, set()).update(upstream_models)
    return [
        Model(
            name,
            frozenset(upstream_models),
            tuple(Figure(*row) for row in connection.execute(_FIGURES, [name])),
        )
        for name, upstream_models in sorted(names.items())
    ]


def write_candidates(connection: psycopg.Connection, findings: Sequence[Finding]) -> None:
    """Write the profiles of what was found: of candidates that are there, and of new ones with their models."""
    for finding in findings:
        candidate, profile = finding.candidate, finding.profile
        if profile is None:
            continue
        values = (
            profile.context_window_tokens,
            profile.max_output_tokens,
            sorted(profile.capabilities),
        )
        if candidate.current is not None:
            connection.execute(_UPDATE, [*values, candidate.id])
            continue
        connection.execute(_INSERT_MODEL, [candidate.model, finding.name])
        who = (candidate.id, candidate.provider.name, candidate.model, candidate.upstream_model)
        connection.execute(_INSERT, [*who, *values])


def write_figures(connection: psycopg.Connection, findings: Iterable[QualityFinding]) -> None:
    """Write the published figures of models."""
    for finding in findings:
        for figure in finding.figures:
            connection.execute(
                _UPSERT_FIGURE,
                [finding.model.name, figure.task, figure.quality, figure.source, figure.measured_on],
            )
