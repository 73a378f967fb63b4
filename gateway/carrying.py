"""An association to Central server, and the transfers that it carries, a few at a time."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType

from gateway.central import Central
from gateway.folder import Folder
from gateway.queue import DELETED, End, Item, Outcome, Transfer, outcome
from gateway.store import Store
from kernel.clock import Clock
from kernel.errors import Exhausted, ReadroomError, Unavailable
from kernel.ids import TransferId
from plumbing import log
from plumbing.dimse.requestor import MAX_CONTEXTS, Requestor

AT_ONCE = 16
"""Transfers that have something to send. Central server keeps as many packs of an association open."""
MOST = 100
"""Transfers in all: those that wait for further instances are told at their end in one call."""
ITEMS_AT_ONCE = 50
"""Of a transfer, before the others have their turn."""
TAKES_FOR_S = 60.0
"""Then nothing more is taken, and the association ends: what Central server does at its end is never far."""

_NOT_ACCEPTED = 0x0122  # PS3.7 C.5.6: SOP class not supported

_log = log.get()


class Carriage:
    """Carries transfers of one title to their ends; as a context it ends the association.

    Args:
        opened: holds the association while it is open, for whoever has to abort it.
        interrupted: told of each transfer that has to wait, and why.
    """

    def __init__(
        self,
        store: Store,
        folder: Folder,
        central: Central,
        opened: set[Requestor],
        *,
        quiet_s: float,
        clock: Clock,
        interrupted: Callable[[Transfer, str], None],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._store = store
        self._folder = folder
        self._central = central
        self._opened = opened
        self._quiet_s = quiet_s
        self._clock = clock
        self._interrupted = interrupted
        self._is_stopping = is_stopping
        self._carried: dict[TransferId, Transfer] = {}
        self._quiet_at: dict[TransferId, float] = {}
        self._sending = 0
        self._takes_until = time.monotonic() + TAKES_FOR_S
        self._carries_many = False
        self._association: Requestor | None = None
        self._proposed: list[tuple[str, str]] = []

    def __enter__(self) -> "Carriage":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._carried:
            self._leave(error or Unavailable("the gateway stops"))
        self._release()

    @property
    def is_loaded(self) -> bool:
        """Whether it carries anything."""
        return bool(self._carried)

    @property
    def room(self) -> int:
        """How many further transfers it takes now."""
        if not self._carries_many or time.monotonic() > self._takes_until:
            return 0
        return max(0, min(AT_ONCE - self._sending, MOST - len(self._carried)))

    @property
    def quiet_in_s(self) -> float:
        """How long until a transfer is due to end, if nothing comes; 0 once all have ended."""
        now = time.monotonic()
        return max(0.0, min(self._quiet_at.values(), default=now) - now)

    def take(self, transfers: Sequence[Transfer]) -> None:
        """Announces transfers and carries them; what cannot be announced is interrupted."""
        if not transfers:
            return
        now = self._clock.now()
        try:
            self._carries_many = self._central.announce([(each, each.age(now)) for each in transfers])
        except Exception as error:
            if len(transfers) == 1 or isinstance(error, Unavailable | Exhausted):
                for each in transfers:
                    self._interrupt(each, error)
            else:  # one of them is at fault
                for each in transfers:
                    self.take([each])
            return
        if len(transfers) > 1 and not self._carries_many:
            for each in transfers:
                self._interrupt(
                    each,
                    Unavailable(
                        "Central server now takes one transfer at a time: this one waits for its turn"
                    ),
                )
            return
        for each in transfers:
            self._carried[each.id] = each
            self._quiet_at[each.id] = time.monotonic() + self._quiet_s

    def advance(self) -> bool:
        """Sends some of each transfer, ends those that have been quiet, interrupts what cannot be sent.

        Answers whether there was anything to send.
        """
        try:
            ready = self._store.having_waiting(self._carried)
            self._sending = len(ready)
            for transfer_id in ready:
                self._send_some(self._carried[transfer_id])
            self._end_quiet(set(self._carried) - ready)
        except Exception as error:
            self._leave(error)
            return True
        return bool(ready)

    def _send_some(self, transfer: Transfer) -> None:
        items = self._store.waiting(transfer.id, ITEMS_AT_ONCE)
        for index, item in enumerate(items):
            if self._is_stopping():
                raise Unavailable("the gateway stops")
            status, comment = self._send(transfer, item, items[index:])
            answer = outcome(status)
            if answer is Outcome.WAITING:
                reason = f"Central server answered {status:04X}: {comment or 'no comment'}"
                self._takes_until = 0.0  # the others have their turn, and then a pause
                self._drop(transfer)
                self._interrupt(transfer, Unavailable(reason))
                return
            if status == DELETED:
                self._store.refuse_waiting(transfer.id, status, comment)
                self._end(self._store.finish_all([transfer], comment or "deleted in the cloud"))
                return
            self._store.answered(transfer.id, item, answer, status, comment)
            self._quiet_at[transfer.id] = time.monotonic() + self._quiet_s

    def _send(self, transfer: Transfer, item: Item, items: Sequence[Item]) -> tuple[int, str]:
        association = self._accepting(transfer, item, items)
        if not association.takes(*item.context):
            return _NOT_ACCEPTED, "Central server does not take this kind of object"
        with self._folder.open(item.sha256) as data_set:
            return association.store(
                item.sop_class_uid, item.sop_instance_uid, item.transfer_syntax_uid, data_set
            )

    def _accepting(self, transfer: Transfer, item: Item, items: Sequence[Item]) -> Requestor:
        """The association, if it was opened with the item's context, else a new one that has it too."""
        if self._association is None or item.context not in self._proposed:
            self._release()
            contexts = [*(each.context for each in items), *self._proposed]
            self._proposed = list(dict.fromkeys(contexts))[:MAX_CONTEXTS]
            self._association = self._central.associate(transfer, self._proposed)
            self._opened.add(self._association)
        return self._association

    def _end_quiet(self, drained: set[TransferId]) -> None:
        now = time.monotonic()
        quiet = [self._carried[each] for each in drained if self._quiet_at[each] <= now]
        if quiet:
            self._end(self._store.finish_all(quiet))

    def _end(self, ends: Sequence[End]) -> None:
        for end in ends:
            self._drop(end.transfer)
            _log.info("a transfer ended", transfer=end.transfer.id, state=end.state)
        if ends and self._carries_many:
            try:
                self._central.end(ends)
            except Exception as error:
                # Their studies settle when they have been quiet, once the association has ended.
                self._takes_until = 0.0
                _log.warning("Central server cannot be told which transfers ended", cause=_reason(error))

    def _leave(self, error: BaseException) -> None:
        """Nothing more is sent: what has its answers ends, and the rest is interrupted."""
        if not isinstance(error, ReadroomError):
            _log.error("forwarding failed unexpectedly", exc_info=error)
        carried = list(self._carried.values())
        try:
            self._end(self._store.finish_all(carried))
        except Exception:
            _log.exception("the ends of transfers cannot be kept")
        for transfer in list(self._carried.values()):
            self._drop(transfer)
            self._interrupt(transfer, error)
        self._release()

    def _drop(self, transfer: Transfer) -> None:
        del self._carried[transfer.id], self._quiet_at[transfer.id]

    def _interrupt(self, transfer: Transfer, error: BaseException) -> None:
        self._interrupted(transfer, _reason(error))

    def _release(self) -> None:
        if self._association is not None:
            self._opened.discard(self._association)
            self._association.release()
            self._association = None


def _reason(error: BaseException) -> str:
    return error.sentence if isinstance(error, ReadroomError) else f"unexpected error: {type(error).__name__}"
