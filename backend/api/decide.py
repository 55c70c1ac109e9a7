"""What is decided about a chat completion before anything is written or called: read, ranked, and why."""

from dataclasses import dataclass

from backend.api.chat_request import ChatRequest, Fields, read_chat_request, routing_request
from backend.api.parts import Parts
from backend.routing.catalogue import Catalogue
from backend.routing.rank import Ranking, rank
from backend.routing.request import RoutingRequest
from backend.store.callers import Caller


@dataclass(frozen=True, slots=True)
class Decided:
    """A request with what was asked of routing, and the ranking that routing made of a catalogue."""

    chat: ChatRequest
    fields: Fields
    asked: RoutingRequest
    catalogue: Catalogue
    ranking: Ranking

    @property
    def rule(self) -> str:
        """The rule by which somebody may be called."""
        return (
            "best_effort"
            if self.ranking.floor_cleared is False and self.ranking.eligible
            else self.asked.rule
        )


def decide(content: bytes, caller: Caller, parts: Parts) -> Decided:
    """Read a body and rank the catalogue for it.

    Raises:
        InvalidRequestError: a field is missing or wrong.
        ModelNotFoundError: nobody runs the model.
        StoreUnavailableError: the catalogue has not been read yet.
    """
    catalogue = parts.catalogue()
    chat, fields = read_chat_request(content)
    asked = routing_request(chat, fields, len(content), caller, catalogue, parts.judgement)
    return Decided(chat, fields, asked, catalogue, rank(asked, catalogue))
