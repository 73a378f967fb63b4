"""Files and folders that nobody but the gateway's own user may read: images of patients, and keys."""

from pathlib import Path

from kernel.errors import Denied

_OTHERS = 0o077


def is_private(path: Path) -> bool:
    """Whether only its owner may do anything with it."""
    return not path.stat().st_mode & _OTHERS


def make_private(path: Path) -> None:
    """Takes from others what a file or folder lets them do; raises Denied, which says who can."""
    if is_private(path):
        return
    mode = 0o700 if path.is_dir() else 0o600
    try:
        path.chmod(mode)
    except PermissionError:
        raise Denied(
            f"other users may read `{path}`, and only its owner can change that: run `chmod {mode:o} {path}`"
        ) from None
