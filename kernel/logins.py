"""What a person is called when they log in, in one spelling, as identity providers call people."""

import re

MAX_CHARACTERS = 128
EXPECTED = f"1 to {MAX_CHARACTERS} of letters, digits and `._@+#~!-`"
"""Enough for an address with a tag, `jane+rad@clinic.example`, and for the names of guests of a directory."""

# No `$`, quotes, blanks or slashes (A11): a login stands in filters, lists and audit rows as it is.
_LOGIN = re.compile(rf"[a-z0-9._@+#~!-]{{1,{MAX_CHARACTERS}}}", re.ASCII)


def canonical(text: str) -> str | None:
    """The one spelling of a login, which is in lower case; None for what cannot be a login."""
    folded = text.lower()
    return folded if _LOGIN.fullmatch(folded) else None
