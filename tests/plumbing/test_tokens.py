"""User tokens: one algorithm, a minute, one audience."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from kernel.clock import MonotonicClock
from kernel.errors import Unauthenticated
from local.pki import token_key
from plumbing.minting import Issuer, mint
from plumbing.tokenkeys import Keys, parse
from plumbing.tokens import LOOK_EVERY_S, Claims, Verifier

PRIVATE, PUBLIC = token_key()
FOREIGN = token_key()
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
KEYS = parse(PUBLIC)
(KID,) = KEYS
HEADER = {"alg": "Ed25519", "typ": "readroom-user+jwt", "kid": KID}
CLAIMS = {
    "iss": "bff",
    "jti": "1",
    "sub": "ada",
    "sid": "s1",
    "aud": "access",
    "iat": NOW_S,
    "exp": NOW_S + 60,
}


class SettableClock:
    def __init__(self, now: datetime = NOW) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time


class Held:
    """Keys that a test changes."""

    def __init__(self, keys: Keys = KEYS) -> None:
        self.keys = keys
        self.next: Keys | None = None
        self.looks = 0

    def look(self) -> bool:
        self.looks += 1
        changed, self.keys, self.next = self.next is not None, self.next or self.keys, None
        return changed


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def ed25519(signing_input: bytes, private_pem: bytes = PRIVATE) -> bytes:
    key: Any = load_pem_private_key(private_pem, None)
    signature: bytes = key.sign(signing_input)
    return signature


def forged(header: object = HEADER, claims: object = CLAIMS, sign: Any = ed25519) -> str:
    """A token made by hand, so that it can be wrong in one thing only."""
    signing_input = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
    return f"{signing_input}.{base64url(sign(signing_input.encode()))}"


def verify(token: str, *audiences: str, at: datetime = NOW) -> Claims:
    return Verifier(Held(), SettableClock(at)).verify(token, audiences or ("access",))


def a_token(**more: Any) -> str:
    given = {"login": "ada", "session": "s1", "audience": "access", "now": NOW, **more}
    return mint(PRIVATE, **given)


@pytest.mark.proves("SEC-14")
def test_a_token_says_who_in_which_session_and_for_whom() -> None:
    assert verify(a_token()) == Claims("ada", "s1", "access", NOW_S + 60)
    assert verify(forged()) == Claims("ada", "s1", "access", NOW_S + 60)


@pytest.mark.proves("SEC-14")
def test_the_audience_is_exact() -> None:
    assert verify(a_token(audience="bff"), "access", "bff").audience == "bff"
    for audience in ("acces", "access ", "ACCESS", "ingest", ""):
        with pytest.raises(Unauthenticated):
            verify(a_token(audience=audience))


@pytest.mark.proves("SEC-14")
def test_a_token_ends_with_its_last_second_also_when_it_is_remembered() -> None:
    clock = SettableClock()
    verifier = Verifier(Held(), clock)
    token = a_token()
    verifier.verify(token, ["access"])
    clock.time = NOW + timedelta(seconds=59.999)
    verifier.verify(token, ["access"])
    clock.time = NOW + timedelta(seconds=60)
    with pytest.raises(Unauthenticated):
        verifier.verify(token, ["access"])


def test_a_remembered_token_is_for_its_audience_only() -> None:
    verifier = Verifier(Held(), SettableClock())
    token = a_token()
    verifier.verify(token, ["access"])
    with pytest.raises(Unauthenticated):
        verifier.verify(token, ["ingest"])


def test_clocks_may_be_five_seconds_apart() -> None:
    verify(a_token(now=NOW + timedelta(seconds=5)))
    with pytest.raises(Unauthenticated):
        verify(a_token(now=NOW + timedelta(seconds=6)))


def with_claims(**more: object) -> str:
    return forged(claims={**CLAIMS, **more})


def without(claim: str) -> str:
    return forged(claims={name: value for name, value in CLAIMS.items() if name != claim})


def hmac_with_public_key(signing_input: bytes) -> bytes:
    return hmac.digest(PUBLIC, signing_input, hashlib.sha256)


REFUSED = {
    "alg none": forged({**HEADER, "alg": "none"}, sign=lambda _: b""),
    "alg none, signed": forged({**HEADER, "alg": "none"}),
    "alg EdDSA": forged({**HEADER, "alg": "EdDSA"}),
    "alg HS256 with the public key as secret": forged({**HEADER, "alg": "HS256"}, sign=hmac_with_public_key),
    "alg absent": forged({"typ": HEADER["typ"], "kid": KID}),
    "alg in lower case": forged({**HEADER, "alg": "ed25519"}),
    "another type": forged({**HEADER, "typ": "JWT"}),
    "no type": forged({"alg": "Ed25519", "kid": KID}),
    "unknown kid": forged({**HEADER, "kid": KID[::-1]}),
    "kid of a foreign key": forged({**HEADER, "kid": next(iter(parse(FOREIGN[1])))}),
    "kid is empty": forged({**HEADER, "kid": ""}),
    "kid is no text": forged({**HEADER, "kid": [KID]}),
    "a key in the header": forged(
        {**HEADER, "jwk": {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43}},
        sign=lambda data: ed25519(data, FOREIGN[0]),
    ),
    "foreign key under our kid": forged(sign=lambda data: ed25519(data, FOREIGN[0])),
    "another issuer": with_claims(iss="https://login.example.org"),
    "issuer in another case": with_claims(iss="BFF"),
    "several issuers": with_claims(iss=["bff"]),
    "an id that is empty": with_claims(jti=""),
    "an issuer, as none of the version before has": forged({"alg": "Ed25519", "typ": HEADER["typ"]}),
    "an unknown critical header": forged({**HEADER, "crit": ["x"], "x": 1}),
    "foreign key": forged(sign=lambda data: ed25519(data, token_key()[0])),
    "no signature": forged(sign=lambda _: b""),
    "signature of something else": forged(sign=lambda data: ed25519(data + b"x")),
    "longer than a minute": with_claims(exp=NOW_S + 61),
    "ends before it begins": with_claims(iat=NOW_S, exp=NOW_S),
    "expired": with_claims(iat=NOW_S - 60, exp=NOW_S),
    "from the future": with_claims(iat=NOW_S + 6, exp=NOW_S + 30),
    "several audiences": with_claims(aud=["access", "ingest"]),
    "no login": with_claims(sub=""),
    "login is no text": with_claims(sub=7),
    "times are text": with_claims(iat=str(NOW_S), exp=str(NOW_S + 60)),
    "times are booleans": with_claims(iat=True, exp=True),
    "time is a fraction": with_claims(exp=NOW_S + 59.5),
    "time is not a number": with_claims(exp=float("nan")),
    **{f"without {claim}": without(claim) for claim in CLAIMS},
    "claims are a list": forged(claims=[]),
    "header is a list": forged(header=[]),
    "too long": with_claims(sub="a" * 4000),
    "empty": "",
    "two parts": "a.b",
    "four parts": forged() + ".x",
    "not ASCII": forged() + "ü",
}


@pytest.mark.proves("SEC-14")
@pytest.mark.parametrize("token", REFUSED.values(), ids=REFUSED.keys())
def test_anything_else_is_refused_in_the_same_words(token: str) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        verify(token)
    assert refusal.value.sentence == "a valid user token is required"


@given(st.text(max_size=300))
def test_no_text_breaks_the_verifier(text: str) -> None:
    with pytest.raises(Unauthenticated):
        verify(text)


@given(st.data())
def test_no_changed_character_passes(data: st.DataObject) -> None:
    token = a_token()
    at = data.draw(st.integers(0, len(token) - 2))  # the last character holds bits that count for nothing
    other = data.draw(st.sampled_from("ABCxyz019-_.").filter(lambda character: character != token[at]))
    with pytest.raises(Unauthenticated):
        verify(token[:at] + other + token[at + 1 :])


def test_what_is_remembered_is_bounded() -> None:
    verifier = Verifier(Held(), SettableClock())
    for number in range(4200):
        verifier.verify(a_token(session=str(number)), ["access"])
    assert len(verifier._remembered) == 4096


@pytest.mark.proves("R11", part="a clock that was wrong is right again")
def test_a_new_token_is_good_as_soon_as_a_clock_that_was_ahead_is_corrected() -> None:
    wall = SettableClock()
    right = wall.time
    verifier = Verifier(Held(), MonotonicClock(wall.now))
    wall.time = right + timedelta(hours=1)
    with pytest.raises(Unauthenticated):
        verifier.verify(a_token(now=right), ["access"])
    wall.time = right + timedelta(seconds=5)
    assert verifier.verify(a_token(now=wall.time), ["access"]).login


# Keys that change


def signed_by(private: bytes) -> str:
    return mint(private, login="ada", session="s1", audience="access", now=NOW)


def counts(verifier: Verifier, token: str) -> bool:
    try:
        verifier.verify(token, ["access"])
    except Unauthenticated:
        return False
    return True


def test_a_token_of_the_version_before_counts_by_any_key() -> None:
    header = {"alg": "Ed25519", "typ": HEADER["typ"]}
    claims = {name: value for name, value in CLAIMS.items() if name not in ("iss", "jti")}
    verifier = Verifier(Held({**parse(FOREIGN[1]), **KEYS}), SettableClock())

    assert counts(verifier, forged(header, claims))
    assert counts(verifier, forged(header, claims, sign=lambda data: ed25519(data, FOREIGN[0])))


@pytest.mark.proves("SEC-14", part="the key of tokens changes")
def test_what_a_key_signed_counts_as_long_as_the_key_does_also_when_it_is_remembered() -> None:
    clock, held = SettableClock(), Held()
    verifier = Verifier(held, clock)
    old, new = signed_by(PRIVATE), signed_by(FOREIGN[0])

    def counting() -> list[bool]:
        clock.time += timedelta(seconds=LOOK_EVERY_S)
        return [counts(verifier, token) for token in (old, new)]

    assert [True, False] == counting()
    held.next = {**KEYS, **parse(FOREIGN[1])}
    assert [True, True] == counting()
    held.next = parse(FOREIGN[1])
    assert [False, True] == counting()


def test_keys_are_looked_for_once_a_second_whatever_the_clock_does() -> None:
    clock, held = SettableClock(), Held()
    verifier = Verifier(held, clock)
    for _ in range(5):
        counts(verifier, a_token())
    assert 0 == held.looks
    clock.time -= timedelta(hours=1)
    counts(verifier, a_token())
    assert 1 == held.looks


def test_each_token_has_an_id_of_its_own_and_names_its_key() -> None:
    issuer = Issuer(PRIVATE)
    minted = [issuer.mint(login="ada", session="s1", audience="access", now=NOW) for _ in range(2)]

    assert 2 == len(set(minted))
    assert json.loads(base64.urlsafe_b64decode(minted[0].split(".")[0] + "==")) == HEADER


def test_what_was_verified_with_keys_that_another_thread_has_just_replaced_is_not_remembered() -> None:
    class Replaced(Held):
        """Another thread sees other keys while this one verifies."""

        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            if name == "keys":
                self.keys = parse(FOREIGN[1])
            return value

    verifier = Verifier(Replaced(), SettableClock())
    token = mint(PRIVATE, login="ada", session="s1", audience="access", now=NOW)
    verifier.verify(token, ["access"])
    with pytest.raises(Unauthenticated):
        verifier.verify(token, ["access"])
