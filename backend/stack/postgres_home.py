"""Where Postgres lives: a copy of its binaries, and the data, both within reach of the user it runs as.

Postgres refuses to run as root. Started by root it runs as an unprivileged user, which may be unable to enter
the folder of the project (a clone under /root). The home is then kept under /var/lib/clearfloor, behind a
symlink.
"""

import hashlib
import json
import os
import pwd
import shutil
import tarfile
import tempfile
from pathlib import Path

from backend.stack import parts
from backend.stack.errors import StackError
from backend.stack.processes import Identity, clean_environment, run

# `initdb` looks its user up by name, so a bare number will not do.
_UNPRIVILEGED_USERS = ("postgres", "nobody", "daemon")
_OUT_OF_REACH_HOME = Path("/var/lib/clearfloor")
_REACH_TIMEOUT_SECONDS = 10.0
_NOT_NEEDED = shutil.ignore_patterns("*.a", "pkgconfig")


def unprivileged_identity() -> Identity | None:
    """Return the user to run Postgres as, or None for the present one.

    Raises:
        StackError: this is root and no unprivileged user exists.
    """
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Identity(entry.pw_uid, entry.pw_gid)
    names = ", ".join(_UNPRIVILEGED_USERS)
    raise StackError(
        f"Postgres refuses to run as root and none of the users {names} exists: create one of them."
    )


def reachable_folder(wanted: Path, identity: Identity | None) -> Path:
    """Make a folder and return its real path, which ``identity`` can enter and write to.

    Where it cannot enter ``wanted``, that becomes a symlink to a folder under /var/lib/clearfloor. Who has
    removed the symlink wants to start anew: what it led to is removed, too.
    """
    if wanted.is_symlink() and not wanted.exists():
        wanted.unlink()
    wanted.mkdir(parents=True, exist_ok=True)
    if identity is None:
        return wanted.resolve()
    if not wanted.is_symlink() and not _can_enter(wanted, identity):
        digest = hashlib.sha256(str(wanted.absolute()).encode()).hexdigest()[:16]
        real = _OUT_OF_REACH_HOME / digest
        shutil.rmtree(real, ignore_errors=True)
        real.mkdir(parents=True)
        for folder in (_OUT_OF_REACH_HOME, real):
            folder.chmod(0o755)  # whatever the umask
        wanted.rmdir()
        wanted.symlink_to(real)
    return wanted.resolve()


def remove_folder(wanted: Path) -> None:
    """Remove a folder made by :func:`reachable_folder`, wherever it really is."""
    if wanted.is_symlink():
        shutil.rmtree(wanted.resolve(), ignore_errors=True)
        wanted.unlink()
    elif wanted.exists():
        shutil.rmtree(wanted)


def install_binaries(home: Path, identity: Identity | None) -> Path:
    """Copy Postgres and pgTAP below ``home`` and return the folder with ``bin``, ``lib`` and ``share``.

    npm's own copy is never changed. The folder's name holds a digest of the parts' versions: another version
    gets another folder, and of two installations at once the first one to finish stays.
    """
    package, archive = parts.postgres_package(), parts.pgtap_archive()
    root = reachable_folder(home / "postgres", identity)
    installed = root / f"install-{_digest(package, archive)}"
    if installed.is_dir():
        return installed
    scratch = Path(tempfile.mkdtemp(prefix="installing-", dir=root))
    try:
        shutil.copytree(package, scratch, symlinks=True, ignore=_NOT_NEEDED, dirs_exist_ok=True)
        _link_libraries(scratch)
        _install_pgtap(archive, scratch / "share" / "postgresql" / "extension")
        _open_to_all(scratch)
        scratch.rename(installed)
    except OSError:
        if not installed.is_dir():
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return installed


def _can_enter(folder: Path, identity: Identity) -> bool:
    command = ["/bin/sh", "-c", 'cd "$1"', "sh", str(folder.absolute())]
    environment = clean_environment()
    timeout = _REACH_TIMEOUT_SECONDS
    return run(command, environment=environment, identity=identity, timeout_seconds=timeout).returncode == 0


def _digest(package: Path, archive: Path) -> str:
    versions = [
        (package.parent / "package.json").read_bytes(),
        (archive.parents[1] / "package.json").read_bytes(),
    ]
    return hashlib.sha256(b"".join(versions)).hexdigest()[:12]


def _link_libraries(root: Path) -> None:
    """Make the symlinks that npm cannot carry; the package lists them as ``native/lib/…``."""
    for link in json.loads((root / "pg-symlinks.json").read_text()):
        target = root / Path(link["target"]).relative_to("native")
        if not target.exists():
            target.symlink_to(Path(link["source"]).name)


def _install_pgtap(archive: Path, extensions: Path) -> None:
    with tarfile.open(archive) as files:
        for member in files.getmembers():
            name = Path(member.name).name
            content = files.extractfile(member) if "extension" in Path(member.name).parts else None
            if content is not None and (name == "pgtap.control" or name.startswith("pgtap--")):
                (extensions / name).write_bytes(content.read())


def _open_to_all(root: Path) -> None:
    """Let the unprivileged user read and run the copy, whatever the umask of the installing user."""
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
