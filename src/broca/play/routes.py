"""The routes: a page, what it asks for at once, and what waits in the queue and is streamed.

Streams are server-sent events: `event` is the kind of a :data:`broca.play.jobs.Event`, `data` its
JSON. A page leaves a job by closing its stream.
"""

from __future__ import annotations

import asyncio
import json
import math
import secrets
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from broca.errors import BrocaError, PlayError
from broca.neurons.set_file import content_of
from broca.play.editing import answer
from broca.play.facts import list_facts
from broca.play.finding import find
from broca.play.guard import content_policy
from broca.play.jobs import Event, Job, Jobs
from broca.play.keeping import code, joined_set
from broca.play.looking import look
from broca.play.material import Material
from broca.play.page import page_html
from broca.play.state import FactsAsked, NeuronAsked, SetAsked, State, read_asked, refusal
from broca.progress import tell
from broca.reading import parse_json

Asked = TypeVar("Asked", bound=BaseModel)
_ENDS = ("result", "error", "stopped")
_BEAT_SECONDS = 10.0  # between two signs of life of a stream


def routes(material: Material, jobs: Jobs, token: str = "") -> list[Route]:
    """Every route of the server.

    Args:
        material: What pages may use.
        jobs: The queue.
        token: What pages must send with every request; empty where none is needed.
    """

    async def page(request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        html = page_html(material, nonce=nonce, token=token)
        return HTMLResponse(html, headers={"content-security-policy": content_policy(nonce)})

    async def queue(request: Request) -> Response:
        return JSONResponse({"length": jobs.length, "model": material.model.name})

    work = {  # what is asked, what is done, whether it is brief
        "answer": (State, answer, True),
        "find": (State, find, False),
        "neuron": (NeuronAsked, look, False),
    }
    at_once = {
        "facts": (FactsAsked, list_facts),
        "code": (State, code),
        "set": (SetAsked, _set_content),
        "save": (SetAsked, _save),
    }
    asked = {
        name: _streamed(kind, partial(do, material), jobs, brief)
        for name, (kind, do, brief) in work.items()
    } | {name: _answered(kind, partial(do, material)) for name, (kind, do) in at_once.items()}
    return [
        Route("/", _careful(page), methods=["GET"]),
        Route("/api/queue", _careful(queue), methods=["GET"]),
        *(
            Route(f"/api/{name}", _careful(handle), methods=["POST"])
            for name, handle in asked.items()
        ),
    ]


def _set_content(material: Material, asked: SetAsked) -> dict[str, Any]:
    """The content of the file of a set."""
    neurons = joined_set(material, asked)
    return {"name": neurons.name, "size": len(neurons), "file": content_of(neurons)}


def _save(material: Material, asked: SetAsked) -> dict[str, Any]:
    """Keep a set where the server keeps sets; the name it has from now on."""
    neurons = joined_set(material, asked)
    name = material.keep(neurons)
    return {"name": name, "size": len(neurons), "path": str(material.files[name])}


async def _read(request: Request, kind: type[Asked]) -> Asked:
    """What is asked for.

    Raises:
        PlayError: The body is no JSON, too long, or asks for something else.
    """
    try:
        body = await request.body()
    except ClientDisconnect:
        raise PlayError("the request is too long") from None
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise PlayError("the request is no UTF-8") from None
    return read_asked(kind, parse_json(text, "request", PlayError))


Handler = Callable[[Request], Awaitable[Response]]


def _careful(handle: Handler) -> Handler:
    """The route, with a sentence for whatever goes wrong in it."""

    async def careful(request: Request) -> Response:
        try:
            return await handle(request)
        except BrocaError as error:
            return _json({"error": refusal(error)}, 400)
        except Exception as error:  # the server lives on, and says what happened
            tell("".join(traceback.format_exception(error)))
            return _json({"error": refusal(error, "The server failed")}, 500)

    return careful


def _answered(kind: type[Asked], do: Callable[[Asked], Any]) -> Handler:
    """A route that answers at once."""

    async def handle(request: Request) -> Response:
        asked = await _read(request, kind)
        return _json(await run_in_threadpool(do, asked))

    return handle


def _streamed(
    kind: type[Asked], do: Callable[[Asked, Job], Any], jobs: Jobs, brief: bool
) -> Handler:
    """A route whose work waits in the queue."""

    async def handle(request: Request) -> Response:
        loop = asyncio.get_running_loop()
        heard: asyncio.Queue[Event] = asyncio.Queue()

        def hear(event: Event) -> None:
            with suppress(RuntimeError):  # the loop has ended, and whoever listened with it
                loop.call_soon_threadsafe(heard.put_nowait, event)

        asked = await _read(request, kind)
        return Listening(jobs, jobs.submit(partial(do, asked), hear, brief=brief), heard)

    return handle


class Listening(StreamingResponse):
    """The events of a job as text; the job is left when nobody reads them any more.

    Args:
        jobs: The queue.
        job: The job.
        heard: Its events.
    """

    def __init__(self, jobs: Jobs, job: Job, heard: asyncio.Queue[Event]) -> None:
        super().__init__(_events(heard), media_type="text/event-stream")
        self._leave = partial(jobs.leave, job)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:  # here, since events that nobody has begun to read end with nothing
            self._leave()


async def _events(heard: asyncio.Queue[Event]) -> AsyncIterator[bytes]:
    """Events as text, to the first that ends a job.

    Not by `asyncio.wait_for`, which loses a cancellation that comes together with an event.
    """
    while True:
        try:
            async with asyncio.timeout(_BEAT_SECONDS):
                event = await heard.get()
        except TimeoutError:
            yield b": alive\n\n"
            continue
        plain = {key: value for key, value in event.items() if key != "kind"}
        yield f"event: {event['kind']}\ndata: {_dumped(plain)}\n\n".encode()
        if event["kind"] in _ENDS:
            return


def _json(value: Any, status: int = 200) -> Response:
    return Response(_dumped(value), status, media_type="application/json")


def _dumped(value: Any) -> str:
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    """JSON knows neither NaN nor infinity."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
