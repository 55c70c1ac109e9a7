"""The task classes of a text, with their probabilities: hashed words, word pairs and marks of shape, and one table of weights.

The same text gives the same answer on every machine: words are hashed with CRC-32, weights are integers, whose sum has no
order, and probabilities are cut to whole ten-thousandths. Only ``exp`` is the system's, and it would have to differ in the
twelfth digit of a number next to a cut. A decision is replayed from the recorded probabilities, not from the text.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, Self
from zlib import crc32

from backend.routing.kinds import class_of

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

FORMAT: Final = 2
_BITS_PER_BYTE = 8
# A row is one integer of a lane a class: adding rows adds all their weights at once, 40 ns a row. 32 bits hold the sum of
# more rows than any text has.
_BYTES_A_LANE = 4
_LANE = 0xFFFFFFFF
# Weights are kept from 0 on, so that no lane borrows from its neighbour.
_OFFSET = 128
_SIGNED_TO_OFFSET = bytes((byte + _OFFSET) % 256 for byte in range(256))
_PARTS = 10_000
_CODE_READING = "code_reading"
_TOKEN = re.compile(r"\w+|[^\w\s]+")
_CAPITAL, _NO_CAPITAL, _END = "<A>", "<a>", "<end>"
# All numbers of so many digits and more are one word.
_LONGEST_NUMBER = 4


class WeightsError(ValueError):
    """A file of weights that cannot be used; the message says why."""


class Classifier:
    """A table of weights, a row a bucket and a column a class, and the set of known words.

    Attributes:
        classes: names of the classes, in the order of the columns.
        classes_with_kinds: those that have kinds, which texts can be asked for.
        digest: SHA-256 of the file it was read from, in hexadecimal.
    """

    def __init__(self, header: Mapping[str, Any], body: bytes, digest: str) -> None:
        """Take a file apart: its header, the bytes after it, its digest."""
        self.classes = tuple(header["classes"])
        self.digest = digest
        self._units = tuple(header["units"])
        self._biases = tuple(header["biases"])
        cells = BUCKETS * len(self.classes)
        self._rows = _rows(body[:cells], len(self.classes))
        self._known = body[cells:]
        self.classes_with_kinds = frozenset(class_of(name) for name in self.classes if class_of(name) != name)

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read a classifier from the content of its file.

        Raises:
            WeightsError: it is not one, or not of this format.
        """
        head, _, body = content.partition(b"\n")
        try:
            header = json.loads(head)
            readable = (header["format"], header["buckets"]) == (FORMAT, BUCKETS)
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
        parts = {
            name: int(probability * _PARTS)
            for name, probability in self._probabilities(buckets(words)).items()
            if probability >= LEAST_PROBABILITY
        }
        return _in_order(parts, REST)

    def _knows(self, found: Sequence[str], words: Sequence[int]) -> bool:
        are_known = [
            self._is_known(word) for token, word in zip(found, words, strict=True) if token.isalpha()
        ]
        return sum(are_known) >= max(LEAST_KNOWN_WORDS, LEAST_KNOWN_SHARE * len(are_known))

    def _is_known(self, word: int) -> int:
        place, bit = divmod(word % WORD_BUCKETS, _BITS_PER_BYTE)
        return self._known[place] >> (_BITS_PER_BYTE - 1 - bit) & 1

    def _probabilities(self, found: Collection[int]) -> dict[str, float]:
        rows = self._rows
        lanes = sum([rows[bucket] for bucket in found])
        offset = _OFFSET * len(found)
        bits = range(0, len(self.classes) * _BYTES_A_LANE * _BITS_PER_BYTE, _BYTES_A_LANE * _BITS_PER_BYTE)
        sums = [(lanes >> shift & _LANE) - offset for shift in bits]
        length = math.sqrt(len(found))
        logits = {
            name: total * unit / length + bias
            for name, total, unit, bias in zip(self.classes, sums, self._units, self._biases, strict=True)
        }
        most = max(logits.values())
        odds = {name: math.exp(logit - most) for name, logit in logits.items()}
        total = math.fsum(odds.values())
        return {name: part / total for name, part in odds.items()}


def of_class(task: str, posterior: Mapping[str, float]) -> dict[str, float]:
    """Return the probabilities of a text that is known to be of a class: its kinds keep theirs, the class has the rest."""
    return _kept(posterior, task, lambda name: class_of(name) == task)


def as_code(posterior: Mapping[str, float]) -> dict[str, float]:
    """Return the probabilities of a text that has code in it, as a rule has found.

    It is of ``code`` or one of its kinds, or of ``code_reading``, which asks what code does.
    """
    return _kept(posterior, CODE, lambda name: class_of(name) == CODE or name == _CODE_READING)


def _kept(posterior: Mapping[str, float], rest: str, is_kept: Callable[[str], bool]) -> dict[str, float]:
    parts = {name: round(p * _PARTS) for name, p in posterior.items() if is_kept(name)}
    return _in_order(parts, rest)


def _in_order(parts: dict[str, int], rest: str) -> dict[str, float]:
    """Return whole ten-thousandths as probabilities, most probable first, after ``rest`` has got what is left of 1."""
    parts[rest] = parts.get(rest, 0) + _PARTS - sum(parts.values())
    ordered = sorted(parts, key=lambda name: (-parts[name], name))
    return {name: parts[name] / _PARTS for name in ordered if parts[name]}


def _rows(weights: bytes, columns: int) -> list[int]:
    """Return a row of weights, of a signed byte each, as one integer, in lanes from the lowest."""
    wide = bytearray(len(weights) * _BYTES_A_LANE)
    wide[::_BYTES_A_LANE] = weights.translate(_SIGNED_TO_OFFSET)
    size = columns * _BYTES_A_LANE
    return [int.from_bytes(wide[at : at + size], "little") for at in range(0, len(wide), size)]


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
    """Return the words and runs of marks of a text in small letters, between marks of its shape.

    Of numbers how long they are is kept, no more. The shape is how long it is, in powers of two, how it begins and where it
    ends: it tells what people type into a search box from what they ask in a sentence. No text has a token like these marks.
    """
    found = _TOKEN.findall(text.lower())
    if len(found) > HEAD_TOKENS + TAIL_TOKENS:
        found = found[:HEAD_TOKENS] + found[-TAIL_TOKENS:]
    words = ["0" * min(len(token), _LONGEST_NUMBER) if token.isdigit() else token for token in found]
    beginning = _CAPITAL if text.lstrip()[:1].isupper() else _NO_CAPITAL
    return [f"<{len(found).bit_length()}>", beginning, *words, _END]


def hashes(found: Iterable[str]) -> list[int]:
    """Return the CRC-32 of each token. A lone surrogate is no Unicode text, but JSON can hold one."""
    return [crc32(token.encode(errors="surrogatepass")) for token in found]


def buckets(words: Sequence[int]) -> set[int]:
    """Return the buckets of words and of pairs of neighbours, from their hashes."""
    found = {word % BUCKETS for word in words}
    for first, second in pairwise(words):
        # The factors are odd and unlike, so that the order of the two counts.
        pair = (first * 0x9E3779B1 + second * 0x85EBCA77) & _LANE
        found.add((pair ^ pair >> 15) % BUCKETS)
    return found
