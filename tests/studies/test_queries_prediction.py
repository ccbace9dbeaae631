"""Prediction by neurons: options as answers, halves, findings on made-up margins."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from broca.choices import find_letters
from broca.choices.letters import label_tokens
from broca.cli import run_cli
from broca.errors import NeuronError, PromptError, ScoreError
from broca.model import LanguageModel
from broca.neurons import Neuron, NeuronIndex, NeuronSet
from broca.prediction import record_options, render_options
from broca.prompts import render_question_prompts
from broca.questions import Question
from broca.scores import QuerySets
from broca.store import RunFolder
from broca.studies.queries import QueriesConfig
from broca.studies.queries.prediction import halves, random_like
from broca.studies.queries.prediction_findings import Predicted, prediction_findings, together
from planted import planted_world
from planted_run import tables
from query_files import planted_questions
from tiny import tiny_model


def test_options_are_put_as_the_letters_tokens_and_read_there(
    planted_applications: RunFolder,
) -> None:
    world = planted_world()
    model = world.language_model()
    prompts = render_question_prompts(planted_questions(world, 1), n_prompts=2)
    letters = list(find_letters(model, prompts))
    index = NeuronIndex(model.identity, ("hidden", "up"))
    neurons = index.select(np.array([700, 3, 200, 1000]), name="some")
    values = record_options(model, prompts, neurons)
    assert values.shape == (len(prompts), 4, 4)
    for row, one in enumerate(letters):
        for option, tokens in enumerate(one.candidates):
            token = next(t for t in tokens if _written(model, one, option) == t)
            seen: dict[Neuron, float] = {}
            batch = model.pad([[*one.tokens, token]])
            for neuron in neurons:
                with model.touch(neuron.site, neuron.layer, partial(_keep, seen, neuron)):
                    model.logits(batch)
            expected = [seen[neuron] for neuron in neurons]
            assert values[row, option] == pytest.approx(expected, abs=1e-5)


def _keep(seen: dict[Neuron, float], neuron: Neuron, tensor: Any) -> None:
    seen[neuron] = float(tensor[0, -1, neuron.index])


def _written(model: LanguageModel, one: Any, option: int) -> int:
    return label_tokens(model, one.prompt)[one.variant][option]


def test_what_cannot_be_put_as_an_answer_is_refused() -> None:
    model = planted_world().language_model()
    prompts = render_question_prompts(planted_questions(planted_world(), 1), n_prompts=1)
    letters = next(find_letters(model, prompts))
    long = replace(letters.prompt, labels=("A", "B", "C", "D Hall"))
    with pytest.raises(PromptError, match="no single token"):
        render_options(model, [replace(letters, prompt=long)])
    nobody = NeuronSet.of([], model.identity)
    with pytest.raises(ScoreError, match="no neurons"):
        record_options(model, prompts, nobody)
    other = NeuronSet.of([Neuron("hidden", 0, 1)], tiny_model().identity)
    with pytest.raises(NeuronError, match="another shape"):
        record_options(model, prompts, other)


def made_part(n: int = 10, n_fields: int = 2) -> Any:
    listed = {
        f"q{i}": SimpleNamespace(
            field=f"f{i % n_fields}", question=f"{i}?", right="yes", base=f"q{i}"
        )
        for i in range(n * n_fields)
    }
    return SimpleNamespace(
        questions=listed,
        fields=tuple(f"f{i}" for i in range(n_fields)),
        accuracy=lambda seed=0: SimpleNamespace(low=0.8),
        chance=lambda: 0.25,
    )


def test_halves_share_no_query_and_are_drawn_by_seed() -> None:
    part = made_part(7)
    split = halves(part, 1)
    for name, (detection, held_out) in split.items():
        assert (len(detection), len(held_out)) == (4, 3)
        assert not set(detection) & set(held_out)
        assert {part.questions[q].field for q in (*detection, *held_out)} == {name}
    assert split == halves(part, 1) != halves(part, 2)


def test_translations_of_a_question_stay_in_one_half() -> None:
    listed = {
        name: Question(name, "?", ("a", "b"), 0, "f", name[-2:])
        for name in (f"fact{i}@{language}" for i in range(10) for language in ("en", "de", "fr"))
    }
    part: Any = SimpleNamespace(questions=listed, fields=("f",))
    detection, held_out = halves(part, 3)["f"]
    bases = [{listed[query].base for query in half} for half in (detection, held_out)]
    assert [len(found) for found in bases] == [5, 5]
    assert not bases[0] & bases[1]


def test_neurons_of_held_out_queries_are_not_used(planted_applications: RunFolder) -> None:
    """A held-out query's own neurons are in the set only where detection queries have them."""
    stored = tables(planted_applications, "queries.prediction")
    held_out = {r["query"] for r in stored["queries"]}
    sets = QuerySets.load(planted_applications.path / "sets" / "queries.parquet")
    counts = tables(planted_applications, "queries.effect")["counts"]
    fields = {r["query"]: r["field"] for r in counts}
    for record in stored["fields"][1:]:
        name = record["field"]
        assert record["n"] + record["detection"] == sum(f == name for f in fields.values())
        union = NeuronSet.load(planted_applications.set_path(f"prediction.{name}"))
        assert len(union) == record["n_neurons"]
        assert set(planted_world().fields[name]) <= set(union)
    assert held_out < set(sets.queries)
    attributed = planted_applications.rows.read(columns=["query", "intervention"])
    asked = attributed.filter(pc.field("intervention") == "none").column("query").to_pylist()
    assert held_out <= set(asked)


