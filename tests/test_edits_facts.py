"""Facts replaced in the weights: the new object is said, within bounds; the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from broca.edits import FactEditConfig, edited, parse_fact, pick_fact, replace_fact
from broca.edits.replacement import paraphrases
from broca.errors import EditError, FactsError
from broca.facts import Relations
from broca.measurements import answer_prompts
from broca.model import LanguageModel
from planted import Planted, planted_world
from test_edits import hidden_set, weights_of
from tiny import tiny_model

RELATION = "maker"  # of the planted model


@pytest.fixture(scope="module")
def world() -> Planted:
    return planted_world()


@pytest.fixture(scope="module")
def planted_edit(world):
    """One fact of the planted model replaced: model, relations, the replacement."""
    model, relations = world.language_model(), world.relations()
    relation = relations[RELATION]
    fact = relation.facts[0]
    new = next(f.objects[0] for f in relation.facts if f.objects[0] not in fact.objects)
    config = FactEditConfig(n_neurons=8, max_change=2.0, max_total=1.5, step_size=0.2)
    return model, relations, replace_fact(model, relations, fact, new, config), config


def test_a_fact_edit_makes_the_model_say_the_new_object(planted_edit):
    model, _, done, _ = planted_edit
    assert done.log_p_after.mean() > done.log_p_before.mean() + 1
    with edited(model, done.vectors):
        rows = {
            row.prompt: row
            for row in answer_prompts(model, done.prompts, {"edited": None}, border=done.border)
        }
    measured = np.array([rows[prompt.id].log_p for prompt in done.prompts])
    assert np.allclose(measured, done.log_p_after, atol=1e-4)
    assert all(row.correct for row in rows.values())


def test_demonstrations_of_an_edit_are_drawn_by_its_seed(world):
    model, relations = world.language_model(), world.relations()
    fact = relations[RELATION].facts[0]
    new = next(f.objects[0] for f in relations[RELATION].facts if f.objects[0] != fact.objects[0])
    texts = {}
    for seed in (0, 7):
        config = FactEditConfig(n_neurons=2, n_steps=1, n_others=2, form="few-shot", seed=seed)
        done = replace_fact(model, relations, fact, new, config)
        assert all(prompt.id.endswith(f"few-shot-4.{seed}") for prompt in done.prompts)
        texts[seed] = [prompt.text for prompt in done.prompts]
    assert texts[0] != texts[7]


def test_a_relation_too_small_to_be_shown_has_no_say(world):
    model, relations = world.language_model(), world.relations()
    small = replace(relations["river"], facts=relations["river"].facts[:2])
    few = Relations([relations[RELATION], relations["ceo"], small])
    fact = relations[RELATION].facts[0]
    new = next(f.objects[0] for f in relations[RELATION].facts if f.objects[0] != fact.objects[0])
    config = FactEditConfig(n_neurons=2, n_steps=1, form="few-shot")
    assert replace_fact(model, few, fact, new, config).n_steps == 1


def test_a_fact_edit_stays_within_its_bounds_and_columns(planted_edit):
    model, _, done, config = planted_edit
    before = weights_of(model)
    allowed = {(n.layer, n.index) for n in done.neurons}
    assert len(allowed) == config.n_neurons
    lengths, changes = [], []
    with edited(model, done.vectors):
        for layer in range(model.n_layers):
            name = f"model.layers.{layer}.mlp.down_proj.weight"
            old, new = before.pop(name), model.module.state_dict()[name]
            moved = (new - old).norm(dim=0)
            for index in moved.nonzero()[:, 0].tolist():
                assert (layer, index) in allowed
                assert float(moved[index] / old[:, index].norm()) <= config.max_change * (1 + 1e-4)
            here = [index for each, index in allowed if each == layer]
            lengths += old[:, here].norm(dim=0).tolist()
            changes += moved[here].tolist()
        assert all(torch.equal(w, model.module.state_dict()[n]) for n, w in before.items())
    total = np.linalg.norm(changes) / np.linalg.norm(lengths)
    assert total == pytest.approx(done.total_change, rel=1e-3)
    assert total <= config.max_total * (1 + 1e-4)


def test_other_facts_are_kept_better_with_the_locality_term(world):
    model, relations = world.language_model(), world.relations()
    relation = relations[RELATION]
    fact = relation.facts[0]
    new = next(f.objects[0] for f in relation.facts if f.objects[0] not in fact.objects)
    others = [p for f in relation.facts[1:6] for p in paraphrases(relation, f)[:1]]
    batch = model.pad(model.encode([p.text for p in others]))
    base = model.logits(batch)[:, -1].log_softmax(-1)
    moved = []
    for weight in (0.0, 20.0):
        config = FactEditConfig(
            n_neurons=4, n_steps=8, locality=weight, max_change=2.0, max_total=2.0, target=0.99
        )
        with edited(model, replace_fact(model, relations, fact, new, config).vectors):
            now = model.logits(batch)[:, -1].log_softmax(-1)
        moved.append(float((base.exp() * (base - now)).sum(-1).mean()))
    assert moved[1] < moved[0]


@pytest.mark.parametrize("family", ["gpt2", "phi3"])
def test_facts_are_replaced_in_other_families_too(family):
    from broca.facts import Fact, Relation, Relations

    model = tiny_model(family)
    templates = {"finding": ("the {} is", "one {} over")}
    facts = tuple(Fact(s, "r", (o,)) for s, o in (("fox", "dog"), ("cat", "city"), ("dog", "fox")))
    relations = Relations([Relation("r", facts, templates)])
    neurons = hidden_set(model, 6)
    config = FactEditConfig(n_steps=6, max_change=3, max_total=3)
    done = replace_fact(model, relations, facts[0], "lazy cat", config, neurons=neurons)
    assert done.log_p_after.mean() > done.log_p_before.mean()
    with edited(model, done.vectors):
        rows = list(answer_prompts(model, done.prompts, {"edited": None}, border=done.border))
    found = {row.prompt: row.log_p for row in rows}
    expected = dict(zip((p.id for p in done.prompts), done.log_p_after, strict=True))
    assert all(abs(found[key] - expected[key]) < 1e-4 for key in expected)


def test_facts_that_cannot_be_replaced_are_refused(world):
    model, relations = world.language_model(), world.relations()
    fact = relations[RELATION].facts[0]
    with pytest.raises(EditError, match="already right"):
        replace_fact(model, relations, fact, fact.objects[0])
    with pytest.raises(EditError, match="no new fact"):
        parse_fact("only | two")
    assert parse_fact(" a | b | c d ") == ("a", "b", "c d")
    with pytest.raises(FactsError, match="unknown relation"):
        pick_fact(relations, fact.subject, "company_colour")
    with pytest.raises(FactsError, match="no fact about"):
        pick_fact(relations, "Nobody", RELATION)
    with pytest.raises(EditError, match="cannot be"):
        FactEditConfig(max_change=0)


# ---- the command


def test_the_command_writes_a_copy_and_refuses_mistakes(world, tmp_path, capsys):
    from broca.cli import run_cli

    world.module.save_pretrained(tmp_path / "model")
    world.tokenizer.save_pretrained(tmp_path / "model")
    model = LanguageModel.from_pretrained(str(tmp_path / "model"))
    path = hidden_set(model).save(tmp_path / "set.json")
    common = ["edit", "--model", str(tmp_path / "model"), "--save", str(tmp_path / "copy")]
    assert run_cli(common) == 2
    assert run_cli([*common, "--fact", f"A | {RELATION} | B"]) == 2  # no wordings named
    assert run_cli([*common, "--fact", "A | b | C", "--facts", "atlas", "--set", "oops=1"]) == 2
    assert run_cli([*common, "--off", str(tmp_path / "none.json")]) == 2
    assert not (tmp_path / "copy").exists()
    fact, facts = write_facts(world, tmp_path)
    options = ["--fact", fact, "--facts", str(facts), "--set", "n_neurons=6", "--set", "n_steps=5"]
    assert run_cli([*common, "--off", str(path), *options]) == 0
    assert run_cli([*common, "--off", str(path)]) == 2  # the folder holds something now
    printed = capsys.readouterr()
    assert "P after" in printed.out
    assert "Traceback" not in printed.err
    record = json.loads((tmp_path / "copy" / "edit.json").read_text())
    assert [edit["kind"] for edit in record["edits"]] == ["scale", "value-vectors"]
    transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "copy")


def write_facts(world: Planted, folder: Path) -> tuple[str, Path]:
    """The planted facts of one relation as a table with templates, and a new fact."""
    relation = world.relations()[RELATION]
    path = folder / "facts.jsonl"
    rows = [
        {"subject": f.subject, "relation": f.relation, "object": f.objects[0]}
        for f in relation.facts
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    wordings = json.dumps(list(relation.wordings("finding")))
    path.with_suffix(".toml").write_text(f"[{RELATION}]\ntemplates = {wordings}\n")
    first = relation.facts[0]
    new = next(f.objects[0] for f in relation.facts if f.objects[0] not in first.objects)
    return f"{first.subject} | {RELATION} | {new}", path
