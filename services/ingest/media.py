"""What a client of DICOMweb accepts, and what it gets (PS3.18 8.7; RFC 9110 12.5.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

MULTIPART = "multipart/related"
DICOM = "application/dicom"
JSON = "application/dicom+json"
BYTES = "application/octet-stream"

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"

COMPRESSED: Mapping[str, str] = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.92": "image/jpx",
    "1.2.840.10008.1.2.4.93": "image/jpx",
    "1.2.840.10008.1.2.4.100": "video/mpeg",
    "1.2.840.10008.1.2.4.101": "video/mpeg",
    "1.2.840.10008.1.2.4.102": "video/mp4",
    "1.2.840.10008.1.2.4.103": "video/mp4",
    "1.2.840.10008.1.2.4.104": "video/mp4",
    "1.2.840.10008.1.2.4.105": "video/mp4",
    "1.2.840.10008.1.2.4.106": "video/mp4",
    "1.2.840.10008.1.2.4.107": "video/mp4",
    "1.2.840.10008.1.2.4.108": "video/mp4",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
}
"""Media types of compressed pixel data by transfer syntax (PS3.18 8.7.3.3)."""

MAX_ACCEPT_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class Media:
    """A media type that is offered.

    Attributes:
        transfer_syntax_uid: of what is sent; empty where there is none, as of JSON.
        default: whether who names no transfer syntax gets this one.
        single: without multipart/related around it.
    """

    type: str
    transfer_syntax_uid: str = ""
    default: bool = True
    single: bool = False

    @property
    def content_type(self) -> str:
        """Of one part."""
        if not self.transfer_syntax_uid:
            return self.type
        return f"{self.type}; transfer-syntax={self.transfer_syntax_uid}"


@dataclass(frozen=True, slots=True)
class Range:
    """One media range of an Accept header."""

    type: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    quality: float = 1.0

    def takes(self, offer: Media) -> bool:
        """Whether the offer is what it names."""
        single = self.type != MULTIPART
        inner = self.parameters.get("type", "*/*") if not single else self.type
        if self.type != "*/*" and single != offer.single:
            return False
        if inner not in ("*/*", offer.type, f"{offer.type.partition('/')[0]}/*"):
            return False
        if not offer.transfer_syntax_uid:
            return True
        wanted = self.parameters.get("transfer-syntax", "*" if self.type == "*/*" else "")
        return wanted in ("*", offer.transfer_syntax_uid) or (not wanted and offer.default)


def ranges(accept: str) -> list[Range]:
    """The media ranges of an Accept header, best first; what cannot be read is left out.

    None, or an empty one, is `*/*` (a deviation from PS3.18 8.7.5: the conformance statement tells it).
    """
    if not accept.strip():
        return [Range("*/*")]
    found = []
    for each in _split(accept[:MAX_ACCEPT_CHARACTERS], ","):
        kind, *parameters = (part.strip() for part in _split(each, ";"))
        if kind.count("/") != 1:
            continue
        values = {}
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            values[name.strip().lower()] = value.strip().strip('"')
        try:
            quality = float(values.pop("q", "1"))
        except ValueError:
            continue
        if "type" in values:
            values["type"] = values["type"].lower()
        if 0 < quality <= 1:
            found.append(Range(kind.lower(), values, quality))
    return sorted(found, key=lambda each: -each.quality)


def choose(accepted: Sequence[Range], offers: Sequence[Media]) -> Media | None:
    """The best of what is offered and accepted; None: nothing is."""
    for wanted in accepted:
        for offer in offers:
            if wanted.takes(offer):
                return offer
    return None


def of_objects(stored: str, *, alone: bool) -> Sequence[Media]:
    """What an instance is offered as: it is sent as it is stored.

    Args:
        stored: the transfer syntax.
        alone: it is the only instance that was asked for.
    """
    default = stored == EXPLICIT_LITTLE
    offers = [Media(DICOM, stored, default)]
    return [*offers, Media(DICOM, stored, default, single=True)] if alone else offers


def of_frames(stored: str, *, alone: bool) -> Sequence[Media]:
    """What frames are offered as."""
    kind = COMPRESSED.get(stored)
    if kind is None:
        offers = [Media(BYTES, EXPLICIT_LITTLE)]
    else:
        offers = [Media(kind, stored), Media(BYTES, stored, default=False)]
    if not alone:
        return offers
    return [*offers, *(replace(each, single=True) for each in offers)]


TEXTS = (Media(JSON, single=True), Media("application/json", single=True))
"""What metadata and search results are offered as."""


def _split(text: str, at: str) -> list[str]:
    """Parts that are not inside quotes."""
    parts, quoted, began = [], False, 0
    for index, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif character == at and not quoted:
            parts.append(text[began:index])
            began = index + 1
    return [*parts, text[began:]]
