"""The languages of mails and text messages."""

from enum import StrEnum


class Language(StrEnum):
    """A user's own, or the one in which a share is told."""

    EN = "en"
    NL = "nl"
    FR = "fr"
    DE = "de"
