"""The key of user tokens changes while every service of a system serves."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.errors import Denied, Unauthenticated
from local.pki import token_key
from local.processes import until
from local.system import ROOT, LocalSystem
from plumbing import rpc
from plumbing.clocks import clock_of
from plumbing.components import SERVICES
from plumbing.files import write_private
from plumbing.minting import mint
from plumbing.tokenkeys import key_set
from tests.readroom.conftest import Run
from wire.letters.v1.letters_pb2 import ListDeadLettersRequest
from wire.letters.v1.letters_pb2_grpc import DeadLettersServiceStub


def counts(system: LocalSystem, private: bytes) -> dict[str, bool]:
    """Whether each service takes what a key has just signed."""
    endpoints = system.endpoints()
    caller = rpc.TLSFiles(endpoints.caller_certificate, endpoints.caller_key, endpoints.service_ca)
    now = clock_of(endpoints.clock_offset_file).now()

    async def asked(name: str) -> bool:
        token = mint(private, login="rowan-the-unknown", session="s", audience=name, now=now)
        async with rpc.connect(endpoints.services[name], name, caller, token=lambda: token) as channel:
            try:
                await DeadLettersServiceStub(channel).ListDeadLetters(ListDeadLettersRequest())
            except Unauthenticated as refusal:
                # A token that counts is of somebody, who is asked for then.
                return refusal.sentence != "a valid user token is required"
            except Denied:
                pass
        return True

    async def each() -> dict[str, bool]:
        return {name: await asked(name) for name in SERVICES}

    return asyncio.run(each())


@pytest.fixture
def kept(system: LocalSystem) -> Iterator[None]:
    """The other tests go on with the key that was there."""
    files = {path: path.read_bytes() for path in (system.pki.token_keys, system.pki.token_key)}
    yield
    for path, content in files.items():
        write_private(path, content)
    assert until(lambda: all(counts(system, files[system.pki.token_key]).values()), 20.0)


@pytest.mark.proves("SEC-14", part="the key of tokens changes while services run")
def test_the_key_changes_without_a_restart(
    admin: Run, system: LocalSystem, kept: None, tmp_path: Path
) -> None:
    old, (new, _) = system.pki.token_key.read_bytes(), token_key()
    pids = [system.service_pid(name) for name in system.names]
    assert not any(counts(system, new).values())

    (tmp_path / "new.key").write_bytes(new)
    keys = map(str, (system.pki.token_key, tmp_path / "new.key"))
    command = [sys.executable, "-m", "services", "token-keys", *keys]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    write_private(system.pki.token_keys, made.stdout)
    assert until(lambda: all(counts(system, new).values()), 20.0)
    assert all(counts(system, old).values())
    write_private(system.pki.token_key, new)
    assert 0 == admin("me").code, "whoever mints has the new key"
    write_private(system.pki.token_keys, key_set([new]))

    assert until(lambda: not any(counts(system, old).values()), 20.0)
    assert all(counts(system, new).values())
    assert pids == [system.service_pid(name) for name in system.names]


def test_the_web_alone_is_told_the_private_key(system: LocalSystem) -> None:
    private = str(system.pki.token_key)
    assert ["web"] == [name for name in system.names if private in system.environment(name).values()]
    assert b'"d"' not in system.pki.token_keys.read_bytes()
