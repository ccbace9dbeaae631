"""The server: an address, a guard, one queue, and nothing that leaves the machine."""

from __future__ import annotations

import errno
import secrets
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse

from broca.choices.continuations import check_continuations
from broca.errors import PlayError
from broca.play.guard import LOOPBACK, Guard, Rules
from broca.play.jobs import Jobs
from broca.play.material import Material
from broca.play.routes import routes
from broca.play.threads import suited

EVERYWHERE = ("0.0.0.0", "::", "")


@dataclass(frozen=True)
class Address:
    """Where the server listens.

    Attributes:
        host: Name or number; loopback by default.
        port: 0 for any that is free.
        token: What every request must bring; drawn where the host is not loopback.
    """

    host: str = "127.0.0.1"
    port: int = 8642
    token: str = field(default="", repr=False)

    @classmethod
    def of(cls, host: str, port: int) -> Address:
        """An address, with a token where others can reach it."""
        return cls(host, port, "" if host in LOOPBACK else secrets.token_urlsafe(18))

    @property
    def rules(self) -> Rules:
        """Who may ask there."""
        hosts = () if self.host in EVERYWHERE else (*LOOPBACK, self.host)
        return Rules(hosts, self.token)

    def url(self, port: int) -> str:
        """What to open in a browser."""
        host = "localhost" if self.host in EVERYWHERE else self.host
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{port}/" + (f"?token={self.token}" if self.token else "")


def make_app(material: Material, jobs: Jobs, rules: Rules = Rules()) -> Starlette:  # noqa: B008
    """The application: routes behind their guard."""

    async def told(request: Request, error: Exception) -> JSONResponse:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return JSONResponse({"error": "There is no such page here."}, status)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        # it waits for the work at hand, and pages are to hear meanwhile that the server stops
        await run_in_threadpool(jobs.close)

    return Starlette(
        routes=routes(material, jobs, rules.token),
        middleware=[Middleware(Guard, rules=rules)],
        exception_handlers={404: told, 405: told},  # type: ignore[dict-item]
        lifespan=lifespan,
    )


class Serving:
    """A server that runs until it is closed, in a thread of its own.

    Args:
        material: What pages may use.
        address: Where; any free port of this machine by default.
        n_threads: See :func:`broca.play.threads.suited`, which gives it by default.

    Attributes:
        url: What to open in a browser.
    """

    def __init__(
        self,
        material: Material,
        address: Address = Address("127.0.0.1", 0),
        n_threads: int | None = None,
    ) -> None:
        self._socket = bind(address)
        self.url = address.url(self._socket.getsockname()[1])
        self.jobs = _jobs(material, n_threads)
        self._server = _Server(make_app(material, self.jobs, address.rules), self.jobs)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )

    def __enter__(self) -> Serving:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self.jobs.close()  # also where the server has not come so far as to do so


def serve(
    material: Material,
    address: Address,
    tell: Callable[[str], None],
    n_threads: int | None = None,
) -> None:
    """Serve until Ctrl-C.

    Args:
        material: What pages may use.
        address: Where.
        tell: Told the address to open, when it can be opened and Ctrl-C ends the server.
        n_threads: See :func:`broca.play.threads.suited`, which gives it by default.

    Raises:
        PlayError: The port is taken, or there is no such host.
    """
    listening = bind(address)
    url = address.url(listening.getsockname()[1])
    jobs = _jobs(material, n_threads)
    app = make_app(material, jobs, address.rules)
    try:
        _Server(app, jobs, lambda: tell(url)).run(sockets=[listening])
    finally:
        jobs.close()


def _jobs(material: Material, n_threads: int | None) -> Jobs:
    """The queue; how the model may be driven is measured before anybody asks."""
    model = material.model
    return Jobs(n_threads=n_threads or suited(model), prepare=lambda: check_continuations(model))


def bind(address: Address) -> socket.socket:
    """A socket that listens there.

    Raises:
        PlayError: The port is taken, or there is no such host.
    """
    where = f"{address.host}:{address.port}"
    try:
        family, kind, proto, _, place = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, proto)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(place)
            listening.listen()
        except OSError:
            listening.close()
            raise
    except (OSError, OverflowError) as error:
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        what = "the port is taken" if taken else f"cannot listen there: {error}"
        raise PlayError(what, where, "Choose another one with --port, 0 for any") from None
    return listening


class _Server(uvicorn.Server):
    """A server whose pages hear that it stops before their connections are closed.

    Args:
        app: The application.
        jobs: The queue.
        begun: Called when the server answers.
    """

    def __init__(self, app: Any, jobs: Jobs, begun: Callable[[], None] = lambda: None) -> None:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=2,
        )
        super().__init__(config)
        self._jobs, self._begun = jobs, begun

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._begun()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._jobs.end()
        await super().shutdown(sockets)
