"""Command sets (PS3.7 6.3.1): always implicit VR little endian, always group 0000."""

from dataclasses import dataclass
from struct import Struct

C_STORE_RQ = 0x0001
C_ECHO_RQ = 0x0030
C_CANCEL_RQ = 0x0FFF
RESPONSE = 0x8000
"""The bit that makes a Command Field a response's (PS3.7 E.1)."""

# Statuses of PS3.7 C and, for storage, PS3.4 B.2.3.
SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
INVALID_OBJECT_INSTANCE = 0x0117
SOP_CLASS_NOT_SUPPORTED = 0x0122
UNRECOGNIZED_OPERATION = 0x0211
MISTYPED_ARGUMENT = 0x0212
CANNOT_UNDERSTAND = 0xC000

_GROUP_LENGTH = 0x0000
_AFFECTED_SOP_CLASS_UID = 0x0002
_COMMAND_FIELD = 0x0100
_MESSAGE_ID = 0x0110
_MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
_PRIORITY = 0x0700
_COMMAND_DATA_SET_TYPE = 0x0800
_STATUS = 0x0900
_ERROR_COMMENT = 0x0902
_AFFECTED_SOP_INSTANCE_UID = 0x1000

_DATA_SET, _NO_DATA_SET = 0x0001, 0x0101
_MAX_COMMENT_CHARACTERS = 64  # VR LO (PS3.7 C.1)

_HEADER = Struct("<HHL")
_US = Struct("<H")
_UL = Struct("<L")


class MalformedCommand(Exception):
    """It is no command set, or lacks what every command has."""


@dataclass(frozen=True, slots=True)
class Command:
    """A request. The UIDs are as they came, without padding; not yet checked."""

    command_field: int
    message_id: int
    has_data_set: bool
    sop_class_uid: str
    sop_instance_uid: str


def read_command(data: bytes | bytearray) -> Command:
    """The request in a whole command set; raises MalformedCommand."""
    values = _elements(data)
    return Command(
        command_field=_number(values, _COMMAND_FIELD),
        # C-CANCEL has no id of its own, only the one it is about (PS3.7 9.3.2.3).
        message_id=_number(values, _MESSAGE_ID if _MESSAGE_ID in values else _MESSAGE_ID_BEING_RESPONDED_TO),
        has_data_set=_number(values, _COMMAND_DATA_SET_TYPE) != _NO_DATA_SET,
        sop_class_uid=_uid(values, _AFFECTED_SOP_CLASS_UID),
        sop_instance_uid=_uid(values, _AFFECTED_SOP_INSTANCE_UID),
    )


def write_response(command: Command, status: int, comment: str = "") -> bytes:
    """The response to `command`, a whole command set. Echoes the UIDs only where they could be UIDs."""
    return _write(
        {
            _AFFECTED_SOP_CLASS_UID: _text(command.sop_class_uid),
            _COMMAND_FIELD: _US.pack(command.command_field | RESPONSE),
            _MESSAGE_ID_BEING_RESPONDED_TO: _US.pack(command.message_id),
            _COMMAND_DATA_SET_TYPE: _US.pack(_NO_DATA_SET),
            _STATUS: _US.pack(status),
            _ERROR_COMMENT: _text(comment, padding=b" "),
            _AFFECTED_SOP_INSTANCE_UID: _text(command.sop_instance_uid),
        }
    )


def write_store(message_id: int, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """A C-STORE request, a whole command set."""
    return _write(
        {
            _AFFECTED_SOP_CLASS_UID: _text(sop_class_uid),
            _COMMAND_FIELD: _US.pack(C_STORE_RQ),
            _MESSAGE_ID: _US.pack(message_id),
            _PRIORITY: _US.pack(0),
            _COMMAND_DATA_SET_TYPE: _US.pack(_DATA_SET),
            _AFFECTED_SOP_INSTANCE_UID: _text(sop_instance_uid),
        }
    )


def read_response(data: bytes | bytearray) -> tuple[int, int, str]:
    """Message id, status and comment of a whole response; raises MalformedCommand."""
    values = _elements(data)
    if not _number(values, _COMMAND_FIELD) & RESPONSE:
        raise MalformedCommand
    comment = values.get(_ERROR_COMMENT, b"").decode("latin-1").strip("\0 ")
    return _number(values, _MESSAGE_ID_BEING_RESPONDED_TO), _number(values, _STATUS), comment


def _write(values: dict[int, bytes]) -> bytes:
    body = b"".join(
        _HEADER.pack(0, element, len(value)) + value for element, value in values.items() if value
    )
    return _HEADER.pack(0, _GROUP_LENGTH, 4) + _UL.pack(len(body)) + body


def _elements(data: bytes | bytearray) -> dict[int, bytes]:
    values: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if len(data) - at < _HEADER.size:
            raise MalformedCommand
        group, element, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        if group != 0x0000 or length > len(data) - at:
            raise MalformedCommand
        values[element] = bytes(data[at : at + length])
        at += length
    return values


def _number(values: dict[int, bytes], element: int) -> int:
    value = values.get(element, b"")
    if len(value) != 2:
        raise MalformedCommand
    number: int = _US.unpack(value)[0]
    return number


def _uid(values: dict[int, bytes], element: int) -> str:
    return values.get(element, b"").rstrip(b"\0 ").decode("latin-1")


def _text(text: str, padding: bytes = b"\0") -> bytes:
    value = text.encode("ascii", "replace")[:_MAX_COMMENT_CHARACTERS]
    return value + padding * (len(value) % 2)
