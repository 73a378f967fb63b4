"""Domains of mail addresses in ASCII, as mail servers know them."""

import idna


def ascii_domain(domain: str) -> str:
    """The domain with A-labels in place of its international labels (IDNA 2008, mapped by UTS 46).

    What is in ASCII already stays as it is. Raises ValueError for what is no domain.
    """
    if domain.isascii():
        return domain
    return idna.encode(domain, uts46=True, std3_rules=True).decode("ascii")
