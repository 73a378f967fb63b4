"""Where browsers reach us, and what somebody is told whose request is none."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.web_request import BaseRequest

from kernel.errors import Unavailable
from plumbing import log

_ENDS_WITHIN_S = 1.0
_AGAIN = "this was no request that we understand: load the page again\n"

_log = log.get()


@asynccontextmanager
async def listening(
    application: web.Application,
    address: str,
    tls: ssl.SSLContext | None,
    of_refusals: Mapping[str, str],
    drain_s: float,
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Serves the pages within the block; raises Unavailable if it cannot listen.

    What it gives takes nobody new, and waits until answers under way have ended.

    Args:
        of_refusals: headers of the answer to what is no request; the host that was asked is not known then.
        drain_s: how long these may take.
    """
    # aiohttp waits so long twice: for the handlers, and once what they read is cut off.
    runner = web.AppRunner(application, shutdown_timeout=max(_ENDS_WITHIN_S, drain_s / 2))
    await runner.setup()
    server, loop = runner.server, asyncio.get_running_loop()
    assert server is not None, "it has been set up"
    host, _, port = address.rpartition(":")
    try:
        listener = await loop.create_server(
            lambda: _Connection(server, loop, of_refusals), host.strip("[]"), int(port), ssl=tls
        )
    except OSError as error:
        await runner.cleanup()
        raise Unavailable(f"cannot listen on `{address}`: taken, or not an address of ours") from error

    async def end() -> None:
        listener.close()
        await runner.cleanup()

    try:
        yield end
    finally:
        await end()


class _Connection(web.RequestHandler):
    """One connection. What is no request is neither repeated to its sender nor logged: it may be anything."""

    __slots__ = ("_of_refusals",)

    def __init__(
        self, server: web.Server, loop: asyncio.AbstractEventLoop, of_refusals: Mapping[str, str]
    ) -> None:
        super().__init__(server, loop=loop, access_log=None)  # type: ignore[arg-type]  # as AppRunner does
        self._of_refusals = of_refusals

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        _log.info("no request that we understand", kind=type(exc).__name__, status=status)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way")
        response = _Refusal(text=_AGAIN, status=status, headers=self._of_refusals)
        response.force_close()
        return response


class _Refusal(web.Response):
    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Server", None)
