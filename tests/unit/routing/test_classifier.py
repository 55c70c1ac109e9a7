"""What the shipped classifier makes of a text, and what it does not look at."""

import json
import re
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backend.routing.classifier import (
    BUCKETS,
    HEAD_CHARACTERS,
    HEAD_TOKENS,
    MOST_TEXTS,
    REST,
    TAIL_CHARACTERS,
    TAIL_TOKENS,
    Classifier,
    WeightsError,
    as_code,
    buckets,
    excerpt,
    hashes,
    of_class,
    tokens,
)
from backend.training.weights_file import to_bytes
from backend.weights import CLASSIFIER_FILE, read_classifier

MEGABYTE = 1_000_000
QUESTION = (
    "A train leaves at 3 pm and travels 60 miles per hour for 2 hours. How many miles does it travel in all?"
)
# As JSON can hold it, lone surrogates included.
ANY_TEXT = st.text(st.characters(exclude_categories=()))

GOLDEN = {
    "Is it ethical to lie to a friend?": {"science_question": 0.9169, "commonsense": 0.0511, REST: 0.032},
    "Why do plants need light to grow?": {"science_question": 0.8608, "commonsense": 0.1122, REST: 0.027},
}


def most_probable(*texts: str) -> str:
    """Return the class that the shipped classifier takes texts for."""
    return next(iter(read_classifier().posterior(texts)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (QUESTION, "word_problem"),
        ("Write a Python function that returns the second largest number of a list.", "code"),
        ("Which capital city was Cook the first to sail to?", "fact_lookup.trivia"),
        ("when was the capital of australia founded", "fact_lookup"),
        (
            'def mean(values: list[float]) -> float:\n    """Return the mean of some values."""\n',
            "code.completion",
        ),
        (
            "A landlord sued a tenant for breach of contract. Will the plaintiff prevail?\nA. Yes\nB. No\nAnswer:",
            "law",
        ),
        ("Write a friendly email to my team that I will be on holiday next week.", "chat"),
        ("Rewrite the following paragraph so that it sounds more polite.", "chat"),
        ("can you help me write a cover letter", "chat"),
        ("Write a function that sorts a list of words.", "code"),
        ("write a python script to rename files", "code"),
        ("write a poem about the sea", "chat"),
        ("hello how are you today", "chat"),
    ],
)
def test_a_text_is_of_the_class_that_people_would_name(text: str, expected: str) -> None:
    """Plain examples, none of them from the data; some as people type them."""
    assert most_probable(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t",
        "Hi!",
        "2 + 2 = ?",
        "....",
        "\x00\ud800\udfff",
        "asdf qwer zxcv uiop hjkl",
        "Schreibe eine kurze E-Mail an meinen Chef, dass ich morgen krank bin.",
        "¿Cuál es la capital de Francia y cuántos habitantes tiene?",
        "Un train roule à 120 km/h pendant deux heures et demie. Quelle distance parcourt-il ?",
        "东京的人口是多少?",
        "Напиши письмо моему начальнику.",
        "اكتب رسالة إلى مديري",
    ],
)
def test_a_text_that_says_nothing_of_its_class_is_chat(text: str) -> None:
    """Nothing, a greeting, numbers, noise, another language: certain, for there is no better guess."""
    assert read_classifier().posterior([text]) == {REST: 1.0}


@given(st.lists(ANY_TEXT, max_size=5))
def test_probabilities_are_whole_ten_thousandths_that_sum_to_one(texts: list[str]) -> None:
    """In falling order, of known classes, and the same again after JSON: what is recorded is what was used."""
    posterior = read_classifier().posterior(texts)
    parts = [round(probability * 10_000) for probability in posterior.values()]
    assert list(posterior.values()) == [part / 10_000 for part in parts]
    assert (sum(parts), parts) == (10_000, sorted(parts, reverse=True))
    assert set(posterior) <= set(read_classifier().classes)
    assert json.loads(json.dumps(posterior)) == posterior


