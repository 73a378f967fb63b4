"""A sender with pynetdicom that says when each acknowledgement came."""

import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from plumbing.tls import TLSFiles


def store(
    address: str,
    identity: TLSFiles,
    calling_ae_title: str,
    paths: Sequence[Path],
    *,
    before_each: Callable[[], None] = lambda: None,
) -> float:
    """Stores the files in one association, releases it, and answers when the last acknowledgement came.

    The answer is a reading of time.perf_counter(). `before_each` may wait, to set a pace.
    """
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=str(identity.ca))
    context.load_cert_chain(identity.certificate, identity.key)
    ae = AE(calling_ae_title)
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = ae.associate(host, int(port), ae_title="READROOM", tls_args=(context, "localhost"))
    if not association.is_established:
        raise RuntimeError("the association was not accepted")
    acknowledged = 0.0
    for path in paths:
        instance = dcmread(path)
        before_each()
        status = association.send_c_store(instance)
        acknowledged = time.perf_counter()
        if status.Status != 0x0000:
            raise RuntimeError(f"C-STORE was answered with {status.Status:#06x}")
    association.release()
    return acknowledged
