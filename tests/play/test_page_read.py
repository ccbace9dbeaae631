"""What is read off the page in a real browser: chance, numbers, announcements, focus."""

from __future__ import annotations

from broca.neurons import NeuronSet
from play.page_steps import Opened, expect, find, settled, type_prompt, use_neurons, use_set
from play.plain_play import RELATION


def test_no_change_is_within_the_draws_and_no_chance_is_none(opened: Opened):
    """Rows that are the same may differ in their last digits; log of 0 is no number in JSON."""
    page = opened()
    type_prompt(page)
    use_set(page)
    page.get_by_label(f"What is done with {RELATION}").select_option("scale")
    page.get_by_label(f"Factor of {RELATION}").fill("1")
    expect(page.locator(".side.edited .words")).to_have_text("Cancer")
    settled(page)
    expect(page.locator(".verdict")).to_contain_text("within the range of the draws.")
    page.evaluate("answered.edited.log_p += 5e-5; drawEdit()")
    expect(page.locator(".verdict")).to_contain_text("within the range of the draws.")
    page.evaluate("answered.edited.log_p = null; drawAnswer(answered)")
    expect(page.locator(".side.edited .figures b")).to_have_text("0 %")
    expect(page.locator(".side.edited .figures")).to_contain_text("log P −Infinity")


def test_on_which_side_of_the_draws_an_edit_lies(opened: Opened):
    """Of n + 1 values in any order one is the lowest in 1 of n + 1 cases, an end in 2."""
    page = opened()
    sides = page.evaluate(
        """() => {
          const draws = [-0.5, -0.4, -0.3, -0.2, -0.1];
          return [-0.6, -0.5, -0.3, -0.1, 0, -Infinity].map((edited) => among(edited, draws));
        }"""
    )
    ends = {"below": (sides[0], sides[5]), "above": (sides[4],)}
    for side, sentences in ends.items():
        for sentence in sentences:
            assert sentence.startswith(f"{side} all of them. ")
            assert "2 in 6 edits lie outside of 5 draws, below or above" in sentence
            assert f"1 in 6 lies {side}, which is the number to read only if {side}" in sentence
    assert {*sides[1:4]} == {"within the range of the draws."}
    assert "2 in 11" in page.evaluate("among(1, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0])")


def test_text_of_a_model_is_no_formula(opened: Opened):
    page = opened()
    found = page.evaluate(
        r"""csv([[
          "=1+1", "+a", "-b", "@c", "\td", "e\rf", "plain", 'x "y", z', -0.5, -Infinity]])"""
    )
    texts = ['"\'=1+1"', '"\'+a"', '"\'-b"', '"\'@c"', '"\'\td"', '"e\rf"', "plain"]
    assert found == ",".join([*texts, '"x ""y"", z"', "-0.5", "-Infinity"]) + "\n"


def test_numbers_of_pictures_are_there_without_pointing(opened: Opened, neurons: NeuronSet):
    page = opened()
    type_prompt(page)
    find(page)
    figure = page.locator("#found figure").first
    expect(figure.locator("svg")).to_contain_text("estimated loss of log P")
    figure.get_by_text("In numbers").click()
    n_tokens, n_layers = page.evaluate("[found.tokens.length, boot.model.n_layers]")
    expect(figure.locator("li")).to_have_count(n_tokens * n_layers)
    expect(figure.locator("li").first).to_contain_text("layer 0 · token 1 ")
    expect(page.locator("#found figcaption").last).to_contain_text("logarithmic beyond")
    expect(page.locator("#found [role=button]")).to_have_count(0)
    page.get_by_label("Neuron", exact=True).fill(str(next(iter(neurons))))
    page.get_by_role("button", name="Look at it").click()
    row = page.locator("#looked td:has(.fires)").first
    row.get_by_text("In numbers").click()
    expect(row.locator("li")).to_have_count(row.locator("mark").count())


def test_the_focus_goes_on_where_a_button_has_gone(opened: Opened):
    page = opened()
    for name in ("hidden:0:1", "hidden:0:2"):
        use_neurons(page, name)
    page.get_by_label("Remove hidden:0:1").press("Enter")
    expect(page.get_by_label("Remove hidden:0:2")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("A neuron set", exact=True)).to_be_focused()


def test_progress_is_read_out_now_and_then(opened: Opened):
    page = opened()
    told = page.evaluate(
        """async () => {
          const heard = [];
          const place = document.getElementById("find-said");
          const hear = () => heard.push(place.textContent);
          new MutationObserver(hear).observe(place, { childList: true });
          for (let left = 9; left; left--) {
            tellFind("Attributing", 1, 10, left);
            await new Promise((done) => setTimeout(done, 20));
          }
          return [heard, document.getElementById("find-words").textContent];
        }"""
    )
    assert told == [["Attributing: about 9 s left"], "Attributing: about 1 s left"]
    assert page.locator("#find-words").get_attribute("role") is None
    assert page.locator("#find-said").get_attribute("role") == "status"


def test_of_which_value_a_value_vector_speaks(opened: Opened):
    """A positive `up` with a negative gate makes a hidden value that is negative."""
    page = opened()
    captions = page.locator("#looked caption")
    for name, words in (("hidden:1:5", "when it is positive"), ("up:1:5", "whatever its own sign")):
        page.get_by_label("Neuron", exact=True).fill(name)
        page.get_by_role("button", name="Look at it").click()
        expect(page.locator("#looked h3").first).to_have_text(name)
        expect(captions.first).to_contain_text(words)


def test_where_effects_were_measured(opened: Opened):
    page = opened()
    type_prompt(page, "Canis Minor")
    find(page)
    caption = page.locator("#found caption")
    expect(caption).to_contain_text("the sum over the 4 tokens of the answer")
    page.get_by_label("Answer to measure").fill("Cancer")
    find(page)
    expect(caption).to_contain_text("at the prompt's last position")


def test_a_space_is_seen_and_is_no_new_line(opened: Opened):
    """A token of spaces had no name in the bars, and a line break's in the verdict."""
    page = opened()
    tokens = [" ", "  ", "\n", " a b", ""]
    seen, told = page.evaluate("(all) => [all.map(visible), all.map(quoted)]", tokens)
    assert seen == ["␣", "␣␣", "↵", " a b", ""]
    assert told == ["“␣”", "“␣␣”", "“↵”", "“a b”", "“∅”"]
