"""The file of `readroom apply`: facilities, rules, users, privileges and titles of gateways."""

import csv
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from kernel.errors import Invalid


class Thing(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What is left out of a thing stays as it is."""


class WantedFacility(Thing):
    name: str
    model: str = ""
    mapping_tag: str = ""
    time_zone: str = ""


class WantedRule(Thing):
    hub: str
    text: str
    endpoint: str


class WantedUser(Thing):
    """`permissions` are all that they will have, each `PERMISSION` or `PERMISSION@FACILITY`."""

    login: str
    name: str = ""
    role: str = ""
    home: str = ""
    email: str | None = None
    mobile: str | None = None
    language: str = ""
    active: bool | None = None
    permissions: list[str] | None = None


class WantedPrivilege(Thing):
    user: str
    facility: str
    level: str
    expires: date | None = None
    read_types: list[str] = []


class WantedGateway(Thing):
    """A gateway that is enrolled already: its AE titles, each with the facility that it is for."""

    name: str
    ae_titles: dict[str, str]


class Wanted(Thing):
    """A file: what it does not name stays as it is."""

    facilities: list[WantedFacility] = []
    rules: list[WantedRule] = []
    users: list[WantedUser] = []
    privileges: list[WantedPrivilege] = []
    gateways: list[WantedGateway] = []


_KINDS: Mapping[str, type[Thing]] = {
    "facilities": WantedFacility,
    "rules": WantedRule,
    "users": WantedUser,
    "privileges": WantedPrivilege,
}
"""What a CSV file may list; its columns tell which of them."""


def read(file: Path) -> Wanted:
    """What a file wants, in YAML, or in CSV by its name; raises Invalid with the place of a mistake."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix.lower() == ".csv":
            return _of_csv(file, text)
        return msgspec.yaml.decode(text, type=Wanted)
    except UnicodeDecodeError:
        raise Invalid(f"`{file}` is not written in UTF-8") from None
    except msgspec.ValidationError as error:
        raise Invalid(f"`{file}`: {_plain(str(error))}") from None
    except msgspec.DecodeError as error:
        raise Invalid(f"`{file}` is not YAML: {' '.join(str(error).split())}") from None


def write(wanted: Wanted) -> str:
    """A file that `read` reads."""
    return msgspec.yaml.encode(wanted).decode()


def _of_csv(file: Path, text: str) -> Wanted:
    rows = csv.DictReader(text.splitlines())
    columns = set(rows.fieldnames or ())
    for kind, thing in _KINDS.items():
        fields = {each.name: each for each in msgspec.structs.fields(thing)}
        required = {name for name, each in fields.items() if each.required}
        if required <= columns <= fields.keys():
            found = [_row(row) for row in rows]
            return msgspec.convert({kind: found}, Wanted, strict=False)
    expected = "; ".join(
        f"{kind}: {', '.join(each.name for each in msgspec.structs.fields(thing))}"
        for kind, thing in _KINDS.items()
    )
    raise Invalid(f"the first line of `{file}` must name the columns of one kind: {expected}")


def _row(row: Mapping[str, str]) -> Mapping[str, Any]:
    """A row without empty cells; a cell of several values parts them by blanks."""
    lists = {"permissions", "read_types"}
    given: dict[str, Sequence[str] | str] = {}
    for name, cell in row.items():
        if name is None or cell is None:
            raise msgspec.ValidationError("a row has more or fewer cells than there are columns")
        if cell.strip():
            given[name] = cell.split() if name in lists else cell.strip()
    return given


def _plain(error: str) -> str:
    """A message of the parser, with the place of the mistake as one writes it."""
    said, _, place = error.partition(" - at `$.")
    said = said[:1].lower() + said[1:]
    return f"`{place.rstrip('`')}`: {said}" if place else said
