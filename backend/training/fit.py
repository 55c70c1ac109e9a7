"""Fits the classifier: multinomial logistic regression over hashed words and word pairs.

The same examples, in any order, give the same bytes with the same scikit-learn, SciPy and NumPy on the same kind of
processor; elsewhere a weight may be rounded to the neighbouring byte.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from backend.routing.classifier import BUCKETS, REST, buckets, excerpt, hashes, tokens
from backend.training.examples import Example
from backend.training.weights_file import to_bytes

# Chosen on folds by prompt group: docs/quality.md has what else was tried.
INVERSE_REGULARIZATION = 20.0
# A word is known once this many examples have it.
LEAST_EXAMPLES_OF_A_WORD = 5
_MOST_ITERATIONS = 200
_TOLERANCE = 1e-3
_FEWEST_CLASSES = 3
# One example in ten is seen a second time as people type it. Without, the benchmark whose questions are typed so stands for
# whatever is: of prompts to assistants, typed so, half were taken for `fact_lookup`, and are one in eight now.
_ONE_TYPED_IN = 10
_END_MARKS = " .?!:"


def train(examples: Iterable[Example]) -> bytes:
    """Return the file of a classifier trained on examples.

    Raises:
        ValueError: they are of fewer than three classes.
    """
    ordered = _in_order(examples)
    classes = sorted({example.task for example in ordered})
    if len(classes) < _FEWEST_CLASSES:
        raise ValueError(
            f"a classifier needs examples of {_FEWEST_CLASSES} classes; there are {len(classes)}"
        )
    found = _read(ordered)
    typed = [Example(as_typed(e.text), e.task) for e in ordered if _is_seen_typed(e)]
    seen = [*ordered, *typed]
    model = LogisticRegression(C=INVERSE_REGULARIZATION, max_iter=_MOST_ITERATIONS, tol=_TOLERANCE)
    # With more threads, sums are taken in another order, and the weights differ with the number of cores.
    with threadpool_limits(1):
        model.fit(matrix(_read(seen)), [example.task for example in seen])
    return to_bytes(classes, model.coef_.T, model.intercept_.tolist(), _known(found), facts(ordered))


def facts(examples: Sequence[Example]) -> dict[str, str]:
    """Return what a file of weights says of its training: the examples, and what was chosen."""
    return {
        "examples": str(len(examples)),
        "examples_sha256": examples_digest(examples),
        "inverse_regularization": str(INVERSE_REGULARIZATION),
        "least_examples_of_a_word": str(LEAST_EXAMPLES_OF_A_WORD),
        "one_typed_in": str(_ONE_TYPED_IN),
    }


def _read(examples: Iterable[Example]) -> list[list[str]]:
    return [tokens(excerpt([example.text])) for example in examples]


def _is_seen_typed(example: Example) -> bool:
    # All of chat, of which there is little, and which is typed.
    return example.task == REST or not hashes([example.text])[0] % _ONE_TYPED_IN


def as_typed(text: str) -> str:
    """Return a text as people type it in haste: in small letters, without a mark at its end."""
    return text.lower().rstrip(_END_MARKS)


def matrix(found: Sequence[Sequence[str]]) -> "csr_matrix[np.float64]":
    """Return the features of the tokens of texts: a row a text, of length 1, and a column a bucket."""
    rows = [sorted(buckets(hashes(tokens_of_text))) for tokens_of_text in found]
    sizes = np.array([len(row) for row in rows])
    values = np.repeat(1 / np.sqrt(np.maximum(sizes, 1)), sizes)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return csr_matrix((values, np.concatenate(rows), starts), shape=(len(rows), BUCKETS))


def _known(found: Iterable[Sequence[str]]) -> list[int]:
    counts = Counter(token for tokens_of_text in found for token in set(tokens_of_text))
    return hashes([token for token, count in counts.items() if count >= LEAST_EXAMPLES_OF_A_WORD])


def examples_digest(examples: Iterable[Example]) -> str:
    """Return the SHA-256 of examples, in hexadecimal; their order does not count."""
    digest = hashlib.sha256()
    for example in _in_order(examples):
        digest.update(f"{example.task}\0{example.text}\0".encode(errors="surrogatepass"))
    return digest.hexdigest()


def _in_order(examples: Iterable[Example]) -> list[Example]:
    return sorted(examples, key=lambda example: (example.task, example.text))
