"""`broca play`: from a key to the edited answer, with five matched draws; memory over many edits.

1. In a real browser (where there is a Chromium): a letter is typed, and the time until the whole
   answer of the new prompt is drawn: untouched, edited, five draws, each with up to eight tokens.
   On a slow model the figures of the first token are drawn before; `first` is when.
2. The same without a browser: a request and its streamed answer.
3. The page's first paint in fresh profiles of that browser.
4. Resident memory of the server's process over 500 further edits.

All of it on atlas with one thread; 1 and 2 on SmolLM2 too (where its file is in models/), with the
threads that `broca play` takes there by default, or --threads.

Usage: python benchmarks/play.py [--edits N] [--real-edits N] [--threads N]
"""

from __future__ import annotations

import timing  # isort: skip  (before numpy)

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

import broca
from broca.neurons import NeuronIndex, NeuronSet, uniform_random
from broca.play import Material, Serving

SMOLLM2 = Path(__file__).parent.parent / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
PROMPTS = {"atlas": "The star Iota Cancri A belongs to", "smollm2": "The capital of France is"}
DRAWS = 5

_TYPE = """async ([text]) => {
  const field = document.getElementById("prompt");
  const edited = document.getElementById("edited");
  let first = null;
  const seen = new Promise((done) => {
    new MutationObserver((_, watcher) => {
      if (!answered?.edited || !answered.asked.includes(text)) return;
      first ??= performance.now() - start;
      if (edited.getAttribute("aria-busy") === "true") return;
      watcher.disconnect();
      requestAnimationFrame(() => done(performance.now() - start));
    }).observe(edited, { childList: true, attributes: true });
  });
  field.value = text;
  const start = performance.now();
  field.dispatchEvent(new Event("input", { bubbles: true }));
  return { whole: await seen, first };
}"""

_PAINT = """() => new Promise((done) => {
  const name = "first-contentful-paint";
  const told = (list) => list.getEntriesByName(name).forEach((one) => done(one.startTime));
  new PerformanceObserver(told).observe({ type: "paint", buffered: true });
  setTimeout(() => done(null), 10000);
})"""


