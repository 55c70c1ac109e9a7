"""`python -m bench.quality --prompts … --models … --out …`: robust to what a file does not have."""

import csv
import gzip
from pathlib import Path

import pytest

from backend.routing.task import LONG_CONTEXT_BYTES, Tasks
from backend.training.examples import TableError
from backend.weights import read_classifier
from bench.quality.predictors import observed_sums, of_text
from bench.quality.recorded import Pool, read_pools
from bench.quality.scores import Request, write_scores

PROMPT = "How many apples are left if John eats 3 of his 12 apples and gives half of the rest away?"


@pytest.fixture(scope="module")
def pools() -> list[Pool]:
    """Return the recorded ones."""
    return read_pools()


class Files:
    """A folder with a file of prompts and one of models."""

    def __init__(self, folder: Path, pools: list[Pool]) -> None:
        self._folder, self._pools = folder, pools

    def scores(
        self, prompts: str, models: str, class_column: str | None = None
    ) -> dict[tuple[str, str], float]:
        """Write the files, predict, and return what was written."""
        request = Request(
            self._folder / "p.csv", self._folder / "m.csv", self._folder / "out.csv", class_column
        )
        request.prompts.write_text(prompts)
        request.models.write_text(models)
        count = write_scores(request, self._pools, read_classifier())
        with request.out.open(newline="") as file:
            rows = list(csv.DictReader(file))
        found = {(row["prompt_id"], row["model"]): float(row["score"]) for row in rows}
        assert (count, list(rows[0])) == (len(found), ["prompt_id", "model", "score"])
        return found


@pytest.fixture
def files(tmp_path: Path, pools: list[Pool]) -> Files:
    """Return a folder to predict in."""
    return Files(tmp_path, pools)


def test_each_model_of_a_prompts_source_is_predicted(files: Files) -> None:
    """And no other; one of the same name by what it has shown there."""
    found = files.scores(
        f'prompt_id,source,prompt\n1,zeroeval,"{PROMPT}"\n2,llmrouter,"{PROMPT}"\n',
        "source,model\nzeroeval,gemma-2-9b-it\nllmrouter,gemma-2-9b-it\nllmrouter,codegemma-7b\n",
    )
    assert set(found) == {("1", "gemma-2-9b-it"), ("2", "gemma-2-9b-it"), ("2", "codegemma-7b")}
    assert found["1", "gemma-2-9b-it"] != found["2", "gemma-2-9b-it"]
    assert found["2", "gemma-2-9b-it"] > found["2", "codegemma-7b"]


def test_what_a_model_has_shown_in_another_pool_does_not_count(files: Files, pools: list[Pool]) -> None:
    """Prompts and harnesses differ: it is right there for so many of the word problems, and elsewhere for fewer."""
    found = files.scores(
        "prompt_id,source,task_class,prompt\n1,zeroeval,word problem,x\n",
        "source,model\nzeroeval,mixtral-8x7b-instruct-v0.1\nroutellm,mixtral-8x7b-instruct-v0.1\n",
        class_column="task_class",
    )
    (pool,) = (pool for pool in pools if pool.name == "zeroeval")
    good, asked = observed_sums(pool)["mixtral-8x7b-instruct-v0.1"]["word_problem"]
    assert list(found.values()) == pytest.approx([good / asked], abs=0.005)


def test_without_sources_every_model_is_predicted_once(files: Files) -> None:
    """By all that it has shown anywhere."""
    found = files.scores(
        f'prompt_id,prompt\n1,"{PROMPT}"\n', "model\ngemma-2-9b-it\nmathstral-7b\ngemma-2-9b-it\n"
    )
    assert set(found) == {("1", "gemma-2-9b-it"), ("1", "mathstral-7b")}
    assert all(0 < score < 1 for score in found.values())


def test_a_model_nobody_knows_is_taken_for_the_mean_of_its_pool(files: Files, pools: list[Pool]) -> None:
    """In every class alike."""
    found = files.scores(
        f'prompt_id,source,prompt\n1,zeroeval,"{PROMPT}"\n2,zeroeval,What is law?\n',
        "source,model\nzeroeval,unheard-of\n",
    )
    (pool,) = (pool for pool in pools if pool.name == "zeroeval")
    assert list(found.values()) == pytest.approx([pool.scores.mean()] * 2, abs=1e-6)


def test_a_class_that_is_given_is_believed(files: Files) -> None:
    """Whatever the text says; of a class with kinds it tells which; where the cell is empty, the text speaks."""
    header, models = "prompt_id,source,task_class,prompt\n", "source,model\nllmrouter,gemma-2-9b-it\n"
    rows = f'1,llmrouter,commonsense,"{PROMPT}"\n2,llmrouter,commonsense,else\n3,llmrouter,,"{PROMPT}"\n'
    begun = "def mean(values: list[int]) -> float: # Return the mean of a list of numbers"
    rows += f'4,llmrouter,coding,"{begun}"\n5,llmrouter,coding,"Write a function that adds numbers."\n'
    found = files.scores(header + rows, models, class_column="task_class")
    by_text = files.scores(header + rows, models)
    assert found["1", "gemma-2-9b-it"] == found["2", "gemma-2-9b-it"] != by_text["1", "gemma-2-9b-it"]
    assert found["4", "gemma-2-9b-it"] < found["5", "gemma-2-9b-it"]
    assert found["3", "gemma-2-9b-it"] == by_text["3", "gemma-2-9b-it"]


def test_rules_see_a_text_before_the_classifier_does() -> None:
    """As they see a request's: by its bytes, whatever its letters are."""
    tasks = Tasks(read_classifier())
    assert of_text(tasks, "é" * (LONG_CONTEXT_BYTES // 2)) == {"chat": 1.0}
    assert of_text(tasks, "é" * (LONG_CONTEXT_BYTES // 2 + 1)) == {"long_context": 1.0}
    assert of_text(tasks, "```") == {"code": 1.0}


def test_prompts_may_be_gzipped_and_empty(tmp_path: Path, pools: list[Pool]) -> None:
    """An empty one is predicted as what says nothing of its class."""
    request = Request(tmp_path / "p.csv.gz", tmp_path / "m.csv", tmp_path / "out.csv")
    request.prompts.write_bytes(gzip.compress(b"prompt_id,prompt\n1,\n"))
    request.models.write_text("model\ngemma-2-9b-it\n")
    assert write_scores(request, pools, read_classifier()) == 1


@pytest.mark.parametrize(
    ("prompts", "models", "class_column", "told"),
    [
        ("id,prompt\n1,x\n", "model\nm\n", None, "prompt_id"),
        ("prompt_id,prompt\n1,x\n", "name\nm\n", None, "model"),
        ("prompt_id,prompt\n1,x\n", "model\nm\n", "task_class", "task_class"),
    ],
)
def test_a_missing_column_is_named(
    files: Files, prompts: str, models: str, class_column: str | None, told: str
) -> None:
    """With the file."""
    with pytest.raises(TableError, match=rf"\.csv: there is no column {told}"):
        files.scores(prompts, models, class_column)
