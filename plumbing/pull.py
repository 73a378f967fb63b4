"""Pulling from a durable consumer: one message after the other, kept alive while it is in work."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import Header

from kernel.errors import Unavailable
from plumbing.stream import ACK_WAIT_S

_PULL_S = 2.0
"""How long a pull waits at the server. A server that restarts forgets it, so it is also the longest pause."""
_GRACE_S = 0.5
"""For the server to hear that a pull is withdrawn, or to say that nothing came."""


class Pull:
    """Takes one message after the other; `subject` is where the consumer hears requests for the next."""

    def __init__(self, client: Client, subscription: Subscription, subject: str) -> None:
        self._client = client
        self._subscription = subscription
        self._subject = subject
        self._request = msgspec.json.encode({"batch": 1, "expires": int(_PULL_S * 1e9)})

    async def next(self) -> Msg | None:
        """The next message, or None if none came for a while. Raises Unavailable if the pull was lost."""
        await self._client.publish(self._subject, self._request, reply=self._subscription.subject)
        message = await self._subscription.next_msg(timeout=_PULL_S + _GRACE_S)
        if (
            message.reply
        ):  # where it is acknowledged; the server's own word has none, whatever its headers say
            return message
        status = (message.headers or {}).get(Header.STATUS)
        if status == "408":  # nothing came
            return None
        raise Unavailable(f"the bus refuses a pull with status {status}")


@asynccontextmanager
async def in_progress(messages: Callable[[], Iterable[Msg]]) -> AsyncIterator[None]:
    """Tells NATS that these messages are in work or wait for it, so that nobody else is given them meanwhile.

    If the work is cancelled, they are handed back.
    """

    async def tell() -> None:
        while True:
            await asyncio.sleep(ACK_WAIT_S / 3)
            for message in messages():
                with suppress(nats.errors.Error):
                    await message.in_progress()

    telling = asyncio.create_task(tell())
    try:
        yield
    except asyncio.CancelledError:
        for message in messages():
            with suppress(nats.errors.Error):
                await message.nak(delay=_GRACE_S)  # until then our own pulls are withdrawn
        raise
    finally:
        telling.cancel()
