"""The file of keys: taken whole or not at all, and read again when it changes."""

import json
from pathlib import Path
from typing import Any

import pytest

from kernel.errors import Invalid
from local.pki import token_key
from plumbing import tokenkeys
from plumbing.tokenkeys import KeyFile, key_set, parse

OLD, NEW, THIRD = token_key(), token_key(), token_key()
RSA = """-----BEGIN PUBLIC KEY-----
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAMN5l9b0w0rL0jC7v1cG9m0a0Rr5kq6M
-----END PUBLIC KEY-----
"""


def a_key(pem: bytes = OLD[1], **changes: Any) -> dict[str, Any]:
    (key,) = json.loads(key_set([pem]))["keys"]
    return {name: value for name, value in (key | changes).items() if value is not None}


def a_set(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


def kid(pem: bytes) -> str:
    return str(a_key(pem)["kid"])


def test_a_file_holds_one_or_two_keys_by_their_thumbprints() -> None:
    assert {kid(OLD[1])} == parse(key_set([OLD[1]])).keys()
    assert {kid(OLD[1]), kid(NEW[1])} == parse(key_set([OLD[1], NEW[0]])).keys()
    assert {kid(OLD[1])} == parse(OLD[1]).keys(), "as the version before was told"
    assert {kid(OLD[1])} == parse(a_set(a_key(kid=None, use=None, alg=None, key_ops=["verify"]))).keys()


def test_the_thumbprint_is_that_of_rfc_8037() -> None:
    """RFC 8037, appendix A.3."""
    example = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert ["kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"] == list(parse(a_set(example)))


REFUSED = {
    "empty": b"",
    "half": key_set([OLD[1]])[:-40],
    "no JSON": b"{",
    "no keys": a_set(),
    "three keys": a_set(a_key(), a_key(NEW[1]), a_key(THIRD[1])),
    "one key twice": a_set(a_key(), a_key()),
    "one key twice, once without kid": a_set(a_key(), a_key(kid=None)),
    "two keys under one kid": a_set(a_key(), a_key(NEW[1], kid=kid(OLD[1]))),
    "another kid": a_set(a_key(kid="a")),
    "one of two is bad": a_set(a_key(), {"kty": "OKP"}),
    "another curve": a_set(a_key(crv="X25519")),
    "a symmetric key": a_set({"kty": "oct", "k": "AAAA"}),
    "another algorithm": a_set(a_key(alg="HS256")),
    "for encryption": a_set(a_key(use="enc")),
    "a short key": a_set(a_key(x="AAAA", kid=None)),
    "x is no base64": a_set(a_key(x="é" * 43, kid=None)),
    "a private key": a_set(a_key(d="A" * 43)),
    "a private PEM": OLD[0],
    "another PEM": RSA.encode(),
    "a list": b"[]",
    "not UTF-8": b'{"keys": ["\xff"]}',
    "too large": key_set([OLD[1]]) + b" " * tokenkeys.MAX_FILE_BYTES,
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED.keys())
def test_anything_else_is_refused_and_the_keys_before_count(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(key_set([OLD[1]]))
    file = KeyFile(path)

    with pytest.raises(Invalid):
        parse(content)
    path.write_bytes(content)

    assert not file.look()
    assert {kid(OLD[1])} == file.keys.keys()
    assert 1 == tokenkeys.UNREADABLE._value.get()
    path.write_bytes(key_set([OLD[1], NEW[1]]))
    assert file.look()
    assert (2, 0) == (tokenkeys.COUNT._value.get(), tokenkeys.UNREADABLE._value.get())


@pytest.mark.parametrize("secret", [OLD[0], a_set(a_key(d="A" * 43))])
def test_a_private_key_is_not_repeated(secret: bytes) -> None:
    with pytest.raises(Invalid, match="holds a private key") as refusal:
        parse(secret)
    assert "A" * 20 not in refusal.value.sentence


def test_a_file_that_goes_away_takes_no_key_with_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(key_set([OLD[1]]))
    file = KeyFile(path)
    path.unlink()

    assert not file.look()
    assert {kid(OLD[1])} == file.keys.keys()
    path.write_bytes(key_set([NEW[1]]))
    assert file.look()
    assert {kid(NEW[1])} == file.keys.keys()


def test_a_file_behind_a_link_that_is_turned_is_read_again(tmp_path: Path) -> None:
    """As a secret of Kubernetes is replaced."""
    for name, pem in (("a", OLD[1]), ("b", NEW[1])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys.json").write_bytes(key_set([pem]))
    link = tmp_path / "now"
    link.symlink_to("a")
    file = KeyFile(link / "keys.json")
    turned = tmp_path / "next"
    turned.symlink_to("b")
    turned.replace(link)

    assert file.look()
    assert {kid(NEW[1])} == file.keys.keys()
    assert not file.look()


def test_a_process_does_not_begin_without_keys(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be read"):
        KeyFile(tmp_path / "absent.json")
