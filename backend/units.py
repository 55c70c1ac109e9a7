"""Money as people read it. Inside it is always integer nano-USD."""

import re
from decimal import Decimal

_NANO_DIGITS = 9
# Nine digits before the point: within what a bigint of the database holds, and within what Decimal holds exactly.
_AMOUNT = re.compile(rf"-?[0-9]{{1,9}}(?:\.[0-9]{{1,{_NANO_DIGITS}}})?")


def usd(nano_usd: int) -> str:
    """Return an amount in US dollars, exact, without trailing zeros: 2800 is ``0.0000028``."""
    whole, nano = divmod(abs(nano_usd), 10**_NANO_DIGITS)
    digits = f"{whole}.{nano:0{_NANO_DIGITS}d}".rstrip("0").rstrip(".")
    return f"-{digits}" if nano_usd < 0 else digits


def nano_usd(text: str) -> int:
    """Return an amount in nano-USD, exact: ``0.0000028`` is 2800.

    Raises:
        ValueError: it is no plain decimal number, or has too many digits; the message says so.
    """
    if not _AMOUNT.fullmatch(text):
        raise ValueError(
            f"{text!r} is no amount in USD: write it like 12.50, with up to 9 digits before and after the point"
        )
    return int(Decimal(text) * 10**_NANO_DIGITS)
