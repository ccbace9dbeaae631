"""What must be true of any correct version, on the model whose neurons we planted ourselves.

Numbers are those of the list in docs: 1 nothing is left behind, 2 planted neurons are found and
matter, 7 identities and refusals, 8 an interrupted run ends as an unbroken one (tests/test_run.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from broca.errors import NeuronError
from broca.interventions import Deactivate, Scale, intervene
from broca.measurements import answer_prompts
from broca.neurons import NeuronSet, WeightsDifferWarning
from broca.prompts import render_fact_prompts
from broca.run import execute, read_job
from broca.store import RunFolder
from planted import planted_world
from planted_files import QUICK, write_planted_facts
from planted_words import HURT, HURTING, NAMES, SHARED
from tiny import tiny_model

N_PLANTED = 6


@pytest.fixture(scope="module")
def world():
    return planted_world()


@pytest.fixture(scope="module")
def model(world):
    return world.language_model()


@pytest.fixture(scope="module")
def run(model, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Intra- and inter-relation on all planted relations; half of the facts are for evaluation."""
    folder = tmp_path_factory.mktemp("planted")
    job = read_job(
        {
            **QUICK,
            "facts": str(write_planted_facts(folder / "facts")),
            "k": N_PLANTED,
            "n_evaluation": 16,
            "n_permutations": 10_000,
            "sites": ["hidden"],
        }
    )
    return execute(job, folder / "run", model=model, report=False)


def found(run: RunFolder, name: str) -> NeuronSet:
    return NeuronSet.load(run.set_path(name))


def cell(run: RunFolder, asked: str, off: str) -> dict:
    cells = run.read_json("findings.json")["relations.inter"]["tables"]["matrix"]
    return next(c for c in cells if c["asked"] == asked and c["off"] == off)


def drop_of(run: RunFolder, name: str) -> dict:
    drops = run.read_json("findings.json")["relations.intra"]["tables"]["drops"]
    return next(record for record in drops if record["relation"] == name)


# ---- 1. nothing is left behind


@torch.no_grad()
def test_logits_are_those_of_plain_transformers(world, model):
    batch = model.pad(model.encode(["The river of Bala is? Answer:", "The ceo"]))
    plain = world.module(
        input_ids=batch.ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        use_cache=False,
        logits_to_keep=1,  # the head's product over more rows may differ in the last bit
    ).logits[:, -1]
    assert torch.equal(model.logits(batch)[:, -1], plain)
    neurons = NeuronSet.of(world.planted["river"], model.identity)

    def interrupted() -> None:
        with intervene(model, Deactivate(neurons)):
            assert not torch.equal(model.logits(batch)[:, -1], plain)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.equal(model.logits(batch)[:, -1], plain)


def test_no_hook_is_left_after_a_run(run: RunFolder, model):
    assert run.finished
    for module in model.module.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


# ---- 2. planted neurons are found, and matter


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SHARED])
def test_every_planted_set_is_found(run: RunFolder, world, name: str):
    assert set(found(run, name)) == set(world.planted[name])


@pytest.mark.parametrize("name", SHARED)
def test_neurons_of_two_relations_come_after_those_of_one(run: RunFolder, world, name: str):
    """Shared neurons respond to both relations, so their average precision is lower."""
    own = set(world.planted[name]) - set(world.shared)
    assert set(found(run, name).top(len(own))) == own
    assert set(found(run, name)) & set(world.shared)


def test_sharing_is_seen(run: RunFolder):
    overlap = run.read_json("findings.json")["relations.inter"]["tables"]["overlap"]
    pairs = {(r["a"], r["b"]): r["count"] for r in overlap if r["a"] < r["b"]}
    assert max(pairs, key=pairs.__getitem__) == tuple(sorted(SHARED))
    assert all(count == 0 for pair, count in pairs.items() if set(pair) != set(SHARED))


@pytest.mark.parametrize("name", NAMES)
def test_own_neurons_off_removes_the_answers_and_matched_ones_do_not(run: RunFolder, name: str):
    record = drop_of(run, name)
    assert record["own_drop"] > 0.7
    assert record["matched_drop"] < 0.15
    assert record["significant"]
    assert record["p_holm"] < 0.05


def test_harmful_neurons_are_seen_as_interference(run: RunFolder):
    """Switching off the neurons of one relation lets the other answer what it got wrong."""
    hurt = cell(run, HURT, HURTING)
    assert hurt["drop"] < 0
    assert hurt["gained"] > 0 == hurt["lost"]
    others = [cell(run, a, b) for a in NAMES for b in NAMES if a != b and (a, b) != (HURT, HURTING)]
    assert all(c["drop"] >= 0 for c in others)


def test_other_relations_are_spared(run: RunFolder):
    spared = [cell(run, a, b) for a in NAMES for b in NAMES if a != b and {a, b} != set(SHARED)]
    assert max(c["drop"] for c in spared) <= 0.1
    assert run.summary["effect.own_drop_median"] >= 3 * max(
        run.summary["effect.other_drop_median"], 0.01
    )


def test_the_model_says_the_instead(run: RunFolder):
    """With the evidence gone the planted model says "the": a function word."""
    said = run.read_json("findings.json")["relations.inter"]["tables"]["said"]
    words = sum(r["n"] for r in said if r["said"] == "function word")
    assert words > 0.8 * sum(r["n"] for r in said)


def test_shuffled_labels_find_nothing_that_matters(run: RunFolder):
    assert abs(run.summary["controls.shuffled_beyond_matched"]) < 0.05


# ---- 7. identities and refusals


def test_scaling_by_one_and_the_empty_set_change_nothing(world, model):
    prompts = render_fact_prompts(world.relations(names=("river", "ceo")))[:12]
    river = NeuronSet.of(world.planted["river"], model.identity)
    conditions = {"": None, "once": Scale(river, 1.0), "none": Deactivate(river.top(0))}
    rows: dict[str, dict[str, tuple]] = {name: {} for name in conditions}
    for row in answer_prompts(model, prompts, conditions):
        rows[row.condition][row.prompt] = (row.ids, row.correct, row.log_p, row.rank)
    assert rows["once"] == rows[""] == rows["none"]


def test_sets_of_other_models_are_refused_or_warned_about(run: RunFolder, world, model):
    river = found(run, "river")
    with pytest.raises(NeuronError, match="another shape"):
        river.check(tiny_model("llama").identity)
    sibling = type(model.identity)("sibling", "0" * 16, model.n_layers, model.widths)
    with pytest.warns(WeightsDifferWarning):
        river.check(sibling)
    river.check(model.identity)


def test_a_saved_set_is_the_set(run: RunFolder, tmp_path: Path):
    river = found(run, "river")
    assert list(NeuronSet.load(river.save(tmp_path / "river.json"))) == list(river)
