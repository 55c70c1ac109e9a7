"""No cookies: a client that serves all tenants must carry nothing from the answer of one to the request of another."""

from http.cookiejar import CookieJar, DefaultCookiePolicy


def no_cookies() -> CookieJar:
    """Return a jar that takes no cookie."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=()))
