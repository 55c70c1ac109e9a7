"""The task classes of a text, with their probabilities: hashed words and word pairs, and one table of weights.

The same text gives the same answer on every machine: words are hashed with CRC-32, weights are integers, whose sum has no
order, and probabilities are cut to whole ten-thousandths. Only ``exp`` is the system's, and it would have to differ in the
twelfth digit of a number next to a cut. A decision is replayed from the recorded probabilities, not from the text.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self
from zlib import crc32

import numpy as np
import numpy.typing as npt

BUCKETS: Final = 65_536
# What is read of a text: its head and its tail, since an instruction is at one of the two. 3,000 characters hold 99.8 % of the
# prompts trained on; a text of single letters would still be 3,000 words, and take 2.7 ms.
HEAD_CHARACTERS: Final = 1_000
TAIL_CHARACTERS: Final = 2_000
MOST_TEXTS: Final = 100
HEAD_TOKENS: Final = 200
TAIL_TOKENS: Final = 500
# A text that has not so many known words, or not this share of them, says nothing of its class: a greeting, another language,
# noise. Of the prompts of another fold 0.3 % are under it; of fifteen in eight other languages, all are (docs/quality.md).
LEAST_KNOWN_WORDS: Final = 3
LEAST_KNOWN_SHARE: Final = 0.6
# One bit each. The known words set one in twenty of them, so that one in twenty unknown words passes for known.
WORD_BUCKETS: Final = 262_144
# What is less probable goes to the rest.
LEAST_PROBABILITY: Final = 0.02
# The class of what resembles nothing trained on.
REST: Final = "chat"
CODE: Final = "code"

_FORMAT = 1
_BITS_PER_BYTE = 8
_PARTS = 10_000
_CODE_READING = "code_reading"
_TOKEN = re.compile(r"\w+|[^\w\s]+")
# All numbers of so many digits and more are one word.
_LONGEST_NUMBER = 4


class WeightsError(ValueError):
    """A file of weights that cannot be used; the message says why."""


class Classifier:
    """A table of weights, a row a bucket and a column a class, and the set of known words.

    Attributes:
        classes: names of the classes, in the order of the columns.
        digest: SHA-256 of the file it was read from, in hexadecimal.
    """

    def __init__(self, header: Mapping[str, Any], body: bytes, digest: str) -> None:
        """Take a file apart: its header, the bytes after it, its digest."""
        self.classes = tuple(header["classes"])
        self.digest = digest
        self._units = tuple(header["units"])
        self._biases = tuple(header["biases"])
        cells = BUCKETS * len(self.classes)
        self._weights = np.frombuffer(body, dtype=np.int8, count=cells).reshape(BUCKETS, len(self.classes))
        self._known = np.unpackbits(np.frombuffer(body, dtype=np.uint8, offset=cells)).astype(np.bool_)

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read a classifier from the content of its file.

        Raises:
            WeightsError: it is not one, or not of this format.
        """
        head, _, body = content.partition(b"\n")
        try:
            header = json.loads(head)
            readable = (header["format"], header["buckets"]) == (_FORMAT, BUCKETS)
            columns = {len(header[name]) for name in ("classes", "units", "biases")}
        except (ValueError, KeyError, TypeError) as error:
            raise WeightsError("this is no file of weights: train one with `clearfloor train`") from error
        if not readable:
            raise WeightsError(
                "these weights are of another version: train them again with `clearfloor train`"
            )
        if len(columns) != 1 or len(body) != BUCKETS * columns.pop() + WORD_BUCKETS // _BITS_PER_BYTE:
            raise WeightsError("this file of weights is not whole: copy it again, or train it again")
        return cls(header, body, hashlib.sha256(content).hexdigest())

    def posterior(self, texts: Sequence[str]) -> dict[str, float]:
        """Return the probability of each class worth naming, most probable first; they sum to 1.

        What no class is likely enough to get goes to ``REST``; all of it, if the text says nothing of its class.

        Args:
            texts: those of a request's messages, in order.
        """
        found = tokens(excerpt(texts))
        words = hashes(found)
        if not self._knows(found, words):
            return {REST: 1.0}
        probabilities = self._probabilities(buckets(words))
        parts = {
            name: int(probability * _PARTS)
            for name, probability in zip(self.classes, probabilities, strict=True)
            if probability >= LEAST_PROBABILITY
        }
        parts[REST] = parts.get(REST, 0) + _PARTS - sum(parts.values())
        ordered = sorted(parts, key=lambda name: (-parts[name], name))
        return {name: parts[name] / _PARTS for name in ordered if parts[name]}

    def _knows(self, found: Sequence[str], words: npt.NDArray[np.uint32]) -> bool:
        are_words = np.array([token.isalpha() for token in found], dtype=np.bool_)
        known = self._known[words[are_words] % WORD_BUCKETS]
        return int(known.sum()) >= max(LEAST_KNOWN_WORDS, LEAST_KNOWN_SHARE * len(known))

    def _probabilities(self, found: npt.NDArray[np.int64]) -> list[float]:
        sums = self._weights[found].sum(axis=0, dtype=np.int64).tolist()
        length = math.sqrt(len(found))
        logits = [
            total * unit / length + bias
            for total, unit, bias in zip(sums, self._units, self._biases, strict=True)
        ]
        most = max(logits)
        odds = [math.exp(logit - most) for logit in logits]
        total = math.fsum(odds)
        return [part / total for part in odds]


