"""Receives DICOM: associations, C-ECHO and C-STORE, over TLS or not; the one receive path of ours.

`Acceptor` (acceptor.py) listens and gives each connection a thread; association.py speaks the upper layer
protocol in it; negotiation.py says what is accepted; messages.py and commands.py serve what is asked. Who
uses it implements `AcceptorHandler` (handler.py). Why our own: docs/decisions/0003-own-receive-path.md.
"""

from plumbing.dimse.acceptor import Acceptor
from plumbing.dimse.handler import (
    AcceptorHandler,
    AssociationHandler,
    AssociationRequest,
    InstanceSink,
    Limits,
    Refused,
    Rejected,
    StoreCommand,
)

__all__ = [
    "Acceptor",
    "AcceptorHandler",
    "AssociationHandler",
    "AssociationRequest",
    "InstanceSink",
    "Limits",
    "Refused",
    "Rejected",
    "StoreCommand",
]
