"""The file of a classifier, as :class:`backend.routing.classifier.Classifier` reads it."""

import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from backend.routing.classifier import BUCKETS, FORMAT, WORD_BUCKETS


def to_bytes(
    classes: Sequence[str],
    weights: npt.NDArray[np.float64],
    biases: Sequence[float],
    known: Iterable[int],
    facts: Mapping[str, str],
) -> bytes:
    """Return the file of a classifier: a line of JSON, a byte a weight, and a bit for each bucket of words.

    Args:
        classes: names of the classes.
        weights: ``BUCKETS`` rows, a column a class; kept in whole units of the column, -127 to 127.
        biases: one a class.
        known: hashes of the known words.
        facts: whatever a reader should know of the training.
    """
    units = np.abs(weights).max(axis=0) / np.iinfo(np.int8).max
    units[units == 0] = 1.0
    header = {
        "format": FORMAT,
        "buckets": BUCKETS,
        "classes": list(classes),
        "units": units.tolist(),
        "biases": list(biases),
        "facts": dict(facts),
    }
    bits = np.zeros(WORD_BUCKETS, dtype=np.bool_)
    bits[[word % WORD_BUCKETS for word in known]] = True
    whole = np.rint(weights / units).astype(np.int8)
    return b"".join([json.dumps(header).encode(), b"\n", whole.tobytes(), np.packbits(bits).tobytes()])