def as_code(posterior: Mapping[str, float]) -> dict[str, float]:
    """Return the probabilities of a text that has code in it, as a rule has found: all go to the classes of code.

    ``code`` gets what the others had; ``code_reading``, which asks what code does, keeps its own.
    """
    reading = posterior.get(_CODE_READING, 0.0)
    parts = {CODE: round((1 - reading) * _PARTS), _CODE_READING: round(reading * _PARTS)}
    return {
        name: parts[name] / _PARTS for name in sorted(parts, key=lambda name: -parts[name]) if parts[name]
    }


def to_bytes(
    classes: Sequence[str],
    weights: npt.NDArray[np.float64],
    biases: Sequence[float],
    known: npt.NDArray[np.uint32],
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
        "format": _FORMAT,
        "buckets": BUCKETS,
        "classes": list(classes),
        "units": units.tolist(),
        "biases": list(biases),
        "facts": dict(facts),
    }
    bits = np.zeros(WORD_BUCKETS, dtype=np.bool_)
    bits[known % WORD_BUCKETS] = True
    whole = np.rint(weights / units).astype(np.int8)
    return b"".join([json.dumps(header).encode(), b"\n", whole.tobytes(), np.packbits(bits).tobytes()])


def excerpt(texts: Sequence[str]) -> str:
    """Return what is read of texts: all of them, or the head of the first hundred and the tail of the last."""
    if len(texts) <= MOST_TEXTS and sum(map(len, texts)) <= HEAD_CHARACTERS + TAIL_CHARACTERS:
        return "\n".join(texts)
    return f"{_head(texts[:MOST_TEXTS])}\n{_tail(texts[-MOST_TEXTS:])}"


def _head(texts: Sequence[str]) -> str:
    parts, room = [], HEAD_CHARACTERS
    for text in texts:
        parts.append(text[:room])
        room -= len(parts[-1])
        if room <= 0:
            break
    return "\n".join(parts)


def _tail(texts: Sequence[str]) -> str:
    parts, room = [], TAIL_CHARACTERS
    for text in reversed(texts):
        parts.append(text[max(len(text) - room, 0) :])
        room -= len(parts[-1])
        if room <= 0:
            break
    return "\n".join(reversed(parts))


def tokens(text: str) -> list[str]:
    """Return the words and runs of marks of a text in small letters; of numbers how long they are is kept, no more."""
    found = _TOKEN.findall(text.lower())
    if len(found) > HEAD_TOKENS + TAIL_TOKENS:
        found = found[:HEAD_TOKENS] + found[-TAIL_TOKENS:]
    return ["0" * min(len(token), _LONGEST_NUMBER) if token.isdigit() else token for token in found]


def hashes(found: Sequence[str]) -> npt.NDArray[np.uint32]:
    """Return the CRC-32 of each token. A lone surrogate is no Unicode text, but JSON can hold one."""
    return np.array([crc32(token.encode(errors="surrogatepass")) for token in found], dtype=np.uint32)


def buckets(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """Return the buckets of words and of pairs of neighbours, from their hashes, each once, in ascending order."""
    # The factors are odd and unlike, so that the order of the two counts.
    pairs = words[:-1] * np.uint32(0x9E3779B1) + words[1:] * np.uint32(0x85EBCA77)
    pairs ^= pairs >> np.uint32(15)
    return np.unique(np.concatenate([words, pairs]) % BUCKETS).astype(np.int64)
