"""The messages of an association: command, data set, answer (PS3.7 6.3, 9.1.1, 9.1.5; PS3.8 E).

A fragment of a data set goes to the sink as the view it came in.
"""

from collections.abc import Callable

from kernel.dicom import parse_uid
from kernel.errors import Invalid
from plumbing import log
from plumbing.dimse import commands
from plumbing.dimse.commands import Command, MalformedCommand, read_command, write_response
from plumbing.dimse.handler import (
    Aborted,
    AssociationHandler,
    InstanceSink,
    Limits,
    Refused,
    RefusedInstance,
    StoreCommand,
)
from plumbing.dimse.items import shown
from plumbing.dimse.negotiation import VERIFICATION, Context
from plumbing.dimse.pdus import (
    COMMAND,
    INVALID_PARAMETER,
    LAST,
    P_DATA,
    PDU_HEADER,
    PDV_HEADER,
    UNEXPECTED_PARAMETER,
    Violation,
)

_log = log.get()

_SHOWN = 64  # characters of a UID (PS3.5 9.1)
_MAX_COMMAND_BYTES = 64 * 1024  # a C-STORE request takes about 200 (SEC-5)
# A fragment costs us the same whatever it carries. Of a message 4,096 may be tiny, the others have 512 bytes
# on average; senders fill theirs, and 4 KiB is the shortest PDU that DCMTK can be told to use.
_FRAGMENT_BYTES = 512
_ROOM = 4096 * _FRAGMENT_BYTES


