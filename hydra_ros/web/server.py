# SPDX-License-Identifier: Apache-2.0
"""The page's files and its WebSocket over HTTP, for those who may have them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import WSCloseCode, web

from hydra_ros.web import security
from hydra_ros.web.browser import Browser, take_leave
from hydra_ros.web.hub import Hub
from hydra_ros.web.protocol import MAX_MESSAGE, MAX_NAME

STATIC = Path(__file__).parent / "static"
MAX_BROWSERS = 16
HEARTBEAT = 20.0  # s between pings: finds networks that broke without a word

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address may hold the token
    "Cache-Control": "no-cache",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Serves one hub.

    Args:
        token: needed by everyone where it is not "".
        stall: seconds after which a browser that takes nothing is closed.
        log: gets a line about every browser that is refused or closed.
    """

    def __init__(self, hub: Hub, token: str, stall: float, log: Callable[[str], None]) -> None:
        self._hub = hub
        self._token = token
        self._stall = stall
        self._log = log

    def application(self) -> web.Application:
        """Return the application."""
        application = web.Application(middlewares=[self._guard], client_max_size=MAX_MESSAGE)
        application.on_shutdown.append(self._end)
        application.router.add_get("/", self._page)
        application.router.add_get("/socket", self._socket)
        application.router.add_get("/{name:.+}", self._file)
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = security.host_refusal(request.host, self._token)
        if refusal:
            return self._refuse(request, 403, refusal)
        if self._token:
            given = request.query.get("token") or request.cookies.get(self._cookie(request))
            if not security.same_token(given, self._token):
                return self._refuse(
                    request, 401, "open the page with its token: /?token=... as it was printed"
                )
        response = await handler(request)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    async def _page(self, request: web.Request) -> web.StreamResponse:
        response = web.FileResponse(STATIC / "index.html")
        if self._token:
            # From now on in a cookie; the page takes the token out of the address bar. No
            # redirect: a strict cookie does not follow one that another site's link began.
            response.set_cookie(
                self._cookie(request), self._token, httponly=True, samesite="Strict"
            )
        return response

    async def _file(self, request: web.Request) -> web.StreamResponse:
        # Among the names that there are: what a browser sends need not be one for a file system.
        name = request.match_info["name"]
        for path in STATIC.iterdir():
            if path.name == name:
                return web.FileResponse(path)
        shown = name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}..."
        return web.Response(status=404, text=f"there is no file {shown!r} here\n")

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        refusal = security.origin_refusal(request.headers.get("Origin"), request.host)
        if refusal:
            return self._refuse(request, 403, refusal)
        if len(self._hub.browsers) >= MAX_BROWSERS:
            return self._refuse(request, 503, f"{MAX_BROWSERS} browsers are connected already")
        socket = web.WebSocketResponse(
            max_msg_size=MAX_MESSAGE, heartbeat=HEARTBEAT, compress=False, timeout=1.0
        )
        if not socket.can_prepare(request):
            return self._refuse(request, 400, "a WebSocket is expected here")
        await socket.prepare(request)
        transport = request.transport
        browser = Browser(socket, self._hub, self._stall)
        self._hub.enter(browser)
        closed = None
        try:
            closed = await browser.run()
        finally:
            self._hub.leave(browser)
            await take_leave(socket, transport, closed)
        if closed and closed.code != WSCloseCode.GOING_AWAY:
            self._log(f"browser {request.remote} closed with {closed.code:d}: {closed}")
        return socket

    async def _end(self, application: web.Application) -> None:
        for browser in self._hub.browsers:
            browser.end()

    def _refuse(self, request: web.Request, status: int, reason: str) -> web.Response:
        self._log(f"browser {request.remote} refused with {status}: {reason}")
        return web.Response(status=status, text=reason + "\n", headers=HEADERS)

    def _cookie(self, request: web.Request) -> str:
        # Cookies know no ports: two servers on one machine must not overwrite each other's.
        port = request.transport.get_extra_info("sockname")[1] if request.transport else 0
        return f"hydra_web_{port}"
