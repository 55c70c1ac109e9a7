"""What all routes of members share: who acts, what is asked for, and having it done."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from msgspec import Meta

from backend.api.body import decode_body, read_body
from backend.api.parts import Parts, parts_of
from backend.api.tokens import User
from backend.store.management import manage

T = TypeVar("T")

# As the database has it, 1 to 200 characters; not only blanks, and nothing that cannot be seen or turns the text around.
_UNSEEN = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=rf"^(?=.*\S)[^{_UNSEEN}]*$")]


@dataclass(frozen=True, slots=True)
class ActingMember:
    """The user that acts, with the parts that its request is served by."""

    user: User
    parts: Parts

    async def do(self, function: str, **parameters: Any) -> Any:  # noqa: ANN401 # JSON
        """Call a function of the database as this member; see :func:`backend.store.management.manage`."""
        return await manage(
            self.parts.data_api,
            function,
            acting_user_id=self.user.id,
            organization_id=self.user.organization_id,
            retry_seconds=self.parts.settings.store_retry_seconds,
            **parameters,
        )

    async def asked(self, request: Request, decode: Callable[[bytes], T]) -> T:
        """Return what the request's body asks for."""
        return decode_body(decode, await read_body(request, self.parts.settings.max_request_bytes))


async def _acting_member(request: Request) -> ActingMember:
    parts = parts_of(request)
    return ActingMember(await parts.identities.identify_member(request), parts)


# Known before anything else of the request is looked at.
Acting = Annotated[ActingMember, Depends(_acting_member)]
