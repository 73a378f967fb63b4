"""Commands on a gateway, running or not: its status, what it keeps, and Export. No patient data."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from gateway.disk import Disk
from gateway.main import DATABASE, open_store
from gateway.settings import Settings
from gateway.store import Store
from kernel.dicom import parse_uid
from kernel.errors import NotFound

_SHOWN = 20
_INSTANT = "%Y-%m-%d %H:%M:%S"


@contextmanager
def _store(settings: Settings) -> Iterator[Store]:
    """The gateway's memory; raises NotFound before its first run."""
    path = settings.spool / DATABASE
    if not path.exists():
        raise NotFound(f"`{settings.spool}` holds no gateway yet")
    store = open_store(settings, Disk(settings.spool, reserve_bytes=settings.reserve_bytes))
    try:
        yield store
    finally:
        store.close()


def export(settings: Settings, study_instance_uids: Sequence[str]) -> Iterator[str]:
    """Sends kept studies once more, each as a new transfer (GWY-13, A26); nothing if one is not kept."""
    uids = list(dict.fromkeys(parse_uid(uid, "export") for uid in study_instance_uids))
    with _store(settings) as store:
        for uid, exported in zip(uids, store.export(uids), strict=True):
            for title, instances in exported:
                yield f"exporting {uid} as {title}: {instances} instances"


def kept(settings: Settings) -> Iterator[str]:
    """The studies that can be exported."""
    with _store(settings) as store:
        yield from _table(
            "kept studies",
            ("study", "title", "instances", "last received"),
            (
                (row.study_instance_uid, row.calling_ae_title, row.instances, f"{row.received_at:{_INSTANT}}")
                for row in store.kept()
            ),
        )


def status(settings: Settings) -> Iterator[str]:
    """Listeners, queue, final failures, who was refused."""
    with _store(settings) as store:
        if settings.listener:
            yield f"listener {settings.listener.listen} over TLS"
        if settings.plain_listener:
            yield (
                f"warning: modalities on {settings.plain_listener.listen} send without TLS; "
                "only registered ones may"
            )
        yield _disk(Disk(settings.spool, reserve_bytes=settings.reserve_bytes))
        yield from _table(
            "transfers",
            ("state", "title", "study", "waiting", "acknowledged", "refused", "reason"),
            (
                (
                    row.transfer.state,
                    row.transfer.calling_ae_title,
                    row.transfer.study_instance_uid,
                    row.waiting,
                    row.acknowledged,
                    row.refused,
                    row.reason,
                )
                for row in store.queue(_SHOWN)
            ),
        )
        yield from _table(
            "refused by Central server, final",
            ("title", "instance", "status", "comment"),
            (
                (row.calling_ae_title, row.sop_instance_uid, f"{row.status:04X}", row.comment)
                for row in store.refused(_SHOWN)
            ),
        )
        yield from _table(
            "associations refused or in plain text, and exports",
            ("at", "what", "remote", "calling", "called", "reason"),
            (
                (
                    f"{row.at:{_INSTANT}}",
                    row.action,
                    row.remote,
                    row.calling_ae_title,
                    row.called_ae_title,
                    row.reason,
                )
                for row in store.audit_rows(_SHOWN)
            ),
        )


def _disk(disk: Disk) -> str:
    room = f"{disk.free_bytes / 1e9:,.1f} of {disk.total_bytes / 1e9:,.1f} GB are free"
    if disk.has_room:
        return f"disk of {disk.path}: {room}"
    return (
        f"warning: the disk of {disk.path} is full ({room}): modalities are answered A700 until it has room"
    )


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    cells = [tuple(map(str, row)) for row in rows]
    yield ""
    yield f"{title}: {len(cells) or 'none'}"
    if cells:
        widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
        for row in (tuple(heads), *cells):
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
