"""Errors as somebody at a command line knows them: they typed options, and no fields of a request."""

import re
from collections.abc import Mapping

import click

from kernel.errors import ReadroomError

_TYPED_AS: Mapping[str, tuple[str, ...]] = {
    "ae_titles": ("ae_titles", "add_titles"),
    "ae_titles.ae_title": ("ae_titles", "add_titles"),
    "ae_titles.facility_id": ("ae_titles", "add_titles"),
    "assignee_login": ("login",),
    "case_id": ("case_id", "case_ids"),
    "case_ids": ("case_ids", "case_id"),
    "changes": ("apply",),
    "code": ("code",),
    "endpoint_facility_id": ("endpoint", "facility"),
    "expires_on": ("expires",),
    "facility_id": ("facility", "facility_name"),
    "gateway_id": ("gateway", "name"),
    "home_facility_id": ("home",),
    "hub_facility_id": ("hub",),
    "instance": ("instance",),
    "level": ("level",),
    "member_user_ids": ("members", "add"),
    "mobile_number": ("mobile",),
    "permissions": ("permissions", "give"),
    "read_type": ("read_type", "type"),
    "recipients": ("logins",),
    "settle_after": ("after",),
    "user_id": ("login", "user"),
    "valid_till": ("till",),
}
"""By the field of a request: the parameters of commands that it may come from, where their names differ."""

_TURNED_OFF = ("two_factor", "send_mail")
"""Whoever names neither way gets last time's choice, so an error names the way out: `--no-two-factor`."""

_QUOTED = re.compile(r"`([a-z_.]+)`")


def as_typed(error: ReadroomError, command: click.Command) -> str:
    """The sentence of an error with the options and arguments of `command` in the place of fields."""
    labels = _labels(command)

    def typed(found: re.Match[str]) -> str:
        field = found[1]
        # Only what names a field is replaced: other words in backticks may be what the user typed.
        if field != error.field and "_" not in field:
            return found[0]
        return f"`{labels.get(field, field)}`"

    sentence = _QUOTED.sub(typed, error.sentence)
    if not error.field or f"`{error.field}`" in error.sentence:
        return sentence
    label = labels.get(error.field)
    return f"`{label}`: {sentence}" if label and label not in sentence else sentence


def _labels(command: click.Command) -> Mapping[str, str]:
    """By field: what somebody types for it."""
    own = {each.name or "": _label(each) for each in command.params}
    found = dict(own)
    for field, names in _TYPED_AS.items():
        label = next((own[name] for name in names if name in own), None)
        if label:
            found[field] = label
    for name in _TURNED_OFF:
        if name in own:
            found[name] = "--no-" + name.replace("_", "-")
    return found


def _label(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Argument):
        return parameter.make_metavar(click.Context(click.Command("")))
    return max(parameter.opts, key=len)
