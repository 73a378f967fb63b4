"""To which countries text messages are sent: asked by who registers a number, and by who sends a text."""

from collections.abc import Collection

import phonenumbers

DEFAULT = ("AT", "BE", "CH", "CZ", "DE", "DK", "FR", "GB", "IE", "IT", "LI", "LU", "MC", "NL", "PL")
"""Where Dutch, French, German and English are spoken in Europe, and the neighbours; ISO 3166 codes."""

KNOWN = frozenset(phonenumbers.SUPPORTED_REGIONS)
"""The codes of all countries that have mobile numbers."""


def serves(countries: Collection[str], mobile_number: str) -> bool:
    """Whether the country of a number in E.164 form is one of these."""
    try:
        number = phonenumbers.parse(mobile_number)
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.region_code_for_number(number) in countries
