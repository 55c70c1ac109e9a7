"""What the routes work with: made once by ``backend.app``, handed over with the application."""

import time
from dataclasses import dataclass, field

from fastapi import Request

from backend.api.chat_request import Judgement
from backend.api.identity import Identities
from backend.dispatch.dispatcher import Dispatcher
from backend.errors import StoreUnavailableError
from backend.routing.catalogue import Catalogue
from backend.settings import Settings
from backend.store.client import RETRY_AFTER_SECONDS, DataApi


@dataclass(slots=True)
class LiveCatalogue:
    """The catalogue as it was read last, with what was learned.

    ``current`` is None before the first time; ``problem`` is what keeps it from being read now, in words for anybody;
    ``failed_at`` is when it last could not, or was to be read for the first time, in terms of ``time.monotonic``.
    """

    current: Catalogue | None = None
    problem: str | None = "the catalogue has not been read yet"
    failed_at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the running backend. What goes on beside the requests has ``background_api``, on connections of its own."""

    settings: Settings
    data_api: DataApi
    identities: Identities
    dispatcher: Dispatcher
    background_api: DataApi
    live_catalogue: LiveCatalogue = field(default_factory=LiveCatalogue)
    judgement: Judgement = field(default_factory=Judgement)

    def catalogue(self) -> Catalogue:
        """Return the catalogue.

        Raises:
            StoreUnavailableError: it has not been read yet.
        """
        if self.live_catalogue.current is None:
            raise StoreUnavailableError(
                "The catalogue has not been read yet: the record cannot be reached. Try again shortly.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        return self.live_catalogue.current


def parts_of(request: Request) -> Parts:
    """Return the parts of the application that serves a request."""
    parts: Parts = request.app.state.parts
    return parts
