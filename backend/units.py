"""Money as people read it. Inside it is always integer nano-USD."""

_NANO_DIGITS = 9


def usd(nano_usd: int) -> str:
    """Return an amount in US dollars, exact, without trailing zeros: 2800 is ``0.0000028``."""
    whole, nano = divmod(abs(nano_usd), 10**_NANO_DIGITS)
    digits = f"{whole}.{nano:0{_NANO_DIGITS}d}".rstrip("0").rstrip(".")
    return f"-{digits}" if nano_usd < 0 else digits
