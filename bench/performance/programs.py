"""The programs that the bench needs and that the distribution has."""

import shutil

from backend.stack.errors import StackError

_PACKAGES = {"wrk": "wrk", "nginx": "nginx-light"}
# Where Debian puts servers; not on everybody's PATH.
_ALSO = "/usr/sbin:/usr/local/sbin:/sbin"


def program(name: str) -> str:
    """Return a program's path.

    Raises:
        StackError: it is not installed.
    """
    found = shutil.which(name) or shutil.which(name, path=_ALSO)
    if found is None:
        packages = " ".join(_PACKAGES.values())
        raise StackError(f"{name} is missing: the bench needs it (Debian, Ubuntu: `apt install {packages}`).")
    return found
