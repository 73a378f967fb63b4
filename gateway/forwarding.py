"""Workers that bring transfers to Central server, as long as it takes.

A worker has one association at a time, and carries in it whatever comes under its title (A26).
"""

import threading
import time

from gateway.carrying import Carriage
from gateway.central import Central
from gateway.folder import Folder
from gateway.queue import Backoff, Transfer
from gateway.store import Store
from kernel.clock import Clock
from plumbing import log
from plumbing.dimse.requestor import Requestor

_log = log.get()

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
        """`quiet_s`: how long a transfer waits for the study's next instance before it ends."""
        self._store = store
        self._folder = folder
        self._central = central
        self._quiet_s = quiet_s
        self._backoff = backoff
        self._clock = clock
        self._bell = threading.Condition()
        self._rings = 0
        self._stopping = self._draining = False
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

    def drain(self, seconds: float) -> None:
        """Begins no transfer any more, and waits so long for those under way to end."""
        self._draining = True
        self.arrived()
        self._join(seconds)

    def stop(self, timeout_s: float = 3.0) -> None:
        """Interrupts what is under way; it is in the queue and goes on after the next start."""
        self._stopping = True
        self.arrived()
        for association in list(self._associations):
            association.abort()
        self._join(timeout_s)

    def _join(self, timeout_s: float) -> None:
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
        while True:
            rings = self._rings
            if self._stopping or self._draining:
                return
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
            try:
                self._carry(transfer)
            except Exception:
                _log.exception("forwarding failed unexpectedly")
                self._wait(rings, _LOOK_AGAIN_S)

    def _carry(self, first: Transfer) -> None:
        """Brings a transfer to Central server, and in the same association others that come meanwhile."""
        carriage = Carriage(
            self._store,
            self._folder,
            self._central,
            self._associations,
            quiet_s=self._quiet_s,
            clock=self._clock,
            interrupted=self._interrupted,
            is_stopping=lambda: self._stopping,
        )
        with carriage:
            carriage.take([first])
            while carriage.is_loaded and not self._stopping:
                rings = self._rings
                if first.is_only and not self._draining and (room := carriage.room):
                    share = -(-self._store.due(room * len(self._workers)) // len(self._workers))
                    carriage.take(self._store.claim_more(first.calling_ae_title, share))
                if not carriage.advance():
                    self._wait(rings, carriage.quiet_in_s)

    def _interrupted(self, transfer: Transfer, reason: str) -> None:
        """It waits and is tried again: kept, as soon as that can be written."""
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
