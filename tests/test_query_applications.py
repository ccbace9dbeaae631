"""Flips and prediction by neurons: equal to plain counts, true on planted and made-up ground."""

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
from broca.questions import Question, write_questions
from broca.report.parts import figure
from broca.report.runs import write_report
from broca.run import execute, read_job
from broca.scores import QuerySets
from broca.store import RunFolder
from broca.studies.queries import QueriesConfig
from broca.studies.queries.prediction import halves, random_like
from broca.studies.queries.prediction_findings import Predicted, prediction_findings, together
from planted import planted_world
from query_files import planted_questions, rows, write_rows
from tiny import tiny_model

SETTINGS: dict[str, Any] = {
    "studies": ["queries.effect", "queries.flips", "queries.prediction"],
    "n_prompts": 2,
    "n_unrelated": 1,
    "n_matched": 2,
    "methods": ["na-ica", "na", "random"],
    "n_resamples": 200,
    "n_permutations": 200,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Both studies beside the effect, on the planted model."""
    world, place = planted_world(), tmp_path_factory.mktemp("planted")
    questions = write_questions(planted_questions(world, 6), place / "questions.jsonl")
    model = LanguageModel(world.module, world.tokenizer, name="planted")
    job = read_job({**SETTINGS, "questions": str(questions)})
    return execute(job, place / "run", model=model, report=False)


def tables(run: RunFolder, study: str) -> dict[str, list[dict[str, Any]]]:
    return run.read_json("findings.json")[study]["tables"]


# ---- flips


def own_rows(run: RunFolder, method: str, factor: float) -> list[dict[str, Any]]:
    """Rows of every query's own prompts with its own neurons by a method scaled.

    Methods that choose the same neurons share their rows, so these are looked up by what was asked.
    """
    asked = run.read_json("conditions.json")
    stored = {(r["condition"], r["prompt"]): r for r in run.rows.read().to_pylist()}
    found = []
    for one in asked["conditions"]:
        query = one["prompts"].removeprefix("query/")
        own = one["study"] == "queries.flips" and one["set"] == f"{query}/{method}"
        if own and one["factor"] == factor and not one["control"]:
            prompts = asked["groups"]["queries.flips"][one["prompts"]]
            pairs = [(key, prompt) for key in one["keys"] for prompt in prompts]
            found += [stored[pair] for pair in pairs if pair in stored]
    return found


def test_flips_equal_a_plain_count_over_rows(run: RunFolder) -> None:
    found = [r for r in tables(run, "queries.flips")["flips"] if r["field"] == "all"]
    assert {(r["method"], r["action"]) for r in found} == {
        (method, action) for method in SETTINGS["methods"] for action in ("boost", "suppress")
    }
    for record in found:
        factor, before = {"boost": (2.0, False), "suppress": (0.0, True)}[record["action"]]
        here = own_rows(run, record["method"], factor)
        could = [r for r in here if r["correct_before"] == before]
        flipped = [r for r in could if r["correct"] != before]
        assert len(here) == record["prompts"]
        assert record["flips"] == len(flipped)
        assert record["candidates"] == len(could)
        assert record["share"] == pytest.approx(len(flipped) / len(here))
        if could:
            assert record["rate"] == pytest.approx(len(flipped) / len(could))
        else:
            assert record["rate"] is None
        back = [r for r in here if r["correct_before"] != before and r["correct"] == before]
        assert record["against"] == pytest.approx(len(back) / len(here))


def test_flips_share_every_row_with_the_effect(run: RunFolder) -> None:
    assert "queries.flips" not in set(run.rows.read().column("study").to_pylist())
    assert tables(run, "queries.flips")["flips"][0]["prompts"] > 0


def test_suppressing_own_neurons_flips_right_answers_and_random_ones_do_not(run: RunFolder) -> None:
    figures = run.summary
    own = "queries.flips.na-ica.suppress"
    assert figures[f"{own}.rate.low"] > 0.2
    assert figures[f"{own}.matched"] < 0.1
    assert figures[f"{own}.p_matched"] < 0.01
    assert figures[f"{own}.beyond_random.low"] > 0.1
    assert figures["queries.flips.random.suppress.rate"] < 0.1
    words = run.read_json("findings.json")["queries.flips"]["words"]
    assert any("No prompt is answered wrongly" in text for text in words)  # it knows all of them
    assert any("More than random neurons: na-ica" in text for text in words)


# ---- options put as answers


def test_options_are_put_as_the_letters_tokens_and_read_there(run: RunFolder) -> None:
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


# ---- the study


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


def test_neurons_of_held_out_queries_are_not_used(run: RunFolder) -> None:
    """A held-out query's own neurons are in the set only where detection queries have them."""
    stored = tables(run, "queries.prediction")
    held_out = {r["query"] for r in stored["queries"]}
    sets = QuerySets.load(run.path / "sets" / "queries.parquet")
    counts = tables(run, "queries.effect")["counts"]
    fields = {r["query"]: r["field"] for r in counts}
    for record in stored["fields"][1:]:
        name = record["field"]
        assert record["n"] + record["detection"] == sum(f == name for f in fields.values())
        union = NeuronSet.load(run.set_path(f"prediction.{name}"))
        assert len(union) == record["n_neurons"]
        assert set(planted_world().fields[name]) <= set(union)
    assert held_out < set(sets.queries)
    attributed = run.rows.read(columns=["query", "intervention"])
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


def test_the_page_shows_both(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    svg = "<svg xmlns='http://www.w3.org/2000/svg'/>"
    monkeypatch.setattr(figure.vlc, "vegalite_to_svg", lambda chart: svg)
    monkeypatch.setattr(figure.Figure, "file", lambda self, kind: b"drawn")
    page = write_report([run], tmp_path / "page.html").read_text(encoding="utf-8")
    for text in (
        "Knowledge editing at inference, by field",
        "Flips by method",
        "published: of all, Llama-2-7B-chat",
        "18.2 %",
        "Prediction by neurons",
        "biology (published)",
        "Do query neurons flip answers, by field?",
        "Do a field&#39;s neurons predict answers?",
    ):
        assert text in page, text


def test_a_model_that_knows_nothing_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiny and random, in two languages: no conclusions, no crash, and a page."""
    listed = [{**row, "language": "de" if i // 2 % 2 else "en"} for i, row in enumerate(rows(2, 8))]
    path = write_rows(tmp_path / "questions.jsonl", listed)
    studies = ["queries.flips", "queries.flips.languages", "queries.prediction"]
    options = {**SETTINGS, "n_prompts": 1, "u": 0.9, "studies": studies, "questions": str(path)}
    done = execute(read_job(options), tmp_path / "run", model=tiny_model("llama"), report=False)
    for study in ("queries.flips", "queries.prediction"):
        assert "near chance" in " ".join(done.read_json("findings.json")[study]["words"])
    assert "queries.flips.languages.na-ica.suppress.share" in done.summary
    # asked by language too, prompts keep their field of knowledge
    asked = [prompt for prompt in done.prompts().values() if prompt["language"] == "en"]
    assert {prompt["field"] for prompt in asked} == {"field0", "field1"}
    monkeypatch.setattr(figure.vlc, "vegalite_to_svg", lambda chart: "<svg/>")
    monkeypatch.setattr(figure.Figure, "file", lambda self, kind: b"drawn")
    page = write_report([done], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "This run cannot tell" in page


def test_a_neuron_is_told_what_it_serves(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A planted field neuron: the field's queries, its relations, and its set; no other field."""
    world = planted_world()
    world.module.save_pretrained(tmp_path / "model")
    world.tokenizer.save_pretrained(tmp_path / "model")
    common = ["--model", str(tmp_path / "model"), "--run", str(run.path), "--prompts", "20"]
    capsys.readouterr()
    assert run_cli(["neuron", str(world.fields["place"][1]), *common]) == 0
    said = capsys.readouterr().out
    served = said[said.index("Sets of") :]
    found = {line.split()[0]: line.split()[1:] for line in served.splitlines() if line.split()}
    assert found["prediction.place"][2] == str(
        len(NeuronSet.load(run.set_path("prediction.place")))
    )
    assert found["place"] == ["6", "6"]  # all of its field's queries
    assert found["country"] == ["4", "4"]
    assert found["river"] == ["2", "2"]
    assert not {"person", "company", "product", "prediction.person"} & set(found)
