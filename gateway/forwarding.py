"""Workers that bring transfers to Central server, each one study at a time, as long as it takes."""

import threading
import time
from collections.abc import Sequence

from gateway.central import Central
from gateway.folder import Folder
from gateway.queue import DELETED, Backoff, Item, Outcome, Transfer, outcome
from gateway.store import Store
from kernel.clock import Clock
from kernel.errors import ReadroomError, Unavailable
from plumbing import log
from plumbing.dimse.requestor import MAX_CONTEXTS, Requestor

_log = log.get()

_NOT_ACCEPTED = 0x0122  # PS3.7 C.5.6: SOP class not supported
_LOOK_AGAIN_S = 1.0  # when nobody rings


class Forwarder:
    """Forwards as instances arrive; `arrived` wakes it."""

    def __init__(
        self,
        store: Store,
        folder: Folder,
        central: Central,
        *,
        parallel: int,
        quiet_s: float,
        backoff: Backoff,
        clock: Clock,
    ) -> None:
        """`quiet_s`: how long an association waits for the study's next instance before it is released."""
        self._store = store
        self._folder = folder
        self._central = central
        self._quiet_s = quiet_s
        self._backoff = backoff
        self._clock = clock
        self._bell = threading.Condition()
        self._rings = 0
        self._stopping = False
        self._associations: set[Requestor] = set()
        self._workers = [
            threading.Thread(target=self._work, name=f"forward {number}", daemon=True)
            for number in range(parallel)
        ]

    def start(self) -> None:
        """Goes on where the last process ended."""
        self._store.recover()
        for worker in self._workers:
            worker.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """Interrupts what is under way; it is in the queue and goes on after the next start."""
        self._stopping = True
        self.arrived()
        for association in list(self._associations):
            association.abort()
        deadline = time.monotonic() + timeout_s
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))

    def arrived(self) -> None:
        """Something is in the queue."""
        with self._bell:
            self._rings += 1
            self._bell.notify_all()

    def _wait(self, rings: int, seconds: float) -> None:
        """Until somebody rings again after the `rings`-th time, or `seconds` have passed."""
        with self._bell:
            self._bell.wait_for(lambda: self._rings != rings or self._stopping, seconds)

    def _work(self) -> None:
        while not self._stopping:
            rings = self._rings
            try:
                transfer = self._store.claim()
                if transfer is None:
                    due_in_s = self._store.due_in_s()
                    self._wait(rings, _LOOK_AGAIN_S if due_in_s is None else min(due_in_s, _LOOK_AGAIN_S))
                    continue
            except Exception:
                _log.exception("the queue cannot be read")
                self._wait(rings, _LOOK_AGAIN_S)
                continue
            self._try(transfer)

    def _try(self, transfer: Transfer) -> None:
        try:
            self._forward(transfer)
            return
        except ReadroomError as error:
            reason = error.sentence
        except Exception as error:
            reason = f"unexpected error: {type(error).__name__}"
            _log.exception("a transfer failed unexpectedly", transfer=transfer.id)
        _log.warning("a transfer was interrupted", transfer=transfer.id, reason=reason)
        while True:
            try:
                pause_s = self._backoff.pause_s(self._store.failures(transfer.id) + 1)
                self._store.interrupted(transfer, reason, pause_s)
                return
            except Exception:
                _log.exception("the queue cannot be written", transfer=transfer.id)
                if self._stopping:
                    return
                self._wait(self._rings, _LOOK_AGAIN_S)

    def _forward(self, transfer: Transfer) -> None:
        """To the transfer's end; raises ReadroomError when it has to wait."""
        self._central.announce(transfer, transfer.age(self._clock.now()))
        sending = _Sending(self._central, transfer, self._associations)
        try:
            while True:
                reason = self._send_waiting(transfer, sending)
                state = self._store.finish(transfer, reason)
                if state is not None:
                    _log.info("a transfer ended", transfer=transfer.id, state=state)
                    return
        finally:
            sending.release()

    def _send_waiting(self, transfer: Transfer, sending: "_Sending") -> str:
        """Sends what waits, and what comes before the study has been quiet for a moment.

        Answers why the whole transfer is refused, if it is.
        """
        quiet_at = time.monotonic() + self._quiet_s
        while True:
            rings = self._rings
            items = self._store.waiting(transfer.id)
            for index, item in enumerate(items):
                if self._stopping:
                    raise Unavailable("the gateway stops")
                if reason := self._send(transfer, item, sending.accepting(item, items[index:])):
                    return reason
                quiet_at = time.monotonic() + self._quiet_s
            left = quiet_at - time.monotonic()
            if left <= 0 or self._stopping:
                return ""
            if not items:
                self._wait(rings, left)

    def _send(self, transfer: Transfer, item: Item, association: Requestor) -> str:
        """Why no other item of the transfer needs to be sent, if so."""
        if association.takes(*item.context):
            with self._folder.open(item.sha256) as data_set:
                status, comment = association.store(
                    item.sop_class_uid, item.sop_instance_uid, item.transfer_syntax_uid, data_set
                )
        else:
            status, comment = _NOT_ACCEPTED, "Central server does not take this kind of object"
        answer = outcome(status)
        if answer is Outcome.WAITING:
            raise Unavailable(f"Central server answered {status:04X}: {comment or 'no comment'}")
        if status == DELETED:
            self._store.refuse_waiting(transfer.id, status, comment)
            return comment or "deleted in the cloud"
        self._store.answered(transfer.id, item, answer, status, comment)
        return ""


class _Sending:
    """The association of one transfer: opened when there is something to send, anew for another context."""

    def __init__(self, central: Central, transfer: Transfer, opened: set[Requestor]) -> None:
        self._central = central
        self._transfer = transfer
        self._opened = opened
        self._association: Requestor | None = None
        self._proposed: list[tuple[str, str]] = []

    def accepting(self, item: Item, items: Sequence[Item]) -> Requestor:
        """The association, if it was opened with the item's context, else a new one for all `items`."""
        if self._association is None or item.context not in self._proposed:
            self.release()
            self._proposed = list(dict.fromkeys(i.context for i in items))[:MAX_CONTEXTS]
            self._association = self._central.associate(self._transfer, self._proposed)
            self._opened.add(self._association)
        return self._association

    def release(self) -> None:
        """Ends the association, if there is one."""
        if self._association is not None:
            self._opened.discard(self._association)
            self._association.release()
            self._association = None
