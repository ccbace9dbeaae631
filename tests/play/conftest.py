"""A server on the embedded model, with a run that has one relation's neurons; a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest

import broca
from broca.neurons import NeuronSet
from broca.play import Material, Serving
from broca.store import RunFolder
from play.plain_play import RELATION, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

RELATIONS = (RELATION, "person_father", "company_ceo")


@pytest.fixture(scope="session")
def model() -> broca.LanguageModel:
    return broca.LanguageModel.from_pretrained("atlas")


@pytest.fixture(scope="session")
def neurons(model: broca.LanguageModel) -> NeuronSet:
    """The neurons of one relation, by average precision."""
    relations = broca.load_relations("atlas", relations=list(RELATIONS))
    prompts = broca.render_fact_prompts(relations.split(n_evaluation=25, seed=0)[0])
    responses = broca.record_responses(model, prompts, sites=("gate", "up", "down"))
    labels = [prompt.relation for prompt in prompts]
    labelling = broca.draw_negatives(labels, RELATION, ratio=4, seed=0)
    scores = broca.score_expertise(responses, labelling.positive, labelling.included)
    return scores.top(600, name=RELATION)


@pytest.fixture(scope="session")
def run(model: broca.LanguageModel, neurons: NeuronSet, tmp_path_factory) -> Path:
    """A run with that set and a few prompts."""
    relations = broca.load_relations("atlas", relations=[RELATION])
    prompts = broca.render_fact_prompts(relations.split(n_evaluation=25, seed=0)[1])
    with RunFolder.begin(tmp_path_factory.mktemp("runs") / "run", {}) as folder:
        folder.save_set(neurons)
        folder.add_prompts(prompts)
        folder.write_environment({"model": "atlas", "fingerprint": model.identity.fingerprint})
    return folder.path


@pytest.fixture(scope="session")
def material(model: broca.LanguageModel, run: Path) -> Material:
    return Material.load(model, run=run)


@pytest.fixture(scope="session")
def server(material: Material) -> Iterator[Serving]:
    with Serving(material) as serving:
        serving.jobs.submit(lambda job: None, lambda event: None)
        idle(serving)  # it has measured how the model may be driven
        yield serving


def idle(server: Serving) -> None:
    """Wait until nothing runs: other tests use the same model in a thread of their own."""
    wait_for(lambda: server.jobs.length == 0)


@pytest.fixture
def client(server: Serving) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=300, trust_env=False) as client:
        yield client
    idle(server)


def find_browser() -> str | None:
    """The system's Chromium."""
    named = os.environ.get("BROCA_BROWSER", "")
    found = (
        shutil.which(name) for name in (named, "chromium", "chromium-browser", "google-chrome")
    )
    return next((path for path in found if path), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """A headless Chromium of the system; tests that need it are skipped where there is none.

    It ends with its driver, which waits for 30 seconds at most: to close it would wait for its
    crash handlers too, and those may outlive it for ever.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = find_browser()
    if path is None:
        pytest.skip("there is no Chromium here; install one, or name it in BROCA_BROWSER")
    with sync_api.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=path, args=["--no-sandbox"])


@pytest.fixture
def opened(browser: Browser, server: Serving) -> Iterator[Callable[..., Page]]:
    """Opens the page in a fresh profile; fails on any error, and on any request elsewhere."""
    contexts, wrong, asked = [], [], []

    def open_page(url: str = server.url, **options: Any) -> Page:
        context = browser.new_context(**options)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on(
            "console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: wrong.append(str(error)))
        context.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    idle(server)
    expected = "Failed to load resource"  # of refusals, which the page tells
    assert not [text for text in wrong if expected not in text]
    hosts = {urlsplit(url).hostname for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}
