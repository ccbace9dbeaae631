"""`broca play`: from a key to the edited answer, with five matched draws; memory over many edits.

1. In a real browser (where there is a Chromium): a letter is typed, and the time until the three
   answers on the page are those of the new prompt.
2. The same without a browser: a request and its streamed answer.
3. On SmolLM2 (where its file is in models/): the request alone.
4. Resident memory of the server's process over 500 further edits.

Usage: python benchmarks/play.py [--edits N] [--real-edits N]
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
  const seen = new Promise((done) => {
    new MutationObserver((_, watcher) => {
      if (answered && answered.edited && answered.asked.includes(text)) {
        watcher.disconnect();
        requestAnimationFrame(() => done(performance.now()));
      }
    }).observe(document.getElementById("edited"), { childList: true });
  });
  field.value = text;
  const start = performance.now();
  field.dispatchEvent(new Event("input", { bubbles: true }));
  return (await seen) - start;
}"""


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
def served(name: str) -> Iterator[tuple[Serving, httpx.Client]]:
    """A server on a model with one set, and a client that has asked once."""
    model = broca.LanguageModel.from_pretrained("atlas" if name == "atlas" else str(SMOLLM2))
    material = Material(model, sets={"a set": neurons_of(model)})
    with (
        Serving(material) as serving,
        httpx.Client(base_url=serving.url, timeout=600, trust_env=False) as client,
    ):
        for _ in range(3):
            edit(client, PROMPTS[name])
        yield serving, client


def by_request(client: httpx.Client, name: str, n: int) -> dict[str, float]:
    def act(number: int) -> None:
        assert len(edit(client, f"{PROMPTS[name]} {number}")["draws"]) == DRAWS

    return measure(act, n)


def by_key(serving: Serving, n: int) -> dict[str, float] | str:
    """In a browser; why not where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return "playwright is not installed"
    if path is None:
        return "there is no Chromium here"
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(serving.url)
        paint = page.evaluate(
            "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
        )
        page.get_by_label("Form of asking").select_option("question")
        page.get_by_label("A neuron set", exact=True).fill("a set")
        page.get_by_role("button", name="Use this set").click()
        for number in range(3):
            page.evaluate(_TYPE, [f"{PROMPTS['atlas']} warm {number}"])
        found = measure(lambda i: page.evaluate(_TYPE, [f"{PROMPTS['atlas']} {i}"]), n)
        browser.close()
    return {**found, "first_paint_ms": round(paint, 1) if paint is not None else -1.0}


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
    arguments = parser.parse_args()
    result: dict[str, Any] = {"load_average": round(os.getloadavg()[0], 1)}

    def note(name: str, value: Any) -> None:
        result[name] = value
        print(f"{name}: {value}", file=sys.stderr)  # kept if the rest is broken off

    with served("atlas") as (serving, client):
        note("atlas_request", by_request(client, "atlas", 40))
        note("atlas_key", by_key(serving, 40))
        note("memory", memory(client, arguments.edits))
    if SMOLLM2.exists() and arguments.real_edits:
        with served("smollm2") as (_, client):
            note("smollm2_request", by_request(client, "smollm2", arguments.real_edits))
    timing.print_table(("what", "measured"), list(result.items()))
    timing.print_result(result)


if __name__ == "__main__":
    main()
