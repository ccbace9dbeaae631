"""What stands before every request: whose page may ask, how much, and what a browser may do.

- The `Host` header must name this server: a page elsewhere whose name is pointed at this machine
  (DNS rebinding) is refused.
- An `Origin` header, where there is one, must be this server's own; no CORS header is ever sent.
- Off loopback a token must come with every request: in the address of the page, then in a header.
- A body must be JSON and small.
- The page may load nothing from elsewhere, be framed by nobody, and tell nobody its address.
"""

from __future__ import annotations

import secrets
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_BYTES = 1 << 20
TOKEN_HEADER = "x-broca-token"

_ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


def content_policy(nonce: str) -> str:
    """What the page may load and run: its own script and style, and requests to this server."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


@dataclass(frozen=True)
class Rules:
    """Who may ask.

    Attributes:
        hosts: Names by which the server may be called; empty where the token alone decides.
        token: What every request must bring; empty on loopback.
    """

    hosts: tuple[str, ...] = LOOPBACK
    token: str = ""


class Guard:
    """Refuses requests before any route sees them."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self.app, self.rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refusal(scope)
        if refused is not None:
            status, text = refused
            await JSONResponse({"error": text}, status)(scope, receive, send_guarded)
            return
        await self.app(scope, _limited(receive), send_guarded)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.rules.hosts and _name(host) not in map(str.lower, self.rules.hosts):
            return 403, f"This server is not called {host[:80]!r}."
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return 403, "A page of another origin may not ask this server."
        if not self._knows_token(scope, headers):
            return 403, "The token is missing or wrong. Open the whole address that was printed."
        if scope["method"] == "POST":
            if (
                headers.get("content-type", "").partition(";")[0].strip().lower()
                != "application/json"
            ):
                return 415, "A request is JSON."
            length = headers.get("content-length", "0")
            if not length.isdecimal() or int(length) > MOST_BYTES:
                return 413, f"A request has at most {MOST_BYTES:,} bytes."
        return None

    def _knows_token(self, scope: Scope, headers: Headers) -> bool:
        if not self.rules.token:
            return True
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])
        given = headers.get(TOKEN_HEADER) or asked[0]
        return secrets.compare_digest(given.encode(), self.rules.token.encode())


def _limited(receive: Receive) -> Receive:
    """Hand on at most so many bytes of a body, whatever its length was said to be."""
    seen = 0

    async def limited() -> MutableMapping[str, Any]:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MOST_BYTES:
            return {"type": "http.disconnect"}
        return message

    return limited


def _name(host: str) -> str:
    """The name in a Host header, without its port, in small letters: browsers send it so."""
    host = host.lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host
