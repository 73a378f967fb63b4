"""The one table from the words of `kernel.errors` to what a person is told."""

from dataclasses import dataclass

from kernel.errors import (
    Conflict,
    Denied,
    Exhausted,
    Expired,
    Invalid,
    NotFound,
    ReadroomError,
    Unauthenticated,
    Unavailable,
    code_of,
)


@dataclass(frozen=True, slots=True)
class Told:
    """What a page says of an error.

    Attributes:
        advice: what to do next.
        says_why: whether the sentence of the error is shown.
    """

    status: int
    title: str
    advice: str
    says_why: bool = True


TOLD: dict[type[ReadroomError], Told] = {
    Invalid: Told(422, "This was not understood", "Go back, change what you entered, and try again."),
    NotFound: Told(
        404,
        "There is nothing here",
        "It does not exist, it was deleted, or you may not see it.",
        says_why=False,
    ),
    Denied: Told(403, "You may not do this", "Ask an administrator if you need to."),
    Unauthenticated: Told(401, "Sign in", "You are not signed in any more.", says_why=False),
    Conflict: Told(409, "It is not possible now", "Go back, load the page again, and look at what changed."),
    Expired: Told(409, "Its time has ended", "Go back, and load the page again."),
    Exhausted: Told(429, "Too much at once", "Wait for a minute, then try again."),
    Unavailable: Told(
        503, "A part of Readroom does not answer", "Nothing is lost. Wait for a moment, then try again."
    ),
}

UNEXPECTED = Told(
    500, "Something went wrong", "Try again. If it happens again, tell your administrator when it happened."
)

RETRY_AFTER_S = {429: 60, 503: 5}
"""By status: when a program may ask again."""


def told(error: ReadroomError) -> Told:
    return code_of(error, TOLD)


def sentence(error: ReadroomError) -> str:
    """Why an act was refused, for the page that comes back."""
    said = told(error)
    return error.sentence if said.says_why else said.title.lower()