def test_the_same_text_gives_the_same_bits_everywhere() -> None:
    """Golden, so that another machine, Python or NumPy shows itself. Training anew changes it."""
    found = {text: read_classifier().posterior([text]) for text in GOLDEN}
    assert found == GOLDEN


@pytest.mark.parametrize(
    ("posterior", "expected"),
    [
        ({"chat": 0.6, "law": 0.4}, {"fact_lookup": 1.0}),
        (
            {"fact_lookup.trivia": 0.5, "law": 0.3, "fact_lookup": 0.2},
            {"fact_lookup": 0.5, "fact_lookup.trivia": 0.5},
        ),
        ({"fact_lookup.trivia": 1.0}, {"fact_lookup.trivia": 1.0}),
        ({"fact_lookups": 1.0}, {"fact_lookup": 1.0}),
    ],
)
def test_of_a_known_class_the_kinds_are_told_apart(
    posterior: dict[str, float], expected: dict[str, float]
) -> None:
    """What is of neither is the class's own."""
    assert list(of_class("fact_lookup", posterior).items()) == list(expected.items())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello there my friend how are you", "code"),
        ("Fix this bug in my React component please", "code"),
        (
            "Develop a Python program that reads all the text files of a folder and counts their words.",
            "code",
        ),
        (
            'def mean(values: list[float]) -> float:\n    """Return the mean of some values."""\n',
            "code.completion",
        ),
    ],
)
def test_what_looks_like_no_kind_of_a_known_class_is_of_none(text: str, expected: str) -> None:
    """It is of the class itself."""
    assert next(iter(of_class("code", read_classifier().posterior([text])))) == expected


@pytest.mark.parametrize(
    ("posterior", "expected"),
    [
        ({"chat": 0.6, "law": 0.4}, {"code": 1.0}),
        ({"code_reading": 1.0}, {"code_reading": 1.0}),
        ({"code_reading": 0.7007, "code": 0.2, "chat": 0.0993}, {"code_reading": 0.7007, "code": 0.2993}),
        ({"code.completion": 0.6, "law": 0.4}, {"code.completion": 0.6, "code": 0.4}),
    ],
)
def test_a_text_with_code_in_it_is_of_a_class_of_code(
    posterior: dict[str, float], expected: dict[str, float]
) -> None:
    """In whole ten-thousandths, too."""
    assert as_code(posterior) == expected


def test_words_are_hashed_alike_everywhere() -> None:
    """Python's own hash is another in every process."""
    assert hashes(["the", "cat"]) == [1_011_183_078, 2_656_977_832]
    there, back = (buckets(hashes(words)) for words in (["the", "cat"], ["cat", "the"]))
    assert there != back
    assert buckets(hashes(["the", "cat", "the", "cat"])) == there | back


def test_of_numbers_only_the_length_counts() -> None:
    """They say what a text is of, not which they are."""
    assert tokens("is 17 + 2005 = 20000??")[2:-1] == ["is", "00", "+", "0000", "=", "0000", "??"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["<0>", "<a>", "<end>"]),
        ("Why?", ["<2>", "<A>", "why", "?", "<end>"]),
        (" \nwhy me", ["<2>", "<a>", "why", "me", "<end>"]),
        ("<A> <end>", ["<3>", "<a>", "<", "a", ">", "<", "end", ">", "<end>"]),
    ],
)
def test_a_text_stands_between_marks_of_its_shape(text: str, expected: list[str]) -> None:
    """How long it is in powers of two, how it begins, where it ends; no text can have a mark in it."""
    assert tokens(text) == expected


def test_of_a_huge_text_head_and_tail_are_read() -> None:
    """So that it costs no more than another, and what is asked at its end is found."""
    huge = ["x" * MEGABYTE, QUESTION]
    assert len(excerpt(huge)) <= HEAD_CHARACTERS + TAIL_CHARACTERS + len(huge)
    assert QUESTION in excerpt(huge)
    assert excerpt([QUESTION, "x" * MEGABYTE]).startswith(QUESTION)
    marks = len(tokens(""))
    assert len(tokens(excerpt(["a b " * MEGABYTE]))) == HEAD_TOKENS + TAIL_TOKENS + marks