class Messages:
    """Puts the messages of an association together from their fragments and answers them (PS3.7 6.3)."""

    def __init__(
        self,
        handler: AssociationHandler,
        contexts: dict[int, Context],
        limits: Limits,
        send: Callable[[bytes], None],
        still_open: Callable[[], None],
    ) -> None:
        """`still_open` raises Aborted once the association is being aborted."""
        self._handler = handler
        self._contexts = contexts
        self._limits = limits
        self._send = send
        self._still_open = still_open
        self._command = bytearray()
        self._operation: _Operation | None = None  # whose data set is coming
        self._context_id = 0  # of the message under way
        self._room = _ROOM  # for its fragments, in bytes
        self._answering = False

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._command) or self._operation is not None

    @property
    def under_way(self) -> bool:
        """Whether a message has begun and has not been answered."""
        return self.unfinished or self._answering

    def drop(self) -> None:
        """No more bytes will come."""
        operation, self._operation = self._operation, None
        if operation is not None:
            operation.drop()
            self._tell(operation, "cut off", "the association ended before the data set did")

    def _tell(self, operation: "_Operation", cause: str, reason: str) -> None:
        command = operation.command
        if command.command_field != commands.C_STORE_RQ:
            return
        uids = (shown(uid)[:_SHOWN] for uid in (command.sop_class_uid, command.sop_instance_uid))
        try:
            self._handler.refused(RefusedInstance(cause, reason, *uids))
        except Exception:
            _log.exception("a refused instance could not be told")

    def p_data(self, body: memoryview) -> None:
        """Takes the presentation data values of one P-DATA-TF."""
        at, end = 0, len(body)
        while at < end:
            self._still_open()
            if end - at < PDV_HEADER.size:
                raise Violation(INVALID_PARAMETER)
            length, context_id, control = PDV_HEADER.unpack_from(body, at)
            stop = at + 4 + length
            if length < 2 or stop > end:
                raise Violation(INVALID_PARAMETER)
            if context_id not in self._contexts or (self.unfinished and context_id != self._context_id):
                raise Violation(INVALID_PARAMETER)
            self._room = min(_ROOM, self._room + length - _FRAGMENT_BYTES)
            if self._room < 0:
                raise Violation(INVALID_PARAMETER)
            self._context_id = context_id
            fragment = body[at + PDV_HEADER.size : stop]
            if control & COMMAND:
                self._command_fragment(fragment, last=bool(control & LAST))
            else:
                self._data_set_fragment(fragment, last=bool(control & LAST))
            at = stop

    def _command_fragment(self, fragment: memoryview, *, last: bool) -> None:
        if self._operation is not None:
            raise Violation(UNEXPECTED_PARAMETER)
        if len(self._command) + len(fragment) > _MAX_COMMAND_BYTES:
            raise Violation(INVALID_PARAMETER)
        self._command += fragment
        if not last:
            return
        try:
            command = read_command(self._command)
        except MalformedCommand:
            raise Violation(INVALID_PARAMETER) from None
        self._command.clear()
        if command.command_field & commands.RESPONSE:
            raise Violation(UNEXPECTED_PARAMETER)
        operation = self._begin(command)
        if command.has_data_set:
            self._operation = operation
        else:
            self._answer(operation)

    def _data_set_fragment(self, fragment: memoryview, *, last: bool) -> None:
        operation = self._operation
        if operation is None:
            raise Violation(UNEXPECTED_PARAMETER)
        operation.write(fragment)
        if last:
            self._answer(operation)

    def _begin(self, command: Command) -> "_Operation":
        """What the command starts: a table of what is not served, then C-ECHO, then C-STORE."""
        context = self._contexts[self._context_id]
        served = {
            commands.C_STORE_RQ: command.has_data_set,
            commands.C_ECHO_RQ: not command.has_data_set,
            commands.C_CANCEL_RQ: True,
        }
        if command.command_field not in served:
            return _Operation(command, refusal=(commands.UNRECOGNIZED_OPERATION, ""))
        if not served[command.command_field]:
            return _Operation(command, refusal=(commands.MISTYPED_ARGUMENT, "data set missing or too many"))
        if command.command_field == commands.C_CANCEL_RQ:
            return _Operation(command)
        echo = command.command_field == commands.C_ECHO_RQ
        if (
            not context.accepted
            or command.sop_class_uid != context.abstract_syntax_uid
            or echo != (command.sop_class_uid == VERIFICATION)
        ):
            return _Operation(
                command, refusal=(commands.SOP_CLASS_NOT_SUPPORTED, "SOP class does not match its context")
            )
        if echo:
            return _Operation(command, refusal=(commands.SUCCESS, ""))
        return self._begin_store(command, context)

    def _begin_store(self, command: Command, context: Context) -> "_Operation":
        try:
            parse_uid(command.sop_instance_uid, "Affected SOP Instance UID")
            store = StoreCommand(
                sop_class_uid=command.sop_class_uid,
                sop_instance_uid=command.sop_instance_uid,
                transfer_syntax_uid=context.transfer_syntax_uid,
                message_id=command.message_id,
            )
            sink = self._handler.store(store)
        except Invalid as error:
            return _Operation(command, refusal=(commands.INVALID_OBJECT_INSTANCE, error.sentence))
        except Aborted:
            raise
        except Exception as error:
            return _Operation(command, refusal=_refusal(error))
        return _Operation(command, sink=sink, room=self._limits.max_data_set_bytes)

    def _answer(self, operation: "_Operation") -> None:
        self._answering = True
        self._operation = None
        self._room = _ROOM
        status, comment = operation.finish()
        self._still_open()
        if operation.command.command_field == commands.C_CANCEL_RQ:
            self._answering = False
            return
        if status != commands.SUCCESS:
            self._tell(operation, f"{status:04X}", comment)
        response = write_response(operation.command, status, comment)
        pdv = PDV_HEADER.pack(len(response) + 2, self._context_id, COMMAND | LAST) + response
        self._send(PDU_HEADER.pack(P_DATA, len(pdv)) + pdv)
        self._answering = False


class _Operation:
    """One request: a sink that takes its data set, or the answer it will get whatever comes."""

    def __init__(
        self,
        command: Command,
        *,
        sink: InstanceSink | None = None,
        room: int = 0,
        refusal: tuple[int, str] = (commands.SUCCESS, ""),
    ) -> None:
        self.command = command
        self._sink = sink
        self._room = room
        self._refusal = refusal

    def write(self, fragment: memoryview) -> None:
        if self._sink is None:
            return
        self._room -= len(fragment)
        try:
            if self._room < 0:
                raise Refused(commands.CANNOT_UNDERSTAND, "the data set is longer than accepted here")
            self._sink.write(fragment)
        except Aborted:
            raise
        except Exception as error:
            self._refusal = _refusal(error)
            self.drop()

    def finish(self) -> tuple[int, str]:
        sink, self._sink = self._sink, None
        if sink is None:
            return self._refusal
        try:
            return sink.finish()
        except Aborted:
            raise
        except Exception as error:
            return _refusal(error)

    def drop(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            try:
                sink.discard()
            except Exception:
                _log.exception("an incomplete instance could not be dropped")


def _refusal(error: Exception) -> tuple[int, str]:
    """What a failed handler answers; never success."""
    if isinstance(error, Refused) and error.status != commands.SUCCESS:
        return error.status, error.comment
    _log.error("an instance could not be handled", exc_info=error)
    return commands.PROCESSING_FAILURE, "processing failure"
