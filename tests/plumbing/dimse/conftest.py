"""Receive paths that listen for a test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from local.pki import Pki
from tests.plumbing.dimse.peers import ByHand, Listening, listening


@pytest.fixture
def plain() -> Iterator[Listening]:
    with listening() as handler:
        yield handler


@pytest.fixture
def secured(pki: Pki) -> Iterator[Listening]:
    with listening(pki.gateway_tls("ingest")) as handler:
        yield handler


@pytest.fixture
def by_hand(plain: Listening) -> Iterator[Callable[..., ByHand]]:
    with ExitStack() as opened:

        def connect(**more: Any) -> ByHand:
            peer = ByHand(plain.port, **more)
            opened.callback(peer.close)
            return peer

        yield connect
