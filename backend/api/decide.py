"""What is decided about a chat completion before anything is written or called: read, ranked, and why."""

from dataclasses import dataclass

from backend.api.chat_request import ChatRequest, Fields, Judgement, read_chat_request, routing_request
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
        if self.ranking.explores:
            return "exploration"
        if self.ranking.floor_cleared is False and self.ranking.eligible:
            return "best_effort"
        return self.asked.rule


def decide(content: bytes, caller: Caller, catalogue: Catalogue, judgement: Judgement) -> Decided:
    """Read a body and rank the catalogue for it.

    Raises:
        InvalidRequestError: a field is missing or wrong.
        ModelNotFoundError: nobody runs the model.
    """
    chat, fields = read_chat_request(content)
    asked = routing_request(chat, fields, len(content), caller, catalogue, judgement)
    return Decided(chat, fields, asked, catalogue, rank(asked, catalogue))
