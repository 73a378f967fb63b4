"""A sender that says when each acknowledgement came."""

import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

from pydicom.filereader import read_file_meta_info

from plumbing.dimse.requestor import Requestor
from plumbing.tls import TLSFiles, client_context

# PS3.10 7.1: where the value of (0002,0000) stands, and where what it counts begins.
_GROUP_LENGTH, _META = 140, 144


def store(
    address: str,
    identity: TLSFiles,
    calling_ae_title: str,
    paths: Sequence[Path],
    *,
    called_ae_title: str = "READROOM",
    server_name: str = "ingest.readroom",
    before_each: Callable[[], None] = lambda: None,
) -> float:
    """Stores the files in one association, releases it, and answers when the last acknowledgement came.

    The answer is a reading of time.perf_counter(). `before_each` may wait, to set a pace.
    """
    metas = [read_file_meta_info(path) for path in paths]
    proposed = sorted({(str(m.MediaStorageSOPClassUID), str(m.TransferSyntaxUID)) for m in metas})
    association = Requestor.associate(
        address,
        context=client_context(identity),
        server_name=server_name,
        calling_ae_title=calling_ae_title,
        called_ae_title=called_ae_title,
        proposed=proposed,
    )
    acknowledged = 0.0
    try:
        for path, meta in zip(paths, metas, strict=True):
            content = path.read_bytes()
            length = int.from_bytes(content[_GROUP_LENGTH:_META], "little")
            before_each()
            status, comment = association.store(
                str(meta.MediaStorageSOPClassUID),
                str(meta.MediaStorageSOPInstanceUID),
                str(meta.TransferSyntaxUID),
                BytesIO(content[_META + length :]),
            )
            acknowledged = time.perf_counter()
            if status != 0x0000:
                raise RuntimeError(f"C-STORE was answered with {status:#06x}: {comment}")
    finally:
        association.release()
    return acknowledged
