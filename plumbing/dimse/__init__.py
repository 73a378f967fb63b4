"""Receives DICOM: associations, C-ECHO and C-STORE, over TLS or not; the one receive path of ours.

`Acceptor` (acceptor.py) gives each connection that plumbing/listening.py accepts a thread; connections.py
reads and writes it, behind TLS or not; association.py speaks the upper layer protocol in it; items.py reads
what is proposed, negotiation.py says what is accepted; messages.py and commands.py serve what is asked. Who
uses it implements `AcceptorHandler` (handler.py). Why our own: docs/decisions/0003-own-receive-path.md.
"""

from plumbing.dimse.acceptor import Acceptor
from plumbing.dimse.handler import (
    Aborted,
    AcceptorHandler,
    AssociationHandler,
    AssociationRequest,
    FewNames,
    InstanceSink,
    Limits,
    Refused,
    RefusedConnection,
    RefusedInstance,
    Rejected,
    StoreCommand,
)

__all__ = [
    "Aborted",
    "Acceptor",
    "AcceptorHandler",
    "AssociationHandler",
    "AssociationRequest",
    "FewNames",
    "InstanceSink",
    "Limits",
    "Refused",
    "RefusedConnection",
    "RefusedInstance",
    "Rejected",
    "StoreCommand",
]
