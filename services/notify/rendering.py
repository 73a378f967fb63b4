"""Templates: a message is a folder with one file for each part and language (`templates/README.md`)."""

from collections.abc import Mapping
from datetime import date
from functools import partial
from pathlib import Path

from babel.dates import format_date
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from kernel.language import Language
from services.notify.domain import Letter, Message

FOLDER = Path(__file__).with_name("templates")

# Dates as they are written in Europe.
_LOCALES = {Language.EN: "en_GB"}


class Templates:
    """Renders mails and text messages.

    Args:
        link_base: what stands before the 43 characters of a link.
    """

    def __init__(self, link_base: str) -> None:
        self._link_base = link_base
        # HTML escapes whatever it is given; a name that a template does not know is an error, not a blank.
        self._environment = Environment(
            loader=FileSystemLoader(FOLDER),
            autoescape=select_autoescape(["html"], default=False),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=False,
        )

    def letter(
        self, message: Message, language: Language, to: str, reference: str, values: Mapping[str, object]
    ) -> Letter:
        """A mail; `values` is all that it tells."""
        told = {**values, "day": partial(_day, language), "link_base": self._link_base, "language": language}
        return Letter(
            to=to,
            subject=self._part(f"{message}/subject.{language}.txt", told),
            text=self._part(f"{message}/body.{language}.txt", told) + "\n",
            html=self._part(f"{message}/body.{language}.html", told) + "\n",
            reference=reference,
            language=language,
            urgent=bool(values["urgent"]),
        )

    def code(self, language: Language, code: str) -> str:
        """The text message with a one-time code, which holds nothing else (A52)."""
        return self._part(f"one_time_code/text.{language}.txt", {"code": code})

    def _part(self, name: str, values: Mapping[str, object]) -> str:
        return self._environment.get_template(name).render(values).strip()


def _day(language: Language, day: date) -> str:
    return format_date(day, format="long", locale=_LOCALES.get(language, language.value))
