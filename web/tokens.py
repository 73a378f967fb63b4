"""Tokens for the services: minted for who is signed in, one for each session and service, in memory alone."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta

from kernel.clock import Clock
from plumbing import minting
from web.domain import Session

_acting: ContextVar[Session | None] = ContextVar("acting", default=None)

_GOOD_FOR = timedelta(seconds=minting.MAX_LIFETIME_S - 20)
"""A token is replaced 20 s before its end, so that a call never begins with one that is about to end."""

_KEPT = 4096


@contextmanager
def acting(session: Session | None) -> Iterator[None]:
    """What is asked within is asked for this person; without a session for the web itself."""
    before = _acting.set(session)
    try:
        yield
    finally:
        _acting.reset(before)


class Mint:
    """Mints tokens with the private key, which only the web has."""

    def __init__(self, issuer: minting.Issuer, clock: Clock) -> None:
        self._issuer = issuer
        self._clock = clock
        self._minted: OrderedDict[tuple[str, str, str], tuple[datetime, str]] = OrderedDict()

    def token(self, audience: str) -> str | None:
        """A token of who acts, for one service; None if nobody does."""
        session = _acting.get()
        if session is None:
            return None
        now = self._clock.now()
        key = session.person.login, str(session.session_id), audience
        minted_at, token = self._minted.get(key, (None, ""))
        if minted_at is None or now - minted_at >= _GOOD_FOR:
            token = self._issuer.mint(
                login=session.person.login,
                session=str(session.session_id),
                audience=audience,
                now=now,
            )
            self._minted[key] = now, token
            self._minted.move_to_end(key)
            if len(self._minted) > _KEPT:
                self._minted.popitem(last=False)
        return token

    def forget(self, session: Session) -> None:
        """Drops the tokens of a session that ends."""
        gone = [key for key in self._minted if key[1] == str(session.session_id)]
        for key in gone:
            del self._minted[key]
