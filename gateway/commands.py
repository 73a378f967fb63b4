"""Commands on a gateway, running or not: its status, what it keeps, and Export."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from gateway.disk import Disk
from gateway.folder import Folder
from gateway.identity import Identity
from gateway.main import DATABASE, open_store
from gateway.settings import Settings
from gateway.status import Status, Table
from gateway.status import status as status_of
from gateway.store import Store
from gateway.studies import Search, Searched, searched
from kernel.clock import MonotonicClock
from kernel.dicom import parse_uid
from kernel.errors import NotFound
from kernel.filing import CannotBeFiled, Examination

SHOWN = 20
"""Rows of a table, unless all are asked for."""
_HEAD_BYTES = 1 << 20
"""What is read of an instance to find its patient; it stands before the pixels."""


@contextmanager
def _store(settings: Settings) -> Iterator[tuple[Store, Disk]]:
    """The gateway's memory; raises NotFound before its first run."""
    path = settings.spool / DATABASE
    if not path.exists():
        raise NotFound(f"`{settings.spool}` holds no gateway yet: start the gateway once")
    disk = Disk(settings.spool, reserve_bytes=settings.reserve_bytes)
    store = open_store(settings, disk)
    try:
        yield store, disk
    finally:
        store.close()


def export(settings: Settings, study_instance_uids: Sequence[str]) -> Iterator[str]:
    """Sends kept studies once more, each as a new transfer (GWY-13, A26); nothing if one is not kept."""
    uids = list(dict.fromkeys(parse_uid(uid, "export") for uid in study_instance_uids))
    with _store(settings) as (store, _):
        for uid, exported in zip(uids, store.export(uids), strict=True):
            for title, instances in exported:
                yield f"exporting {uid} as {title}: {instances} instance{'' if instances == 1 else 's'}"


def status(settings: Settings, *, as_json: bool, everything: bool) -> Iterator[str]:
    """Listeners, disk, queue, final failures, what was refused here."""
    with _store(settings) as (store, disk):
        limit = None if everything else SHOWN
        told = status_of(settings, Identity(settings), store, disk, MonotonicClock().now(), limit)
    yield from _told(told, as_json)


def kept(settings: Settings, search: Search, *, as_json: bool, everything: bool) -> Iterator[str]:
    """The studies that can be exported and that the search finds, with their patients."""
    with _store(settings) as (store, _):
        _describe(store, Folder(settings.spool))
        found = [row for row in store.kept() if search.finds(row.about)]
    rows = [
        (row.study_instance_uid, row.calling_ae_title, row.instances, row.received_at, *row.about)
        for row in (found if everything else found[:SHOWN])
    ]
    heads = ("study", "title", "instances", "last_received", "patient", "patient_id", "accession", "date")
    yield from _told(
        Status({}, (), [Table("kept", "kept studies", heads, rows, len(found), len(rows))]), as_json
    )


def _describe(store: Store, folder: Folder) -> None:
    """Looks up the patients of studies that the version before received."""
    for study, title, sha256, transfer_syntax_uid in store.undescribed():
        examination = Examination("", "", transfer_syntax_uid)
        about = Searched()
        with suppress(FileNotFoundError), folder.open(sha256) as data_set:
            with suppress(CannotBeFiled):
                examination.feed(data_set.read(_HEAD_BYTES))
            about = searched(examination.values)
        store.describe(study, title, about)


def _told(told: Status, as_json: bool) -> Iterator[str]:
    if as_json:
        yield json.dumps(told.value(), indent=2, ensure_ascii=False)
    else:
        yield from (line for number, line in enumerate(told.text()) if number or line)