def neurons_of(model: broca.LanguageModel) -> NeuronSet:
    """Some 3,000 neurons of three sites, or a tenth of them: the size of the relation paper's."""
    index = NeuronIndex(model.identity, ("gate", "up", "down"))
    return uniform_random(index, min(3000, len(index) // 10), 0, name="a set")


def asked(prompt: str) -> dict[str, Any]:
    chip = {"name": "a set", "set": "a set", "change": "off"}
    return {"prompt": prompt, "form": "question", "chips": [chip], "draws": DRAWS}


def edit(client: httpx.Client, prompt: str) -> dict[str, Any]:
    """One edited answer; the result of its stream."""
    text = client.post("/api/answer", json=asked(prompt)).text
    kind, data = text.strip().split("\n\n")[-1].split("\n")
    assert kind == "event: result", text[-300:]
    return json.loads(data.removeprefix("data: "))["value"]


def measure(act: Callable[[int], float | None], n: int) -> dict[str, float]:
    """Median and slowest of `n` times, milliseconds, with CPU time of this process."""
    walls, cpus = [], []
    for number in range(n):
        wall, cpu = time.perf_counter(), time.process_time()
        told = act(number)
        walls.append(1000 * (time.perf_counter() - wall) if told is None else told)
        cpus.append(1000 * (time.process_time() - cpu))
    return {
        "median_ms": round(statistics.median(walls), 1),
        "slowest_ms": round(max(walls), 1),
        "median_cpu_ms": round(statistics.median(cpus), 1),
    }


@contextmanager
def served(name: str, n_threads: int | None) -> Iterator[tuple[Serving, httpx.Client]]:
    """A server on a model with one set, and a client that has asked three times."""
    model = broca.LanguageModel.from_pretrained("atlas" if name == "atlas" else str(SMOLLM2))
    material = Material(model, sets={"a set": neurons_of(model)})
    with (
        Serving(material, n_threads=n_threads) as serving,
        httpx.Client(base_url=serving.url, timeout=600, trust_env=False) as client,
    ):
        for _ in range(3):
            edit(client, PROMPTS[name])
        yield serving, client


def by_request(client: httpx.Client, name: str, n: int) -> dict[str, float]:
    def act(number: int) -> None:
        assert len(edit(client, f"{PROMPTS[name]} {number}")["draws"]) == DRAWS

    return measure(act, n)


@contextmanager
def browsed() -> Iterator[Any]:
    """A headless browser; None where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        yield None
        return
    with sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=path, args=["--no-sandbox"])


def by_key(browser: Any, serving: Serving, name: str, n: int) -> dict[str, float]:
    """From a key in the prompt to the answer on the page."""
    page = browser.new_page()
    page.goto(serving.url)
    page.get_by_label("Form of asking").select_option("question")
    page.get_by_label("A neuron set", exact=True).fill("a set")
    page.get_by_role("button", name="Use this set").click()
    for number in range(3):
        page.evaluate(_TYPE, [f"{PROMPTS[name]} warm {number}"])
    firsts = []

    def act(number: int) -> float:
        told = page.evaluate(_TYPE, [f"{PROMPTS[name]} {number}"])
        firsts.append(told["first"])
        return told["whole"]

    found = measure(act, n)
    page.close()
    return {**found, "median_first_ms": round(statistics.median(firsts), 1)}


def first_paint(browser: Any, n: int = 10) -> dict[str, float]:
    """First contentful paint in fresh profiles, each on a server that nobody has asked before.

    It has the facts of real models to offer, 47 relations.
    """
    model = broca.LanguageModel.from_pretrained("atlas")
    relations = broca.load_relations("lre")

    def act(_: int) -> float:
        material = Material(model, relations=relations)  # nothing of it was made for a page before
        with Serving(material, n_threads=1) as serving:
            httpx.get(f"{serving.url}api/queue", trust_env=False)  # it listens
            page = browser.new_page()
            page.goto(serving.url)
            told = page.evaluate(_PAINT)
            page.close()
        assert told is not None, "the browser reported no paint"
        return told

    act(0)  # the browser's own first page
    return measure(act, n)


def resident_mib() -> float:
    """Memory of this process now, MiB; its peak where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return timing.peak_memory_mib()
    return pages * resource.getpagesize() / (1 << 20)


def memory(client: httpx.Client, n: int) -> dict[str, float]:
    """Resident memory after a tenth of the edits and after all of them."""
    at = {}
    for number in range(n + 1):
        if number in (n // 10, n):
            at[number] = resident_mib()
        if number < n:
            edit(client, f"{PROMPTS['atlas']} {number % 50}")
    return {
        "edits": n,
        "mib_early": round(at[n // 10], 1),
        "mib_late": round(at[n], 1),
        "growth_mib": round(at[n] - at[n // 10], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edits", type=int, default=500, help="edits over which memory is read")
    parser.add_argument("--real-edits", type=int, default=10, help="edits on SmolLM2")
    parser.add_argument("--threads", type=int, help="on SmolLM2")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"load_average": round(os.getloadavg()[0], 1)}

    def note(name: str, value: Any) -> None:
        result[name] = value
        print(f"{name}: {value}", file=sys.stderr)  # kept if the rest is broken off

    with browsed() as browser:
        if browser is None:
            note("browser", "there is no Chromium here, or playwright is not installed")
        with served("atlas", 1) as (serving, client):
            note("atlas_request", by_request(client, "atlas", 40))
            if browser is not None:
                note("atlas_key", by_key(browser, serving, "atlas", 40))
                note("first_paint", first_paint(browser))
            note("memory", memory(client, arguments.edits))
        if SMOLLM2.exists() and (n := arguments.real_edits):
            with served("smollm2", arguments.threads) as (serving, client):
                note("smollm2_threads", arguments.threads or "those that suit")
                note("smollm2_request", by_request(client, "smollm2", n))
                if browser is not None:
                    note("smollm2_key", by_key(browser, serving, "smollm2", n))
    timing.print_table(("what", "measured"), list(result.items()))
    timing.print_result(result)


if __name__ == "__main__":
    main()
