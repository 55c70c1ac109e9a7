"""Training: the same examples, the same bytes; and what it refuses."""

import json
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

from backend import cli
from backend.routing.classifier import Classifier
from backend.stack.parts import PROJECT_ROOT
from backend.training.examples import Example, TableError, read_examples, task_name
from backend.training.fit import examples_digest, facts, train
from backend.weights import CLASSIFIER_FILE

DATA = PROJECT_ROOT / "data" / "routing"
TEXTS = {
    "code": "Write a function that takes {} and returns a sorted list of numbers.",
    "law": "May a plaintiff in {} recover damages from the defendant in court?",
    "word_problem": "How many apples does {} have left after giving three of them away?",
}
NAMES = ("John", "Mary", "Ohio", "Texas", "June", "Paris", "Ann", "Peter")
SAMPLE = [Example(text.format(name), task) for task, text in TEXTS.items() for name in NAMES]


def test_the_same_examples_in_any_order_give_the_same_bytes() -> None:
    """So that a file of weights can be told by its digest."""
    assert train(reversed(SAMPLE)) == train(SAMPLE)
    assert train(SAMPLE[:-1]) != train(SAMPLE)


def test_the_number_of_cores_changes_no_byte() -> None:
    """Sums have an order."""
    trained = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            trained.append(train(SAMPLE))
    assert trained[0] == trained[1]


def test_how_a_text_is_typed_alone_makes_no_class() -> None:
    """One class is typed without capitals; what sounds like another is of that, however it is typed."""
    typed = [
        Example(text.lower().rstrip("?."), "word_problem") if task == "word_problem" else Example(text, task)
        for template, task in ((template, task) for task, template in TEXTS.items())
        for text in [template.format(name) for name in (*NAMES, *map(str.upper, NAMES), *map(str, range(40)))]
    ]
    classifier = Classifier.from_bytes(train(typed))
    found = classifier.posterior(["may a plaintiff in zurich recover damages from the defendant in court"])
    assert next(iter(found)) == "law"


def test_what_was_trained_is_recognised() -> None:
    """In words it has not seen together."""
    classifier = Classifier.from_bytes(train(SAMPLE))
    assert classifier.classes == ("code", "law", "word_problem")
    found = classifier.posterior(["How many apples does Zoe have after giving two of them away?"])
    assert next(iter(found)) == "word_problem"


def test_two_classes_are_too_few() -> None:
    """Two would need another formula."""
    with pytest.raises(ValueError, match="needs examples of 3 classes; there are 2"):
        train(example for example in SAMPLE if example.task != "law")


def test_the_shipped_weights_are_those_of_the_data() -> None:
    """Who changes the data, or what was chosen, trains anew."""
    examples = [*read_examples(DATA / "prompts.csv.gz"), *read_examples(DATA / "chat.csv.gz")]
    header = json.loads(CLASSIFIER_FILE.read_bytes().partition(b"\n")[0])
    assert header["facts"] == facts(examples)
    assert header["facts"]["examples_sha256"] == examples_digest(reversed(examples))


@pytest.mark.parametrize(
    ("task_class", "name"),
    [
        ("word problem", "word_problem"),
        ("coding", "code"),
        ("other", "general_knowledge"),
        ("fact lookup.trivia", "fact_lookup.trivia"),
        ("coding.completion", "code.completion"),
        ("general_knowledge", "general_knowledge"),
    ],
)
def test_a_class_has_a_name_that_an_api_can_carry(task_class: str, name: str) -> None:
    """And people can read."""
    assert task_name(task_class) == name


def table(folder: Path, rows: list[tuple[str, str]], header: str = "prompt,task_class") -> Path:
    """Write a file of examples."""
    file = folder / "examples.csv"
    file.write_text("\n".join([header, *(f'"{prompt}",{task}' for prompt, task in rows)]))
    return file


def test_the_command_writes_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its size and digest; rows without a class are passed over."""
    out = tmp_path / "weights.bin"
    examples = table(tmp_path, [*((example.text, example.task) for example in SAMPLE), ("What?", "")])
    assert cli.main(["train", str(examples), "--out", str(out)]) == 0
    assert out.read_bytes() == train(SAMPLE)
    told = capsys.readouterr().out
    assert Classifier.from_bytes(out.read_bytes()).digest in told
    assert "24 examples" in told


@pytest.mark.parametrize(
    ("header", "rows", "told"),
    [
        ("prompt,task", [("a", "law")], "there is no column task_class"),
        ("prompt,task_class", [("a", "law")], "needs examples of 3 classes; there are 1"),
    ],
)
def test_the_command_refuses_what_is_no_set_of_examples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], header: str, rows: list[tuple[str, str]], told: str
) -> None:
    """And leaves the weights that were there."""
    out = tmp_path / "weights.bin"
    out.write_bytes(b"earlier")
    assert cli.main(["train", str(table(tmp_path, rows, header)), "--out", str(out)]) == 1
    assert told in capsys.readouterr().err
    assert out.read_bytes() == b"earlier"


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is trained on the others alone."""
    assert cli.main(["train", str(tmp_path / "nowhere.csv"), "--out", str(tmp_path / "out")]) == 1
    assert "nowhere.csv" in capsys.readouterr().err


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    """With what is wrong with it."""
    file = tmp_path / "examples.csv"
    file.write_bytes(b"prompt,task_class\n\xff,law\n")
    with pytest.raises(TableError, match=r"examples\.csv.*utf-8"):
        read_examples(file)
