"""What the page tells in a real browser: mistakes, chance, other models, servers that are gone."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from broca.neurons import NeuronSet
from broca.play import Material, Serving
from play.page_steps import (
    Opened,
    Page,
    choose_fact,
    expect,
    find,
    settled,
    type_prompt,
    use_neurons,
    use_set,
    with_state,
)
from play.plain_play import OFF, PROMPT, RELATION, wait_for


def test_markup_is_text(opened: Opened):
    page = opened()
    markup = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'
    page.get_by_label("Prompt", exact=True).fill(markup)
    expect(page.locator("#answered .asked")).to_have_text(markup)
    page.get_by_label("Or neurons").fill(markup)
    page.get_by_role("button", name="Use these").click()
    expect(page.locator("#trouble")).to_contain_text("is not a neuron")
    page.get_by_label("Or neurons").fill("hidden:0:7")
    page.get_by_role("button", name="Use these").click()
    find(page)
    assert page.evaluate("window.hit") is None
    assert page.locator("img").count() == 0


def test_other_neurons_under_one_name_are_another_set(opened: Opened):
    """A second set that would be called as the first was once dropped without a word."""
    page = opened()
    use_neurons(page, "hidden:0:1, hidden:0:2")
    use_neurons(page, "hidden:0:1, hidden:0:3")
    names = page.locator(".chip .name")
    expect(names).to_have_text(["hidden:0:1 and 1 more", "hidden:0:1 and 1 more (2)"])
    use_neurons(page, "hidden:0:1, hidden:0:2")
    expect(page.locator("#kept")).to_contain_text("among the sets in use already")
    expect(names).to_have_count(2)


def test_sets_and_states_of_another_model_are_told(
    opened: Opened, server: Serving, neurons: NeuronSet, tmp_path: Path
):
    path = neurons.save(tmp_path / "mine.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"] |= {"id": "elsewhere", "fingerprint": "0" * 16}
    path.write_text(json.dumps(content), encoding="utf-8")
    page = opened()
    page.get_by_label("A file").set_input_files(path)
    expect(page.locator("#others")).to_contain_text("found in other weights of the same shape")
    expect(page.locator(".chip")).to_have_count(1)
    content["model"]["n_layers"] += 1
    path.write_text(json.dumps(content), encoding="utf-8")
    page.get_by_label("A file").set_input_files(path)
    expect(page.locator("#trouble")).to_contain_text("a model of another shape")
    asked = {"prompt": PROMPT, "form": "question", "chips": [{**OFF, "neurons": [], "factor": 2}]}
    made = {"model": "elsewhere", "weights": "0" * 16, "sets": {RELATION: "0" * 16}}
    other = opened(with_state(server, {**asked, "made_with": made}))
    expect(other.locator("#others")).to_contain_text("This was made with elsewhere")
    expect(other.locator("#others")).to_contain_text(f"The set {RELATION} here is another one")
    own = opened(with_state(server, asked))
    expect(own.locator(".side.edited")).to_be_visible()
    settled(own)
    wait_for(lambda: own.evaluate("Boolean(unpacked(location.hash.slice(3)).made_with)"))
    again = opened(own.url)
    expect(again.locator(".side.edited")).to_be_visible()
    settled(again)
    expect(again.locator("#others")).to_be_empty()


NO_STATES = [
    {"prompt": "a", "chips": [None]},
    {"sets": 1},
    [],
    None,
    {"prompt": "a", "tokens": "8"},
    {"prompt": "a", "position": "last"},
    {"prompt": "a", "form": "sonnet"},
    {"prompt": "a", "shots": [1]},
    {"prompt": "a", "chips": [{**OFF, "scale": 2}]},
    {"prompt": "a", "chips": [{**OFF, "change": "on"}]},
    {"prompt": "a", "made_with": {}},
    {"prompt": "a", "made_with": {"model": {}, "weights": "0"}},
]


@pytest.mark.parametrize("content", NO_STATES)
def test_what_is_no_state_is_told(opened: Opened, server: Serving, content: Any, tmp_path: Path):
    page = opened(with_state(server, content))
    expect(page.locator("#trouble")).to_contain_text("cannot be read")
    type_prompt(page)
    (tmp_path / "state.json").write_text(json.dumps(content), encoding="utf-8")
    page.get_by_label("Open a state").set_input_files(tmp_path / "state.json")
    expect(page.locator("#trouble")).to_contain_text("This is no state of broca play")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value(PROMPT)


def test_numbers_are_used_or_refused(opened: Opened):
    """A factor between two steps of its arrows was once passed over without a word."""
    page = opened()
    type_prompt(page)
    use_set(page)
    page.get_by_label(f"What is done with {RELATION}").select_option("scale")
    factor = page.get_by_label(f"Factor of {RELATION}")
    factor.fill("0.3")
    assert page.evaluate("state.chips[0].factor") == 0.3
    factor.fill("2000")
    expect(page.locator("#trouble")).to_contain_text(f"Factor of {RELATION}: ")
    factor.fill("-0.25")
    expect(page.locator("#trouble")).to_be_hidden()
    settled(page)
    page.get_by_label("Tokens at most").fill("")
    expect(page.locator("#trouble")).to_contain_text("Tokens at most: a number is needed.")
    page.get_by_label("Tokens at most").fill("1000")
    expect(page.locator("#trouble")).to_contain_text("Tokens at most: Value must be")
    page.get_by_label("Prompt", exact=True).fill("x" * 9000)  # nothing is cut off unseen
    expect(page.locator("#trouble")).to_contain_text("at most 8000 characters")


def test_mistakes_are_sentences_and_the_page_goes_on(opened: Opened):
    page = opened()
    page.get_by_label("A neuron set", exact=True).fill("nothing")
    page.get_by_label("A neuron set", exact=True).press("Enter")
    expect(page.locator("#trouble")).to_contain_text('There is no set "nothing" here')
    page.get_by_label("A neuron set", exact=True).fill("")  # mended
    expect(page.locator("#trouble")).to_be_empty()
    page.get_by_label("Prompt", exact=True).fill("word " * 1500)
    expect(page.locator("#trouble")).to_contain_text("tokens; atlas takes 2048")
    type_prompt(page)
    expect(page.locator("#trouble")).to_be_hidden()
    broken = opened(page.url.partition("#")[0] + "#s=e30x")
    expect(broken.locator("#trouble")).to_contain_text("cannot be read")


def test_a_server_that_is_gone_is_told(opened: Opened):
    page = opened()
    page.route("**/api/**", lambda route: route.abort())
    page.get_by_label("Prompt", exact=True).fill("Where is it?")
    expect(page.locator("#trouble")).to_contain_text("The server does not answer")


def in_sight(page: Page, selector: str) -> bool:
    """Whether something stands wholly within the window and nothing lies over it."""
    return page.evaluate(
        """(selector) => {
          const place = document.querySelector(selector);
          const box = place.getBoundingClientRect();
          const middle = [box.left + box.width / 2, box.top + box.height / 2];
          const over = document.elementFromPoint(...middle);
          return box.height > 0 && box.top >= 0 && box.left >= 0 && box.bottom <= innerHeight
            && box.right <= innerWidth && place.contains(over);
        }""",
        selector,
    )


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_told_is_in_sight_wherever_one_is(opened: Opened, scheme: str, width: int):
    """It once stood in the header, and at the end of the page."""
    page = opened(viewport={"width": width, "height": 700}, color_scheme=scheme)
    type_prompt(page)
    page.get_by_role("button", name="Save the set").click()
    expect(page.locator("#trouble")).to_have_text("Give the set a name.")
    assert in_sight(page, "#trouble p")
    assert page.evaluate("document.getElementById('told').parentNode === document.body")
    name = page.get_by_label("Name of a set")
    expect(name).to_be_focused()
    expect(name).to_have_attribute("aria-invalid", "true")
    name.fill("mine")
    expect(page.locator("#trouble")).to_be_empty()
    use_neurons(page, "hidden:0:1")
    use_neurons(page, "hidden:0:1")
    expect(page.locator("#kept")).to_contain_text("among the sets in use already")
    assert in_sight(page, "#kept")
    page.get_by_label("Or neurons").fill("nothing")
    page.get_by_label("Or neurons").press("Enter")
    assert in_sight(page, "#trouble p")
    assert in_sight(page, "#kept")
    ink, paper = page.evaluate(
        """() => {
          const style = getComputedStyle(document.querySelector("#trouble p"));
          return [style.color, style.backgroundColor].map((c) => c.match(/[0-9.]+/g).map(Number));
        }"""
    )
    assert abs(sum(ink[:3]) - sum(paper[:3])) > 3 * 150
    assert len(paper) == 3  # nothing shines through
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#trouble")).to_be_empty()
    expect(page.locator("#kept")).to_be_empty()
    expect(page.get_by_role("button", name="Close")).to_be_hidden()


def test_a_refused_field_stays_marked_after_the_next_answer(opened: Opened):
    page = opened()
    type_prompt(page)
    settled(page)
    tokens = page.get_by_label("Tokens at most")
    tokens.fill("1000")
    page.get_by_label("Answer to measure").fill("Leo")
    page.get_by_label("Prompt", exact=True).fill("The star Alpha Leonis belongs to")
    expect(page.locator("#answered .asked")).to_contain_text("Alpha Leonis")
    settled(page)
    expect(page.locator("#trouble")).to_contain_text("The value before is still in use.")
    expect(tokens).to_have_attribute("aria-invalid", "true")
    assert page.evaluate("state.tokens") == 8
    tokens.fill("3")
    expect(page.locator("#trouble")).to_be_empty()
    expect(tokens).not_to_have_attribute("aria-invalid", "true")
    assert page.evaluate("state.tokens") == 3


def test_an_opened_state_that_the_server_refuses_is_told(opened: Opened, server: Serving):
    page = opened(with_state(server, {"prompt": PROMPT, "tokens": 1000, "method": "tea leaves"}))
    expect(page.locator("#trouble")).to_contain_text("Tokens at most: ")
    expect(page.locator("#trouble")).to_contain_text("tokens: input should be less than")
    expect(page.locator("#others")).to_contain_text('The method "tea leaves" of this state')
    expect(page.get_by_label("Method")).to_have_value("ig")


def held(serving: Serving) -> threading.Event:
    """Keeps the model of a server busy until it is set."""
    free = threading.Event()
    serving.jobs.submit(lambda job: free.wait(60), lambda event: None, brief=True)
    return free


def test_an_older_answer_is_told_to_be_older(opened: Opened, server: Serving):
    page = opened()
    type_prompt(page)
    use_set(page)
    settled(page)
    taken = page.get_by_role("button", name="Answers as CSV")
    expect(taken).to_be_enabled()
    free = held(server)
    try:
        page.get_by_label("the prompt's last token").check()
        expect(page.locator("#edited")).to_have_attribute("aria-busy", "true")
        expect(page.locator(".under-way").first).to_contain_text("what stands here is the one bef")
        assert float(page.locator("#edited").evaluate("e => getComputedStyle(e).opacity")) < 0.6
        expect(taken).to_be_disabled()
    finally:
        free.set()
    settled(page)
    expect(page.locator(".under-way").first).to_be_empty()
    assert page.locator("#edited").evaluate("e => getComputedStyle(e).opacity") == "1"
    expect(taken).to_be_enabled()


def test_first_tokens_are_no_answer_to_take_away(opened: Opened):
    page = opened()
    type_prompt(page)
    use_set(page)
    settled(page)
    page.evaluate(
        """() => {
          const whole = answered;
          window.goOn = null;
          stream = async (route, content, hear) => {
            hear("part", { value: structuredClone(whole) });
            await new Promise((done) => { window.goOn = done; });
            return { ...whole, marks: {} };
          };
        }"""
    )
    page.get_by_label("Tokens at most").fill("4")
    expect(page.locator(".under-way").first).to_contain_text("the rest is still being said")
    expect(page.get_by_role("button", name="Answers as CSV")).to_be_disabled()
    page.evaluate("window.goOn()")
    expect(page.get_by_role("button", name="Answers as CSV")).to_be_enabled()


def test_a_server_that_stops_in_the_middle_is_told(opened: Opened, material: Material):
    serving = Serving(material)
    serving.__enter__()
    free = held(serving)
    closing = threading.Thread(target=serving.__exit__)
    try:
        page = opened(serving.url)
        page.get_by_label("Prompt", exact=True).fill("Where is it?")
        expect(page.locator("#queue")).to_contain_text("1 before you")
        closing.start()
        expect(page.locator("#trouble")).to_contain_text("The server stopped before it had answer")
        settled(page)
        expect(page.locator("#answered")).to_have_attribute("aria-busy", "false")
    finally:
        free.set()
        if closing.ident is None:
            closing.start()
        closing.join(60)
    assert not closing.is_alive()


def test_older_lists_of_facts_do_not_come_back(opened: Opened):
    """A reply that was asked for first may come last."""
    page = opened()
    shown = page.evaluate(
        """async () => {
          const waiting = [];
          ask = () => new Promise((done) => { waiting.push(done); });
          const entry = (label) => [{ label, prompt: "", answer: "", shots: [], form: "cloze" }];
          const first = listFacts(), second = listFacts();
          waiting[1](entry("newer"));
          await second;
          waiting[0](entry("older"));
          await first;
          return document.getElementById("facts").textContent;
        }"""
    )
    assert shown == "newer"


def test_facts_in_the_form_before_cannot_be_chosen(opened: Opened):
    """Chosen meanwhile, a fact was asked in the form before, "without" the one just chosen."""
    page = opened()
    page.get_by_text("Choose a fact or question").click()
    expect(page.locator("#facts li").first).to_be_visible()
    page.evaluate("() => { ask = () => new Promise(() => {}); }")  # the reply is under way
    page.get_by_label("Form of asking").select_option("few-shot")
    expect(page.locator("#facts li")).to_have_count(0)


def test_a_set_of_a_file_says_what_it_was_found_for(opened: Opened):
    page = opened()
    part = {"prompt": "a", "answer": "b"}
    cases = [[part, part], [part, {"name": "c"}], [], None]
    found = page.evaluate(
        "(cases) => cases.map((made_of) => foundFor({ settings: { made_of } }))", cases
    )
    assert found == [part, {}, {}, {}]
    assert page.evaluate("foundFor({})") == {}


def test_a_text_of_ones_own_stays_around_a_fact(opened: Opened):
    page = opened()
    page.get_by_label("Form of asking").select_option("own")
    page.get_by_role("textbox", name="Text with {wording}").fill("Say: {wording}")
    page.get_by_text("Choose a fact or question").click()
    page.get_by_label("From").select_option(RELATION)
    choose_fact(page, "Iota Cancri")
    expect(page.locator("#answered .asked")).to_contain_text(re.compile("^Say: .*Iota Cancri"))
    expect(page.get_by_label("Form of asking")).to_have_value("own")
    page.get_by_label("From").select_option(f"run: {RELATION}")
    page.get_by_label("With these letters").fill("")
    expect(page.locator("#facts li")).to_have_count(25)
    page.locator("#facts button").first.click()
    expect(page.get_by_label("Form of asking")).to_have_value("cloze")
    expect(page.locator("#kept")).to_contain_text("a run's prompt is a whole text already")
