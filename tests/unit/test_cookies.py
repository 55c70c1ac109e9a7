"""What one tenant's answer brings does not go out with another's request."""

from functools import partial

import httpx
import pytest

from backend.app import provider_client
from backend.store.client import http_client
from tests.unit.samples import settings


@pytest.mark.parametrize("make_client", [provider_client, partial(http_client, connections=1)])
async def test_no_cookie_is_kept(make_client: object) -> None:
    """Whoever sets it."""
    assert callable(make_client)
    client: httpx.AsyncClient = make_client(settings())
    request = httpx.Request("GET", "http://acme.test/v1")
    answer = httpx.Response(200, headers={"set-cookie": "session=tenant-1; Path=/"}, request=request)
    client.cookies.extract_cookies(answer)
    assert "cookie" not in client.build_request("GET", "http://acme.test/v1").headers
    await client.aclose()
