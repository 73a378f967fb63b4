"""A process that receives images. Ingest starts it, hands it connections, and answers it (workers.py).

It has a thread for each association and no event loop. It is started anew and not forked, so it has nothing
of the process that started it but two sockets: one over which connections come, and a link. When the link
ends it ends at once: nobody could say any more who may send.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from kernel.dicom import UID
from kernel.errors import Invalid, Unavailable
from kernel.ids import PackId, StudyId
from plumbing import dimse, log, remote
from plumbing.clocks import clock_of
from plumbing.config import read_secret
from plumbing.dimse.association import Association, Serving
from plumbing.lines import Lines
from plumbing.links import Upward
from plumbing.renewed import Renewed, Text
from plumbing.tls import TLSFiles, server_contexts
from services.ingest.dimse import Listener
from services.ingest.domain import Refusal, Refused, Sender, StoredInstance, StoreStatus, Verdict
from services.ingest.instanceindex import INDEX, Index
from services.ingest.packs import NewPacks
from services.ingest.parent import Notes
from services.ingest.parts import Description

ADMIT_S = 2.4
"""For the database to say whose a certificate is, and again who an association comes from (R8)."""
IDENTIFY_S = 2.0
"""For the StudyId, while the instance is still arriving."""
INDEX_S = 4.5
"""For the index to answer: an instance is refused within 5 s of its last byte (R8)."""
REFUSE_S = 2.0
"""For the list of refusals; a refusal is answered without it."""
SETTLE_S = 1.0
NOTED_S = 0.25
"""How often what was done is told, while something is."""
ALIVE_S = 1.0
"""How often it is told that this process runs."""
LINES = 16
"""Connections to PostgreSQL of one process that receives; associations that index at once."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a worker is told when it starts, over its link: it holds the address of the database.

    Attributes:
        name: of the service, for the log.
        database_url, servers_ca: as in the settings.
        database_url_file: where the address stands, if it stands in a file.
        pack_directory: prepared by whoever started it.
        tls: what the listener for gateways shows.
        called_ae_titles, private_classes, limits: as in `dimse.Acceptor`.
        clock_offset_file: as in the settings.
    """

    name: str
    database_url: str
    database_url_file: str | None
    servers_ca: str | None
    pack_directory: str
    tls: tuple[str, str, str]
    called_ae_titles: Sequence[str]
    private_classes: bool
    limits: dimse.Limits
    clock_offset_file: str | None


class FarParent:
    """The process that accepted; see `Parent`."""

    def __init__(self, link: Upward) -> None:
        self._link = link
        self._notes = Notes()
        self._noting = threading.Lock()

    def recognize(self, certificate_sha256: str) -> None:
        self._link.ask("recognize", None, ADMIT_S, certificate_sha256)

    def admit(
        self,
        certificate_sha256: str,
        calling_ae_title: str,
        transfer_id: str | None,
        remote_address: str,
        refused_classes: Sequence[str],
    ) -> Sender:
        admitted: Sender = self._link.ask(
            "admit",
            Sender,
            ADMIT_S,
            certificate_sha256,
            calling_ae_title,
            transfer_id,
            remote_address,
            refused_classes,
        )
        return admitted

    def open_study(self, sender: Sender, study_instance_uid: UID) -> tuple[Sender, StudyId, PackId]:
        opened: StoreStatus | tuple[Sender, StudyId, PackId] = self._link.ask(
            "open_study", StoreStatus | tuple[Sender, StudyId, PackId], IDENTIFY_S, sender, study_instance_uid
        )
        if isinstance(opened, StoreStatus):
            raise Refused(opened)
        return opened

    def open_pack(self) -> PackId:
        return self._link.ask("open_pack", PackId, IDENTIFY_S)

    def receive(
        self,
        study_id: StudyId,
        sender: Sender,
        stored: StoredInstance,
        description: Description,
        described: bool,
    ) -> tuple[Verdict, StudyId]:
        verdict: tuple[Verdict, StudyId] = self._link.ask(
            "receive",
            tuple[Verdict, StudyId],
            INDEX_S,
            study_id,
            sender,
            stored,
            description,
            described,
        )
        return verdict

    def keep_unfiled(self, sender: Sender, stored: StoredInstance, reason: str) -> bool:
        return self._link.ask("keep_unfiled", bool, INDEX_S, sender, stored, reason)

    def refuse(self, refusal: Refusal) -> None:
        self._link.ask("refuse", None, REFUSE_S, refusal)

    def release(self, pack_id: PackId, study_id: StudyId | None) -> None:
        self.flush()  # so that the study is told with all its instances (P10)
        self._link.tell("release", pack_id, study_id)

    def note(self, notes: Notes) -> None:
        with self._noting:
            self._notes.add(notes)

    def ended(self, remote_address: str) -> None:
        """`left` says so too, once the connection is closed."""
        self.flush()

    def flush(self) -> None:
        """Tells what was noted since the last time."""
        with self._noting:
            notes, self._notes = self._notes, Notes()
        if notes.answered:
            self._link.tell("note", notes)


class _Places:
    """The places of associations, which the parent keeps."""

    def __init__(self, link: Upward, open_: dict[str, Association]) -> None:
        self._link = link
        self._open = open_

    def settle(self, connection: Association, peer: str) -> bool:
        with suppress(Unavailable):
            return self._link.ask("settle", bool, SETTLE_S, connection.remote, peer)
        return False

    def leave(self, connection: Association) -> None:
        self._open.pop(connection.remote, None)
        self._link.tell("left", connection.remote)


def main(link_number: int, connections_number: int) -> None:
    """Serves connections until the link ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # which reach the whole group: the parent says when to end
        signal.signal(number, signal.SIG_IGN)
    open_: dict[str, Association] = {}
    configured = threading.Event()
    told: list[Any] = []

    def configure(configuration: Any) -> None:
        told.append(configuration)
        configured.set()

    def about(act: str) -> Any:
        def tell(remote: str) -> None:
            if (association := open_.get(remote)) is not None:
                getattr(association, act)()

        return tell

    acts = {act: about(act) for act in ("abort", "leave", "give_way")}
    link = Upward(socket.socket(fileno=link_number), {"configure": configure, **acts})

    def begin() -> None:
        configured.wait()
        try:
            _take_connections(
                link, open_, socket.socket(fileno=connections_number), msgspec.convert(told[0], Configuration)
            )
        except BaseException:
            log.get().exception("a process that receives images cannot go on")
            os._exit(1)

    threading.Thread(target=begin, name="connections", daemon=True).start()
    link.serve()
    os._exit(0)  # without a word to anybody: what is not committed is none of ours any more