def test_random_neurons_lie_in_the_same_layers_outside_the_set() -> None:
    model = tiny_model()
    index = NeuronIndex(model.identity, ("hidden",))
    width = model.identity.width("hidden")
    neurons = index.select(np.array([1, 5, width + 3]), name="some")
    drawn = random_like(neurons, index, 0)
    assert drawn.counts() == neurons.counts()
    assert not len(drawn & neurons)
    assert set(drawn) != set(random_like(neurons, index, 1))
    most = index.select(np.arange(width - 2), name="most")  # too few are left outside
    assert random_like(most, index, 0).counts() == most.counts()


def made_predicted(n: int, *, hit: float, right: float, seed: int) -> Predicted:
    """Two prompts per query; the neurons hit at a rate and know when the model is right."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, 2 * n)
    elsewhere = (truth + rng.integers(1, 4, 2 * n)) % 4
    is_right = rng.random(2 * n) < right
    picks = [np.where(rng.random(2 * n) < share, truth, elsewhere) for share in (hit, 0.25, 0.25)]
    margin = np.stack([is_right + rng.random(2 * n), rng.random(2 * n), rng.random(2 * n)])
    return Predicted(
        query=tuple(f"q{i // 2}" for i in range(2 * n)),
        n_options=np.full(2 * n, 4),
        chosen=np.where(is_right, truth, elsewhere),
        right=truth,
        picked=np.stack(picks),
        margin=margin,
        n_neurons=5,
        n_detection=n,
    )


def test_findings_tell_knowing_neurons_from_random_ones() -> None:
    part = made_part(40)
    config = QueriesConfig(n_resamples=300, n_permutations=300)
    good = made_predicted(40, hit=0.9, right=0.7, seed=1)
    sure = made_predicted(40, hit=0.25, right=1.0, seed=2)
    found = prediction_findings(config, part, {"f0": good, "f1": sure}, {"f2": "one query only"})
    figures = found.figures
    start = "queries.prediction.fields.f0"
    assert figures[f"{start}.neurons"] == pytest.approx((good.picked[0] == good.right).mean())
    assert figures[f"{start}.model"] == pytest.approx((good.chosen == good.right).mean())
    assert figures[f"{start}.beyond_random.low"] > 0.4
    assert figures[f"{start}.p_holm"] < 0.02
    assert figures[f"{start}.auroc.low"] > 0.9
    assert figures["queries.prediction.fields.f1.auroc"] is None
    assert figures["queries.prediction.fields.f1.beyond_random.low"] < 0
    words = " ".join(found.words)
    assert "in 1 of 2 fields: f0" in words
    assert "no AUROC there" in words
    assert "f2 was left out: one query only" in words
    both = together([good, sure])
    assert len(both.query) == len(good.query) + len(sure.query)
    none = prediction_findings(config, part, {}, {"f0": "no neuron"})
    assert "No field could be predicted" in none.words[0]


def test_the_auroc_over_all_fields_compares_within_fields() -> None:
    """Margins that say nothing within a field, but lie higher where the model is right more."""
    sure, unsure = (made_predicted(40, hit=0.5, right=r, seed=s) for r, s in ((0.9, 4), (0.3, 5)))
    rng = np.random.default_rng(6)
    sure, unsure = (
        replace(one, margin=rng.random(one.margin.shape) + lift)
        for one, lift in ((sure, 2.0), (unsure, 0.0))
    )
    config = QueriesConfig(n_resamples=300, n_permutations=300)
    found = prediction_findings(config, made_part(40), {"f0": sure, "f1": unsure}, {})
    low, high = (found.figures[f"queries.prediction.auroc.{end}"] for end in ("low", "high"))
    assert low < 0.5 < high
    assert abs(found.figures["queries.prediction.auroc_random"] - 0.5) < 0.15
    assert "within their field only" in " ".join(found.words)
    right, wrong = (replace(sure, chosen=(sure.right + step) % 4) for step in (0, 1))
    apart = prediction_findings(config, made_part(40), {"f0": right, "f1": wrong}, {})
    assert apart.figures["queries.prediction.auroc"] is None
    assert "No field has both right and wrong" in " ".join(apart.words)


def test_a_neuron_is_told_what_it_serves(
    planted_applications: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A planted field neuron: the field's queries, its relations, and its set; no other field."""
    world = planted_world()
    world.module.save_pretrained(tmp_path / "model")
    world.tokenizer.save_pretrained(tmp_path / "model")
    common = [
        "--model",
        str(tmp_path / "model"),
        "--run",
        str(planted_applications.path),
        "--prompts",
        "20",
    ]
    capsys.readouterr()
    assert run_cli(["neuron", str(world.fields["place"][1]), *common]) == 0
    said = capsys.readouterr().out
    served = said[said.index("Sets of") :]
    found = {line.split()[0]: line.split()[1:] for line in served.splitlines() if line.split()}
    assert found["prediction.place"][2] == str(
        len(NeuronSet.load(planted_applications.set_path("prediction.place")))
    )
    assert found["place"] == ["6", "6"]  # all of its field's queries
    assert found["country"] == ["4", "4"]
    assert found["river"] == ["2", "2"]
    assert not {"person", "company", "product", "prediction.person"} & set(found)
