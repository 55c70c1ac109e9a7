"""The parts of a message: text, whose tokens its bytes bound, and media, whose tokens only a candidate's own limit does."""

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct

from backend.errors import InvalidRequestError

_KINDS = {"image_url": "image", "file": "file", "input_audio": "audio"}
_TEXTS = frozenset({"text", "refusal", "thinking", "reference"})
_CAPABILITIES = {"image": "vision", "file": "files", "audio": "audio"}


class _ImageUrl(Struct, frozen=True):
    url: str = ""


class _Audio(Struct, frozen=True):
    data: str = ""


class _File(Struct, frozen=True):
    file_data: str = ""


class _Part(Struct, frozen=True):
    type: str
    text: str | None = None
    image_url: _ImageUrl | str | None = None
    input_audio: _Audio | None = None
    file: _File | None = None

    def payload_bytes(self) -> int:
        """Return how many bytes of the body are media, and no text: at most what they take there."""
        if self.type == "input_audio" and self.input_audio:
            return len(self.input_audio.data)
        if self.type == "file" and self.file:
            return len(self.file.file_data)
        if self.type == "image_url" and self.image_url:
            url = self.image_url if isinstance(self.image_url, str) else self.image_url.url
            return len(url) if url.startswith("data:") else 0
        return 0


class _EarlierAudio(Struct, frozen=True):
    id: str = ""


class Message(Struct, frozen=True):
    """A message. ``audio`` refers to an earlier answer, which is read again."""

    content: str | list[_Part] | None = None
    audio: _EarlierAudio | None = None

    def texts(self) -> list[str]:
        """Return its texts."""
        if isinstance(self.content, str):
            return [self.content]
        return [part.text for part in self.parts() if part.text]

    def parts(self) -> Sequence[_Part]:
        """Return the parts of its content, if it has parts."""
        return self.content if isinstance(self.content, list) else ()


def count_media(messages: Sequence[Message]) -> Mapping[str, int]:
    """Return how many parts of each kind (``image``, ``file``, ``audio``) there are.

    Raises:
        InvalidRequestError: there is a part of which nobody knows what it may cost.
    """
    media = Counter(audio=sum(message.audio is not None for message in messages))
    for at, message in enumerate(messages):
        for place, part in enumerate(message.parts()):
            if part.type in _KINDS:
                media[_KINDS[part.type]] += 1
            elif part.type not in _TEXTS:
                raise InvalidRequestError(
                    f"What a part of the type `{part.type}` may cost is not known here, so it cannot be sent;"
                    f" there are {', '.join(sorted({*_KINDS, *_TEXTS}))}.",
                    param=f"messages.{at}.content.{place}.type",
                )
    return {kind: count for kind, count in sorted(media.items()) if count}


def payload_bytes(messages: Sequence[Message]) -> int:
    """Return how many bytes of the body are media."""
    return sum(part.payload_bytes() for message in messages for part in message.parts())


def needs_of(media: Mapping[str, int]) -> set[str]:
    """Return what a candidate must be capable of to take media."""
    return {_CAPABILITIES[kind] for kind in media}