def _address(configuration: Configuration) -> Text:
    """The address of the database: as its file says it now, if it stands in one."""
    if configuration.database_url_file is None:
        return configuration.database_url
    file = Path(configuration.database_url_file)

    def read() -> str:
        address = read_secret(file)
        if wrong := remote.problem(address, remote.DATABASE):
            raise Invalid(wrong)
        return address

    return Renewed(lambda: (file,), read)


def _take_connections(
    link: Upward, open_: dict[str, Association], passing: socket.socket, configuration: Configuration
) -> None:
    log.configure(configuration.name)
    certificate, key, ca = map(Path, configuration.tls)
    offset_file, servers_ca = configuration.clock_offset_file, configuration.servers_ca
    lines = Lines(_address(configuration), INDEX, size=LINES, ca=Path(servers_ca) if servers_ca else None)
    parent = FarParent(link)
    listener = Listener(
        parent,
        NewPacks(Path(configuration.pack_directory)),
        Index(lines),
        clock_of(Path(offset_file) if offset_file else None),
    )
    serving = Serving(
        server_contexts(TLSFiles(certificate, key, ca)),
        listener,
        configuration.called_ae_titles,
        configuration.limits,
        configuration.private_classes,
    )
    places = _Places(link, open_)
    threading.Thread(target=_tell_every, args=(parent,), name="notes", daemon=True).start()
    threading.Thread(target=_say_alive, args=(link,), name="alive", daemon=True).start()
    link.tell("ready")
    while True:
        told, descriptors, _, _ = socket.recv_fds(passing, 256, 1)
        if not told:
            return  # the link ends as well
        port, _, host = told.decode().partition(" ")
        association = Association(socket.socket(fileno=descriptors[0]), (host, int(port)), serving, places)
        open_[association.remote] = association
        try:
            association.start()
        except RuntimeError:  # no thread to be had
            log.get().exception("a connection could not be served")
            places.leave(association)


def _tell_every(parent: FarParent) -> None:
    while True:
        time.sleep(NOTED_S)
        parent.flush()


def _say_alive(link: Upward) -> None:
    while True:
        link.tell("alive")
        time.sleep(ALIVE_S)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
