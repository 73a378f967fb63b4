"""Mobile numbers, and to which countries text messages are sent: asked of a new number, and of each text."""

from collections.abc import Collection

import phonenumbers

DEFAULT = ("AT", "BE", "CH", "CZ", "DE", "DK", "FR", "GB", "IE", "IT", "LI", "LU", "MC", "NL", "PL")
"""Where Dutch, French, German and English are spoken in Europe, and the neighbours; ISO 3166 codes."""

KNOWN = frozenset(phonenumbers.SUPPORTED_REGIONS)
"""The codes of all countries that have mobile numbers."""


_MOBILE = (
    phonenumbers.PhoneNumberType.MOBILE,
    phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE,  # all that some countries' plans say
)


def mobile_number(text: str) -> str:
    """The E.164 form of a number to which text messages can be sent; raises ValueError for any other."""
    try:
        number = phonenumbers.parse(text)
    except phonenumbers.NumberParseException as error:
        raise ValueError("no telephone number") from error
    if not phonenumbers.is_valid_number(number) or phonenumbers.number_type(number) not in _MOBILE:
        raise ValueError("no mobile number")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def serves(countries: Collection[str], mobile_number: str) -> bool:
    """Whether the country of a number in E.164 form is one of these."""
    try:
        number = phonenumbers.parse(mobile_number)
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.region_code_for_number(number) in countries
