"""The page in a real browser, on the embedded model."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from broca.neurons import NeuronSet
from broca.play import Serving
from play.page_steps import (
    Opened,
    choose_fact,
    expect,
    find,
    settled,
    type_prompt,
    use_set,
    words,
)
from play.plain_play import PROMPT, RELATION, wait_for


def test_type_a_prompt_and_see_the_answer(opened: Opened):
    page = opened()
    type_prompt(page)
    first = page.locator(".said button").first
    expect(first).to_contain_text("Cancer")
    expect(first).to_have_attribute("aria-pressed", "true")
    second = page.locator(".said button").nth(1)
    second.click()
    expect(second).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#answered .bar")).to_have_count(8)


def test_a_set_takes_the_answer_and_the_matched_band_stays(opened: Opened):
    page = opened()
    type_prompt(page)
    use_set(page)
    assert words(page, "clean") == "Cancer"
    assert words(page, "edited") != "Cancer"
    assert words(page, "matched") == "Cancer"
    verdict = page.locator(".verdict")
    expect(verdict).to_contain_text("the edit lies below all of them")
    expect(verdict).to_contain_text("about 2 in 6 edits lie outside of 5 draws, below or above")
    expect(page.locator(".matching")).to_contain_text("not matched on activation")
    expect(page.locator(".circular")).to_have_count(0)
    bar = page.locator("#edited .bar").filter(has_text="Cancer").first
    expect(bar.locator(".change")).to_contain_text("matched 9")  # what the band says, in words
    band = bar.locator(".band").evaluate("e => parseFloat(e.style.left)")
    edited = bar.locator(".mark.edited").evaluate("e => parseFloat(e.style.width)")
    assert edited < 50 < 90 < band
    page.get_by_label(f"What is done with {RELATION}").select_option("scale")
    page.get_by_label(f"Factor of {RELATION}").fill("1")
    expect(page.locator(".side.edited .words")).to_have_text("Cancer")
    page.get_by_label(f"Remove {RELATION}").click()
    expect(page.locator("#edited")).to_contain_text("Use a set")


def test_find_click_save_and_reload_the_link(opened: Opened, run: Path):
    page = opened()
    type_prompt(page)
    find(page)
    expect(page.get_by_role("heading", name="Where the answer is made")).to_be_visible()
    button = page.locator("#found tbody button").first
    name = button.inner_text()
    button.click()
    expect(page.locator(".chip .name")).to_have_text(name)
    point = page.locator("#found path.point").last
    clicked = (point.locator("title").text_content() or "").split(" ")[0]
    point.dispatch_event("click")
    expect(page.locator(".chip")).to_have_count(1 if clicked == name else 2)
    page.get_by_role("button", name="Use the first 20").click()
    expect(page.get_by_role("heading", name="Matched random, 5 draws")).to_be_visible()
    page.get_by_label("Name of a set").fill("found here")
    page.get_by_role("button", name="Save the set").click()
    expect(page.locator("#kept")).to_contain_text("neurons saved")
    saved = NeuronSet.load(run / "made" / "found here.json")
    assert str(next(iter(saved))) == name
    expect(page.locator(".circular")).to_contain_text("on this very prompt")
    settled(page)
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#kept")).to_have_text("The link copied.")
    link = page.evaluate("navigator.clipboard.readText()")
    before = page.locator("#edited").inner_text()
    again = opened(link)
    expect(again.get_by_label("Prompt", exact=True)).to_have_value(PROMPT)
    expect(again.locator("#edited .sides")).to_be_visible()
    settled(again)
    assert again.locator("#edited").inner_text() == before
    again.get_by_label("Prompt", exact=True).fill("The star Alpha Leonis belongs to")
    expect(again.locator(".circular")).to_have_count(0)  # on another prompt it is a test
    use_set(again, "made/found here")
    expect(again.locator(".chip").last).to_contain_text(f"{len(saved)} neurons")
    again.get_by_label("Prompt", exact=True).fill(PROMPT)
    expect(again.locator(".circular")).to_contain_text("made/found here")


def test_stop_a_long_search(opened: Opened, server: Serving):
    page = opened()
    type_prompt(page)
    page.get_by_label("Method").select_option("hard-concrete")
    page.get_by_role("button", name="Find neurons").click()
    expect(page.locator("#find-words")).to_contain_text("left")
    expect(page.get_by_role("button", name="Stop")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#found")).to_have_text("Stopped.")
    expect(page.get_by_role("button", name="Find neurons")).to_be_focused()
    wait_for(lambda: server.jobs.length == 0)
    page.get_by_label("Answer to measure").fill("Leo")  # the page goes on
    expect(page.locator("#answered .said")).to_be_visible()


def test_two_tabs_do_not_mix(opened: Opened):
    one, other = opened(), opened()
    type_prompt(one)
    other.get_by_label("Prompt", exact=True).fill("The father of Isaac Newton is")
    use_set(one)
    one.get_by_role("button", name="Find neurons").click()  # keeps the model busy
    other.get_by_label("Form of asking").select_option("question")
    asked = other.locator("#answered .asked")
    expect(asked).to_have_text("The father of Isaac Newton is? Answer:")
    expect(other.locator(".chip")).to_have_count(0)
    expect(one.locator("#answered .asked")).to_have_text(f"{PROMPT}? Answer:")
    expect(one.get_by_role("heading", name="Where the answer is made")).to_be_visible()
    expect(other.locator("#found")).to_be_empty()


def test_a_neuron(opened: Opened, neurons: NeuronSet):
    page = opened()
    first = str(next(iter(neurons)))
    page.get_by_label("Neuron", exact=True).fill(first)
    page.get_by_label("Neuron", exact=True).press("Enter")
    panel = page.locator("#looked")
    expect(panel.get_by_role("heading", name="Where it is strongest")).to_be_visible()
    expect(panel.get_by_text("Sets that hold it", exact=True)).to_be_visible()
    assert panel.locator(".fires .here").count() >= 1
    expect(panel.get_by_role("heading", name="Layers of the sets that hold it")).to_be_visible()
    page.get_by_label("Neuron", exact=True).fill("hidden:77:1")
    page.get_by_role("button", name="Look at it").click()
    expect(page.locator("#trouble")).to_contain_text("no layer 77")


def test_a_fact_is_chosen(opened: Opened):
    page = opened()
    page.get_by_text("Choose a fact or question").click()
    page.get_by_label("From").select_option(RELATION)
    choose_fact(page, "Iota Cancri")
    expect(page.get_by_label("Answer to measure")).to_have_value("Cancer")
    expect(page.locator("#answered .said")).to_contain_text("Cancer")
    page.get_by_label("Form of asking").select_option("few-shot")
    page.locator("#facts button").first.click()
    shots = page.get_by_label("Lines shown before it")
    expect(shots).to_be_visible()
    assert len(shots.input_value().splitlines()) == 4


def test_what_is_taken_away(opened: Opened, tmp_path: Path):
    page = opened()
    type_prompt(page)
    use_set(page)
    page.get_by_role("button", name="Copy as Python").click()
    expect(page.locator("#code")).to_contain_text("matched_together(sets, seed)")
    page.get_by_role("button", name="Copy as command").click()
    expect(page.locator("#code")).to_contain_text("broca ask")
    with page.expect_download() as state:
        page.get_by_role("button", name="State as JSON").click()
    kept = json.loads(Path(state.value.path()).read_text(encoding="utf-8"))
    assert kept["prompt"] == PROMPT
    with page.expect_download() as table:
        page.get_by_role("button", name="Answers as CSV").click()
    written = Path(table.value.path()).read_text(encoding="utf-8")
    assert "matched 4," in written
    assert f"prompt,{PROMPT}? Answer:\n" in written
    page.get_by_label("Name of a set").fill("mine")
    with page.expect_download() as neurons:
        page.get_by_role("button", name="Download the set").click()
    path = tmp_path / "mine.json"
    neurons.value.save_as(path)
    assert len(NeuronSet.load(path)) == 600
    other = opened()
    (tmp_path / "state.json").write_text(json.dumps(kept), encoding="utf-8")
    other.get_by_label("Open a state").set_input_files(tmp_path / "state.json")
    expect(other.locator(".side.edited")).to_be_visible()
    settled(other)
    assert words(other, "edited") == words(page, "edited")
    other.get_by_label("A file").set_input_files(path)
    expect(other.locator(".chip")).to_have_count(2)
    (tmp_path / "bad.json").write_text("{}", encoding="utf-8")
    other.get_by_label("A file").set_input_files(tmp_path / "bad.json")
    expect(other.locator("#trouble")).to_contain_text("is no neuron set")


def test_what_was_found_says_for_which_prompt(opened: Opened):
    page = opened()
    type_prompt(page)
    find(page)
    page.get_by_label("Prompt", exact=True).fill("The father of Isaac Newton is ")
    page.get_by_label("Form of asking").select_option("cloze")
    expect(page.locator("#answered")).to_contain_text("It ends in white space")
    expect(page.locator("#found .asked")).to_have_text(f"{PROMPT}? Answer:")
    page.get_by_role("button", name="Use the first 5").click()
    expect(page.locator(".chip .name")).to_have_text("first 5 by gradient-activation for Cancer")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_and_dark(opened: Opened, scheme: str):
    page = opened(viewport={"width": 400, "height": 800}, color_scheme=scheme)
    type_prompt(page)
    use_set(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    lightness = sum(map(int, re.findall(r"\d+", background)[:3])) / 3
    assert (lightness < 60) == (scheme == "dark")


def test_found_neurons_fit_a_phone(opened: Opened):
    """Names stay in one line, even longer ones than atlas has, and no column is cut off."""
    page = opened(viewport={"width": 400, "height": 800})
    type_prompt(page)
    find(page)
    lines, wide, room = page.evaluate(
        """() => {
          const table = document.querySelector("#found table");
          const names = [...table.querySelectorAll("td:first-child button")];
          names.forEach((name) => { name.textContent = "hidden:24:1005"; });
          const lines = (name) => {
            const range = document.createRange();
            range.selectNodeContents(name);
            return range.getClientRects().length;
          };
          return [names.map(lines), table.scrollWidth, table.parentElement.clientWidth];
        }"""
    )
    assert set(lines) == {1}
    assert wide <= room


def test_everything_has_a_name_and_is_reached_by_keys(opened: Opened):
    page = opened()
    type_prompt(page)
    use_set(page)
    nameless = page.evaluate(
        """[...document.querySelectorAll("input, select, textarea, button, progress, ul, section")]
        .filter(e => e.checkVisibility() && !e.labels?.length && !e.textContent.trim()
          && !e.getAttribute("aria-label") && !e.getAttribute("aria-labelledby"))
        .map(e => e.outerHTML)"""
    )
    assert nameless == []
    page.get_by_label("Prompt", exact=True).focus()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.id || document.activeElement.textContent")
        )
    for wanted in ("form", "answer", "set", "add-set", "typed", "draws", "go-find", "which"):
        assert wanted in reached
    assert {"copy-link", "copy-python", "download-set"} <= reached
    for live in ("#answered", "#edited", "#queue", "#kept"):
        assert page.locator(live).get_attribute("aria-live") == "polite"
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
