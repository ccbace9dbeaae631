"""The slow, obvious twin of the page's answers: one row, no cache, one condition at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import httpx
import torch

import broca
from broca.interventions import Intervention

RELATION = "star_constellation"
PROMPT = "The star Iota Cancri A belongs to"
OFF = {"name": RELATION, "set": RELATION, "change": "off"}
ASKED = {"prompt": PROMPT, "form": "question", "answer": "Cancer"}


def answer_alone(
    model: broca.LanguageModel,
    text: str,
    answer: Sequence[int],
    changes: Sequence[Intervention],
    n_tokens: int,
) -> tuple[torch.Tensor, list[int], float]:
    """Next-token probabilities, greedy tokens, and log P of the answer, by whole passes."""

    def logits(ids: list[int], after: int) -> torch.Tensor:
        active = broca.intervene(model, *changes, after_prompt=after) if changes else nullcontext()
        with active:
            return model.logits(model.pad([ids]))[0, -1]

    prompt = model.encode([text])[0]
    first, ids = logits(prompt, 0), list(prompt)
    said: list[int] = []
    for step in range(n_tokens):
        said.append(int(logits(ids, step).argmax()))
        ids = [*prompt, *said]
    log_p = 0.0
    for place, token in enumerate(answer):
        log_p += float(logits([*prompt, *answer[:place]], place).log_softmax(-1)[token])
    return first.softmax(-1), said, log_p


def events(response: httpx.Response) -> list[tuple[str, Any]]:
    """The events of a stream that has ended."""
    assert response.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in response.text.split("\n\n"):
        told = [line for line in block.split("\n") if line and not line.startswith(":")]
        lines = dict(line.split(": ", 1) for line in told)
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def result(client: httpx.Client, route: str, content: Any) -> Any:
    """What a streamed route ends with."""
    kind, data = events(client.post(f"/api/{route}", json=content))[-1]
    assert kind == "result", data
    return data["value"]


def wait_for(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def refused(response: httpx.Response, words: str, status: int = 400) -> None:
    """A sentence, not a traceback."""
    assert response.status_code == status, response.text
    assert words in response.json()["error"]
    assert "Traceback" not in response.text


def lives_on(client: httpx.Client) -> None:
    """It answers as ever."""
    assert result(client, "answer", {**ASKED, "tokens": 1})["clean"]["text"]
