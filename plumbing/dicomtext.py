"""The text of elements, by Specific Character Set as devices write it (PS3.3 C.12.1.1.2, PS3.5 6.1).

Names of character sets are compared without case and separators. Where none is declared, or none that
exists, and the bytes are valid UTF-8, they are UTF-8. Dates of before 1993 become dates (PS3.5 6.2, VR DA).
Text is in the normal form C of Unicode, so that equal text is equal.
"""

import re
import unicodedata
from dataclasses import dataclass

from pydicom.charset import convert_encodings, decode_bytes, python_encoding
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

from kernel.dicom import VALUES_PARTED_BY

# PS3.5 6.1.2.3: Specific Character Set applies to these.
_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})

_SEPARATORS = re.compile(r"[\s_.-]+")
_UTF_8 = "ISO_IR 192"
_ASCII = "ISO_IR 6"
# GB 2312 in G1 (PS3.5 K.2): pydicom 3.0.2 leaves the escape sequence in the text.
_GB_2312, _GB_2312_CODEC = b"\x1b$)A", "gb18030"
_FRAGMENTS = re.compile(rb"\x1b[^\x1b]*|[^\x1b]+")
_ACR_NEMA_DATE = re.compile(r"(\d{4})\.(\d{2})\.(\d{2})", re.ASCII)


def _folded(term: str) -> str:
    return _SEPARATORS.sub("", term.upper())


_TERMS = {_folded(term): term for term in python_encoding if term} | {"UTF8": _UTF_8, "ISO2022IR192": _UTF_8}
"""The defined terms, and what folding does not cover. Any other name could be a codec of Python's."""


@dataclass(frozen=True, slots=True)
class CharacterSet:
    """How text is decoded.

    Attributes:
        encodings: Python's names; the first is for what no escape sequence changes.
        is_declared: whether the data set says what bytes above 127 are.
    """

    encodings: tuple[str, ...]
    is_declared: bool

    @classmethod
    def of(cls, declared: bytes) -> "CharacterSet":
        """The character set that a raw value of (0008,0005) declares; empty if there is none."""
        terms = [
            _TERMS.get(_folded(term.strip(" \0"))) for term in declared.decode("ascii", "replace").split("\\")
        ]
        return cls(
            encodings=tuple(convert_encodings([term or "" for term in terms])),
            is_declared=terms[0] not in (None, _ASCII, "ISO 2022 IR 6"),
        )

    def decode(self, raw: bytes, vr: str) -> str:
        """The values of an element, parted by backslashes: printable, without padding."""
        decoded = self.text(raw, vr)
        normal = unicodedata.normalize("NFC", decoded)
        printable = "".join(c if c.isprintable() else " " for c in normal)
        padding = " ^" if vr == "PN" else " "
        parts = [part.strip(" ").rstrip(padding) for part in printable.split(VALUES_PARTED_BY)]
        if vr == "DA":
            parts = [_ACR_NEMA_DATE.sub(r"\1\2\3", part) for part in parts]
        return VALUES_PARTED_BY.join(parts)

    def text(self, raw: bytes, vr: str) -> str:
        """All characters of an element as they stand, padding too."""
        if vr not in _TEXT_VRS:
            return raw.decode("ascii", "replace")
        if not self.is_declared and b"\x1b" not in raw:
            try:
                return raw.decode("utf-8")
            except UnicodeDecodeError:
                pass
        delimiters = PN_DELIMS if vr == "PN" else TEXT_VR_DELIMS
        if _GB_2312 not in raw:
            return decode_bytes(raw, self.encodings, delimiters)
        return "".join(
            fragment.removeprefix(_GB_2312).decode(_GB_2312_CODEC, "replace")
            if fragment.startswith(_GB_2312)
            else decode_bytes(fragment, self.encodings, delimiters)
            for fragment in _FRAGMENTS.findall(raw)
        )