def test_of_a_huge_number_of_texts_the_first_and_the_last_are_read() -> None:
    """So that it costs no more than another."""
    read = excerpt(["first", *[""] * MEGABYTE, "last"])
    assert len(read) <= 2 * MOST_TEXTS + len("firstlast")
    assert read.split() == ["first", "last"]


def test_what_stands_in_the_middle_of_a_huge_text_changes_nothing() -> None:
    """A long document in between leaves what is asked before and after it."""
    instruction, document = f"{QUESTION}\n" * 30, "word " * MEGABYTE
    assert read_classifier().posterior([instruction, document, instruction]) == (
        read_classifier().posterior([instruction, f"{document}{document}", instruction])
    )


@given(st.lists(ANY_TEXT, max_size=5))
def test_a_short_conversation_is_read_whole(texts: list[str]) -> None:
    """Every text of it, in order."""
    assert excerpt(texts) == "\n".join(texts)


@given(st.lists(st.text("ab", min_size=1, max_size=3), min_size=2, max_size=9), st.integers(800, 3_000))
def test_a_long_conversation_is_read_from_both_ends(texts: list[str], times: int) -> None:
    """Whatever the lengths of its texts, which are kept apart."""
    long = [text * times for text in texts]
    whole, read = "\n".join(long), excerpt(long)
    assume(sum(map(len, long)) > HEAD_CHARACTERS + TAIL_CHARACTERS)
    assert read.startswith(whole[:HEAD_CHARACTERS])
    assert read.endswith(whole[-TAIL_CHARACTERS:])


def handmade() -> bytes:
    """Return a file of two classes, in which one word speaks for the first."""
    weights = np.zeros((BUCKETS, 2))
    weights[list(buckets(hashes(["one"]))), 0] = 8.0
    return to_bytes(["first", "second"], weights, [0.0, 1.0], hashes(["one", "two", "three", "four"]), {})


def test_what_was_written_is_read() -> None:
    """Weights to a 127th of the largest, the classes, and the file's own digest."""
    classifier = Classifier.from_bytes(handmade())
    assert classifier.classes == ("first", "second")
    assert classifier.digest == sha256(handmade()).hexdigest()
    # Eleven features: three words, three marks and five pairs; 8 / sqrt(11) against 1.
    assert classifier.posterior(["one two three"]) == {"first": 0.804, "second": 0.1959, REST: 0.0001}
    assert classifier.posterior(["two three four"]) == {"second": 0.731, "first": 0.2689, REST: 0.0001}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no file of weights"),
        (b"[]\n", "no file of weights"),
        (b"\xff\n", "no file of weights"),
        (handmade().replace(b'"format": 2', b'"format": 1'), "another version"),
        (handmade().replace(b'"buckets": 65536', b'"buckets": 32768'), "another version"),
        (handmade()[:-1], "not whole"),
        (handmade() + b"\0", "not whole"),
        (handmade().replace(b"[0.0, 1.0]", b"[0.0]"), "not whole"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(content: bytes, told: str) -> None:
    """With what to do about it, and before anything is classified by it."""
    with pytest.raises(WeightsError, match=told):
        Classifier.from_bytes(content)


def test_the_shipped_file_is_small_and_names_its_classes() -> None:
    """1.8 MB, and names that an API can carry."""
    assert CLASSIFIER_FILE.stat().st_size < 2 * MEGABYTE
    assert read_classifier().digest == sha256(CLASSIFIER_FILE.read_bytes()).hexdigest()
    assert REST in read_classifier().classes
    assert all(re.fullmatch(r"[a-z_]+(\.[a-z_]+)?", name) for name in read_classifier().classes)
    assert read_classifier().classes_with_kinds == {"code", "fact_lookup"}
