"""What one tenant's answer brings does not go out with another's request."""

import httpx

from backend.store.client import http_client
from tests.unit.samples import settings


async def test_no_cookie_is_kept() -> None:
    """Whoever sets it."""
    client = http_client(settings(), connections=1)
    request = httpx.Request("GET", "http://acme.test/v1")
    answer = httpx.Response(200, headers={"set-cookie": "session=tenant-1; Path=/"}, request=request)
    client.cookies.extract_cookies(answer)
    assert "cookie" not in client.build_request("GET", "http://acme.test/v1").headers
    await client.aclose()
