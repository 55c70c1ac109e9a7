"""The programs of others that the bench needs."""

import shutil

from backend.stack.errors import StackError

_PACKAGES = {"wrk": "wrk", "nginx": "nginx-light"}
# Where Debian puts servers; not on everybody's PATH.
_ALSO = "/usr/sbin:/usr/local/sbin:/sbin"


def require_programs() -> None:
    """Look for all that a distribution has to bring.

    Raises:
        StackError: one is not installed.
    """
    for name in _PACKAGES:
        program(name)


def program(name: str) -> str:
    """Return a program's path.

    Raises:
        StackError: it is not installed.
    """
    found = shutil.which(name) or shutil.which(name, path=_ALSO)
    if found is None:
        packages = " ".join(_PACKAGES.values()) if name in _PACKAGES else name
        raise StackError(f"{name} is missing: install it (Debian, Ubuntu: `apt install {packages}`).")
    return found
