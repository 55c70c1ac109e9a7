"""The recorded outcomes: what they are, and what must not be parted."""

from collections import Counter

import pytest

from bench.quality.recorded import Pool, fold_of, prompt_groups, read_chat, read_pools

PASSAGE = " ".join(f"word{number}" for number in range(80))


@pytest.fixture(scope="module")
def pools() -> list[Pool]:
    """Return the shipped ones."""
    return read_pools()


def test_a_caller_names_the_class_and_not_its_kind(pools: list[Pool]) -> None:
    """Else the measure would know more than a caller is expected to."""
    prompts = [prompt for pool in pools for prompt in pool.prompts]
    kinds = {(p.task, p.named_class) for p in prompts if p.task != p.named_class}
    assert kinds == {("code.completion", "code"), ("fact_lookup.trivia", "fact_lookup")}


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("What is law?\nA. this\nB. that\nAnswer:", "what is LAW\n(A) another", True),
        ("What is law?", "What is science?", False),
        (f"{PASSAGE} One?", f"{PASSAGE} Two?", True),
        (f"One? {PASSAGE}", f"Another, longer one? {PASSAGE}\nA. yes", True),
        (f"{PASSAGE[:300]} One?", f"{PASSAGE[:300]} Two?", False),
    ],
)
def test_prompts_that_share_a_question_or_a_passage_are_of_one_group(
    one: str, other: str, *, together: bool
) -> None:
    """However its options are, and wherever the passage stands; a shared instruction is no passage."""
    groups = prompt_groups([one, other])
    assert (groups[0] == groups[1]) is together


def test_groups_are_joined_by_what_is_between_them() -> None:
    """The first shares its opening with the second, and the second its ending with the third."""
    opening, ending = PASSAGE, PASSAGE.replace("word", "term")
    assert prompt_groups([f"{opening} One?", "else", f"{opening} {ending}", f"Two? {ending}"]) == [0, 1, 0, 0]


def test_no_group_is_parted_by_the_folds(pools: list[Pool]) -> None:
    """In all pools together; and the folds are of about the same size."""
    prompts = [prompt for pool in pools for prompt in pool.prompts]
    folds: dict[str, set[int]] = {}
    for prompt in prompts:
        folds.setdefault(prompt.group, set()).add(fold_of(prompt, 3, seed=1))
    assert {len(found) for found in folds.values()} == {1}
    sizes = [sum(fold_of(prompt, 3, seed=1) == fold for prompt in prompts) for fold in range(3)]
    assert min(sizes) > 0.3 * len(prompts)
    assert [fold_of(prompt, 3, seed=2) for prompt in prompts] != [
        fold_of(prompt, 3, seed=1) for prompt in prompts
    ]


def test_every_model_of_a_pool_has_an_outcome_for_every_prompt(pools: list[Pool]) -> None:
    """As the data's own page says: how many prompts and models."""
    shapes = {pool.name: pool.scores.shape for pool in pools}
    assert shapes == {
        "llmrouter": (3432, 9),
        "mmlu_pro": (8231, 11),
        "routellm": (10511, 2),
        "zeroeval": (1433, 18),
    }
    assert all(0 <= pool.scores.min() <= pool.scores.max() <= 1 < 1 + pool.costs.min() for pool in pools)


def test_no_prompt_that_the_chat_is_measured_on_is_trained_on() -> None:
    """They are of other collections."""
    train, kept = read_chat()
    assert Counter(example.task for example in train) == {"chat": 400, "code": 27}
    assert len(kept) == 160
    assert not {example.text for example in train} & {text for _, text in kept}
