"""The authorities and identities of a system on this machine."""

import stat
from datetime import UTC, datetime
from pathlib import Path

from local.pki import Pki
from plumbing import minting, tokens
from plumbing.components import COMPONENTS
from plumbing.tokenkeys import KeyFile, parse
from tests.plumbing.test_authority import handshake

NOW = datetime.now(UTC)


def test_authorities_and_issuer_are_kept_and_identities_renewed(tmp_path: Path) -> None:
    first = Pki.make(tmp_path / "pki", COMPONENTS.values(), NOW)
    kept = (first.service_ca, first.gateway_ca, first.token_key, first.token_public_key, first.token_keys)
    before = [path.read_bytes() for path in kept]
    identity = first.tls("access").certificate.read_bytes()

    again = Pki.make(tmp_path / "pki", COMPONENTS.values(), NOW)

    assert [path.read_bytes() for path in kept] == before
    assert again.tls("access").certificate.read_bytes() != identity
    handshake(again.tls("access"), again.tls("bff"), "access.readroom")


def test_tokens_of_the_issuer_verify(pki: Pki) -> None:
    class Now:
        def now(self) -> datetime:
            return NOW

    token = minting.mint(pki.token_key.read_bytes(), login="anna", session="s", audience="access", now=NOW)
    verifier = tokens.Verifier(KeyFile(pki.token_keys), Now())
    assert verifier.verify(token, ["access"]).login == "anna"


def test_the_folder_of_the_version_before_gets_the_file_of_its_key(tmp_path: Path) -> None:
    before = Pki.make(tmp_path / "pki", COMPONENTS.values(), NOW)
    public = before.token_public_key.read_bytes()
    before.token_keys.unlink()

    after = Pki.make(tmp_path / "pki", COMPONENTS.values(), NOW)

    assert parse(public).keys() == KeyFile(after.token_keys).keys.keys()


def test_every_file_is_for_its_owner_only(pki: Pki) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in pki.folder.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    assert stat.S_IMODE(pki.folder.stat().st_mode) == 0o700
