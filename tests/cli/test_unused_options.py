"""An option that nothing would read is refused, never passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.refusals import Broca, refused


@pytest.mark.parametrize("option", [("--form", "cloze"), ("--shots", 2), ("--seed", 1)])
def test_neuron_reads_the_prompts_of_a_run_as_they_are(
    broca: Broca, place: Path, finished: Path, option: tuple[str, object]
):
    neuron = ("neuron", "hidden:1:3", "--model", place / "model")
    refused(broca(*neuron, "--run", finished, *option), option[0], "as they were asked")
    refused(broca(*neuron, *option), option[0], "without --facts or --questions")


def test_neuron_looks_at_form_and_shots(broca: Broca, place: Path):
    neuron = ("neuron", "hidden:1:3", "--model", place / "model")
    facts = ("--facts", place / "facts" / "facts.jsonl", "--prompts", 8)
    refused(broca(*neuron, "--form", "qestion"), "Did you mean 'question'")
    refused(broca(*neuron, *facts, "--shots", 2), "shots is for the few-shot forms")
    refused(broca(*neuron, *facts, "--form", "cloze", "--shots", 2), "the form is cloze")
    code, _, err = broca(*neuron, *facts, "--form", "few-shot", "--shots", 2)
    assert code == 0, err


def test_neuron_draws_demonstrations_by_seed(
    broca: Broca, place: Path, monkeypatch: pytest.MonkeyPatch
):
    import broca.prompts as prompts

    seen: list[int] = []
    render = prompts.render_fact_prompts

    def watched(*arguments, **options):
        seen.append(options["seed"])
        return render(*arguments, **options)

    monkeypatch.setattr(prompts, "render_fact_prompts", watched)
    facts = ("--facts", place / "facts" / "facts.jsonl", "--prompts", 6)
    asked = ("neuron", "hidden:1:3", "--model", place / "model", *facts, "--form", "few-shot")
    said = {seed: broca(*asked, "--seed", seed)[1] for seed in (0, 7)}
    assert seen == [0, 7]
    assert said[0] == broca(*asked)[1]
    assert said[0] != said[7]


@pytest.mark.parametrize(
    "option",
    [("--form", "cloze"), ("--shots", 2), ("--facts", "lre"), ("--set", "n_neurons=4")],
)
def test_edit_without_a_fact_reads_nothing_about_facts(
    broca: Broca, place: Path, finished: Path, tmp_path: Path, option: tuple[str, object]
):
    edit = ("edit", "--model", place / "model", "--save", tmp_path / "copy")
    refused(broca(*edit, "--off", finished / "sets" / "river.json", *option), option[0], "--fact")
    assert not (tmp_path / "copy").exists()


def test_a_factor_scales(broca: Broca, place: Path, finished: Path, tmp_path: Path):
    edit = ("edit", "--model", place / "model", "--save", tmp_path / "copy")
    river = finished / "sets" / "river.json"
    refused(broca(*edit, "--off", river, "--factor", 3), "--factor", "--scale")
    fact = ("--fact", "a | river | b", "--form", "cloze", "--shots", 2)
    refused(broca(*edit, *fact), "shots is for the few-shot forms")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--factor", 3), "--factor is for --scale"),
        (("--factor", 3, "--off", "hidden:1:1"), "--factor is for --scale"),
        (("--positions", "last"), "--positions is for --off or --scale"),
        (("--form", "few-shot", "--shot", " "), "a line to show is empty"),
    ],
)
def test_ask_reads_every_option(broca: Broca, place: Path, options: tuple[object, ...], said: str):
    refused(broca("ask", "a cat", "--model", place / "gpt2", *options), said)


def test_ask_takes_places_counted_from_the_end(broca: Broca, place: Path):
    ask = ("ask", "the quick brown fox", "--model", place / "gpt2", "--scale", "hidden:0:1")
    scaled = (*ask, "--factor", 90, "--tokens", 1, "--positions")
    found = [broca(*scaled, where)[:2] for where in ("last", "-1", "-1,-2", "-3", "-1,2")]
    assert [code for code, _ in found] == [0, 0, 0, 0, 2]
    last, one, two, third = (said for _, said in found[:4])
    assert last == one != two != third
