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
