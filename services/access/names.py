"""What a person may type: logins and names."""

from collections.abc import Iterable

from kernel import logins
from kernel.errors import Invalid, Unauthenticated

# One line of a list on a page.
MAX_USER_NAME_CHARACTERS = 128
MAX_FOLDER_NAME_CHARACTERS = 64


def canonical_login(login: str) -> str:
    """The one spelling of a login: without regard to case, and free of `$`, quotes and blanks (A11)."""
    canonical = logins.canonical(login)
    if canonical is None:
        raise Invalid(f"`login` must be {logins.EXPECTED}", field="login")
    return canonical


def acting_login(login: str) -> str:
    """The login of who acts; raises Unauthenticated for what can be nobody's."""
    canonical = logins.canonical(login)
    if canonical is None:
        raise no_active_user()
    return canonical


def possible_logins(texts: Iterable[str]) -> list[str]:
    """The canonical spelling of what can be somebody's login; of the rest there is nobody."""
    return [login for text in texts if (login := logins.canonical(text)) is not None]


def checked_name(name: str, max_characters: int) -> str:
    """A name without surrounding blanks that shows on one line."""
    trimmed = name.strip()
    if not 1 <= len(trimmed) <= max_characters or not trimmed.isprintable():
        raise Invalid(f"`name` must be 1 to {max_characters} printable characters", field="name")
    return trimmed


def no_active_user() -> Unauthenticated:
    """The answer for an acting user who does not exist or is deactivated."""
    return Unauthenticated("there is no active user with this login")
