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
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

import broca
from broca.choices import find_letters
from broca.choices.letters import label_tokens
from broca.cli import run_cli
from broca.errors import EstimateError, NeuronError, PromptError, ScoreError
from broca.estimates import auroc
from broca.model import LanguageModel
from broca.neurons import Neuron, NeuronIndex, NeuronSet
from broca.prediction import NeuronPredictor, record_options, render_options
from broca.prompts import render_question_prompts
from broca.questions import Question, write_questions
from broca.report import figure
from broca.report.runs import write_report
from broca.run import execute, read_job
from broca.scores import QuerySets
from broca.store import RunFolder
from broca.studies.queries import QueriesConfig
from broca.studies.queries.effects import Key
from broca.studies.queries.flip_words import flip_words
from broca.studies.queries.flips import Flips, _paired, _records, estimate_share
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


def test_flips_equal_a_plain_count_over_rows(run: RunFolder) -> None:
    stored = run.rows.read().to_pylist()
    own = [
        row for row in stored if row["set"].startswith(f"{row['query']}/") and not row["control"]
    ]
    found = [r for r in tables(run, "queries.flips")["flips"] if r["field"] == "all"]
    assert {(r["method"], r["action"]) for r in found} == {
        (method, action) for method in SETTINGS["methods"] for action in ("boost", "suppress")
    }
    for record in found:
        factor, before = {"boost": (2.0, False), "suppress": (0.0, True)}[record["action"]]
        here = [r for r in own if r["method"] == record["method"] and r["factor"] == factor]
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


class _Rows(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.correct)


def rows_of(before: str, after: str) -> Any:
    """Outcomes, "+" for right and "-" for wrong."""
    made = {"correct_before": before, "correct": after}
    return _Rows(**{name: np.array([sign == "+" for sign in text]) for name, text in made.items()})


def test_both_actions_flip_their_own_way() -> None:
    config = QueriesConfig(methods=("na-ica", "random"))
    untouched = [rows_of("+--", "+--"), rows_of("++-", "++-")]
    edited = {
        Key("na-ica", "boost", "related", "a"): rows_of("+--", "-+-"),
        Key("na-ica", "suppress", "related", "a"): rows_of("+--", "---"),
        Key("na-ica", "suppress", "related", "b"): rows_of("++-", "--+"),
        Key("na-ica", "suppress", "matched", "b"): rows_of("++-++-", "++--+-"),
    }
    flips = Flips.of(("a", "b"), untouched, edited, config)
    assert flips.candidates("boost").tolist() == [2, 1]
    assert flips.candidates("suppress").tolist() == [1, 2]
    assert flips.wanted["na-ica", "boost"].tolist() == [1, 0]
    assert flips.against["na-ica", "boost"].tolist() == [1, 0]
    assert flips.wanted["na-ica", "suppress"].tolist() == [1, 2]
    assert flips.against["na-ica", "suppress"].tolist() == [0, 1]
    matched = flips.matched["na-ica", "suppress"]
    assert np.isnan(matched[0])  # no neurons, no matched ones
    assert matched[1] == 0.5  # one flip over two draws
    assert flips.wanted["random", "boost"].tolist() == [0, 0]  # no neurons, no flips


def test_shares_that_resampling_cannot_bound_get_exact_intervals() -> None:
    config = QueriesConfig(n_resamples=200)
    two = np.full(40, 2.0)
    none, every = (estimate_share(flips, two, config) for flips in (np.zeros(40), two))
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 40))
    assert (every.low, every.high) == (pytest.approx(0.025 ** (1 / 40)), 1.0)
    some = estimate_share(np.repeat([0.0, 1.0], 20), two, config)
    assert 0.1 < some.low < some.value == 0.25 < some.high < 0.4


def test_versions_of_a_question_are_no_further_evidence() -> None:
    """Flips of 12 questions, and the same of three translations each: the same p, interval, n."""
    config = QueriesConfig(methods=("na-ica", "random"), n_resamples=500, n_permutations=2000)
    rng = np.random.default_rng(1)
    wrong = rng.integers(0, 3, 12).astype(float)
    table = {
        (method, action): np.minimum(rng.binomial(2, share, 12), wrong)
        for method, share in (("na-ica", 0.6), ("random", 0.2))
        for action in ("boost", "suppress")
    }
    matched = {kind: np.full(12, 0.3) for kind in table}

    def made(n: int, groups: list[int]) -> Flips:
        tables = (table, table, matched)
        repeated = ({kind: np.repeat(v, n) for kind, v in one.items()} for one in tables)
        labels = np.array(groups, dtype=object)
        return Flips(np.full(12 * n, 4.0), np.repeat(wrong, n), *repeated, groups=labels)

    each, thrice = made(1, list(range(12))), made(3, [i // 3 for i in range(36)])
    for one, three in zip(
        [*_records("all", each, config), *_paired(each, config)],
        [*_records("all", thrice, config), *_paired(thrice, config)],
        strict=True,
    ):
        assert three["n"] == 3 * one["n"]
        assert three["groups"] == one["groups"] == one["n"]
        for name in ("rate_low", "rate_high", "share_low", "share_high", "p_matched"):
            assert three.get(name) == pytest.approx(one.get(name))
        for name in ("gap_low", "gap_high", "p", "p_holm"):
            assert three.get(name) == pytest.approx(one.get(name))
    none = np.zeros(36)
    few = estimate_share(none, none + 4, config, groups=thrice.groups)
    assert few.high == pytest.approx(1 - 0.025 ** (1 / 12))
    words = flip_words(_records("all", thrice, config), [], 0.05, near=False)
    assert f"versions of {(wrong > 0).sum()} questions" in words[0]


def flip_record(**changes: Any) -> dict[str, Any]:
    record = {"method": "na-ica", "action": "boost", "queries": 40, "n": 30, "prompts": 80}
    record |= {"candidates": 50, "rate": 0.2, "rate_low": 0.1, "rate_high": 0.3}
    record |= {"share": 0.12, "share_low": 0.1, "share_high": 0.2, "against": 0.0}
    return record | changes


def test_words_say_when_there_are_too_few_wrong_answers() -> None:
    pair = {"action": "boost", "method": "na-ica", "other": "random", "p_holm": 0.01}
    paired = [pair | {"gap_low": 0.1, "gap_high": 0.3}]
    enough = flip_words([flip_record()], paired, 0.05, near=False)
    assert "flips more than random" in enough[-1]
    few = flip_words([flip_record(n=4)], paired, 0.05, near=False)
    assert "Only 4 of 40 queries" in few[-1]
    none = flip_words([flip_record(n=0, candidates=0, rate=None)], [], 0.05, near=False)
    assert "No prompt is answered wrongly" in none[0]
    near = flip_words([flip_record()], paired, 0.05, near=True)
    assert "near chance" in near[0]
    assert not any("more than random" in text for text in near)


# ---- the predictor


def plain_prediction(known: np.ndarray, new: np.ndarray) -> list[int]:
    """Steps 2 to 4 of `broca.prediction`, number by number."""
    n_options = known.shape[1]
    means, deviations = [], []
    for option in range(n_options):
        seen = [sum(row) / len(row) for row in known[:, option] if not np.isnan(row[0])]
        mean = sum(seen) / len(seen)
        means.append(mean)
        deviations.append((sum((x - mean) ** 2 for x in seen) / len(seen)) ** 0.5)
    found = []
    for question in new:
        best, place = -np.inf, 0
        for option in range(n_options):
            z = (sum(question[option]) / len(question[option]) - means[option]) / deviations[option]
            if z > best:
                best, place = z, option
        found.append(place)
    return found


def made_activities(
    n: int = 200, *, lift: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Neurons that prefer some positions and, by `lift`, the right option."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, 4, 6)) + np.array([0.0, 8.0, -3.0, 2.0])[:, None]
    right = rng.integers(0, 4, n)
    values[np.arange(n), right] += lift
    return values, right


def test_the_predictor_equals_a_plain_loop() -> None:
    values, _ = made_activities(60)
    values[5, 3] = values[40, 3] = np.nan  # questions of three options
    predictor = NeuronPredictor().fit(values[:30])
    assert predictor.predict(values[30:]).tolist() == plain_prediction(values[:30], values[30:])
    z = predictor.decision_function(values)
    assert z[5, 3] == z[40, 3] == -np.inf
    assert predictor.margin(values, predictor.predict(values)).min() >= 0


def test_the_right_option_is_found_and_noise_is_at_chance() -> None:
    values, right = made_activities(600, lift=3.0)
    predictor = NeuronPredictor().fit(values[:300], right[:300])
    assert predictor.score(values[300:], right[300:]) > 0.95
    assert (values[300:].mean(2).argmax(1) == 1).mean() > 0.8  # not without normalising
    values, right = made_activities(4000, lift=0.0)
    predictor = NeuronPredictor().fit(values[:2000])
    assert abs(predictor.score(values[2000:], right[2000:]) - 0.25) < 0.04


def test_the_predictor_keeps_scikit_learns_manner() -> None:
    values, right = made_activities(20)
    assert clone(NeuronPredictor()).get_params() == {}
    predictor = broca.NeuronPredictor()
    with pytest.raises(NotFittedError):
        predictor.predict(values)
    assert predictor.fit(values, right) is predictor
    assert predictor.classes_.tolist() == [0, 1, 2, 3]
    assert predictor.n_features_in_ == 6
    with pytest.raises(ScoreError, match="fitted on 4 and 6"):
        predictor.predict(values[:, :3])
    for wrong in (values[:, :, 0], values[:0], np.where(values > 2, np.inf, values)):
        with pytest.raises(ScoreError):
            NeuronPredictor().fit(wrong)
    with pytest.raises(ScoreError, match="3 right options for 20"):
        NeuronPredictor().fit(values, right[:3])
    assert NeuronPredictor().fit(np.ones((5, 4, 2))).scale_.tolist() == [1.0] * 4


def test_positions_too_seldom_fitted_take_the_scale_of_the_others() -> None:
    values, _ = made_activities(40)
    values[:, 3] += 50.0  # raw, it would win always
    known = values[:20].copy()
    for seen in (0, 1):
        known[seen:, 3] = np.nan
        predictor = NeuronPredictor().fit(known)
        others = known[:, :3].mean(axis=2)
        assert predictor.mean_[3] == pytest.approx(others.mean())
        assert predictor.scale_[3] == pytest.approx(others.std())
        np.testing.assert_allclose(predictor.mean_[:3], others.mean(axis=0))
        np.testing.assert_allclose(predictor.scale_[:3], others.std(axis=0))
    known[:2, 3] = values[:2, 3]
    assert NeuronPredictor().fit(known).mean_[3] == pytest.approx(values[:2, 3].mean())
    with pytest.raises(ScoreError, match="No option position is in 2"):
        NeuronPredictor().fit(known[:1])


def test_activity_that_differs_by_rounding_alone_is_constant() -> None:
    alike = np.full((10, 4, 3), 0.1)
    alike[:, 1] = np.linspace(0.1, 0.1 + 1e-9, 10)[:, None]
    assert NeuronPredictor().fit(alike).scale_.tolist() == [1.0] * 4
    small = 1e-8 * made_activities(30)[0]  # small activities that do differ
    np.testing.assert_allclose(NeuronPredictor().fit(small).scale_, small.mean(axis=2).std(axis=0))


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
        accuracy=lambda seed: SimpleNamespace(low=0.8),
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
        union = NeuronSet.load(run.path / "sets" / f"prediction.{name}.json")
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


def test_auroc_over_groups_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(80) < 0.7
    scores = np.round(rng.standard_normal(80) + labels, 1)  # with ties
    groups = np.repeat(np.arange(20), 4)
    found = auroc(scores, labels, groups=groups, n_resamples=2000)
    assert found.value == pytest.approx(roc_auc_score(labels, scores))
    assert found.n == 20
    draws = []
    for _ in range(600):
        picked = np.concatenate([np.flatnonzero(groups == g) for g in rng.integers(0, 20, 20)])
        draws.append(roc_auc_score(labels[picked], scores[picked]))
    low, high = np.quantile(draws, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.03)
    assert found.high == pytest.approx(high, abs=0.03)
    # copies of an observation are no further evidence
    copied = auroc(np.repeat(scores, 5), np.repeat(labels, 5), groups=np.repeat(groups, 5))
    assert copied.high - copied.low > 0.8 * (found.high - found.low)
    lone = auroc([1.0, 2.0, 0.0], [True, True, False], groups=["a", "b", "c"])
    assert (lone.low, lone.high) == (0.0, 1.0)  # many resamples lack the one negative
    with pytest.raises(EstimateError, match="group labels"):
        auroc(scores, labels, groups=groups[:3])


def test_auroc_within_strata_counts_no_pair_across_them() -> None:
    rng = np.random.default_rng(3)
    field = np.repeat([0, 1, 2], 30)
    labels = rng.random(90) < np.array([0.9, 0.5, 0.2])[field]
    scores = np.round(rng.standard_normal(90) + 4 * (field == 0), 1)  # fields differ, no more
    groups = np.arange(90) // 2
    found = auroc(scores, labels, groups=groups, strata=field, n_resamples=1500)
    won = pairs = 0.0
    for a, b in ((a, b) for a in range(90) for b in range(90) if field[a] == field[b]):
        if labels[a] and not labels[b]:
            pairs += 1
            won += (scores[a] > scores[b]) + 0.5 * (scores[a] == scores[b])
    assert found.value == pytest.approx(won / pairs)
    assert found.n == 45
    assert found.low < 0.5 < found.high
    assert auroc(scores, labels, groups=groups).low > 0.6  # what pooling made of it
    draws = []
    for _ in range(400):
        picked = [rng.integers(15 * f, 15 * f + 15, 15) for f in range(3)]
        rows = [np.concatenate([np.flatnonzero(groups == g) for g in one]) for one in picked]
        area = [roc_auc_score(labels[r], scores[r]) for r in rows if 0 < labels[r].sum() < 30]
        n = [labels[r].sum() * (~labels[r]).sum() for r in rows if 0 < labels[r].sum() < 30]
        draws.append(np.average(area, weights=n))
    assert (found.low, found.high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.04)
    one = auroc(scores, labels, groups=groups, strata=np.zeros(90))
    assert one == auroc(scores, labels, groups=groups)
    with pytest.raises(EstimateError, match="No stratum"):
        auroc(scores, labels, groups=groups, strata=groups * 2 + labels)
    with pytest.raises(EstimateError, match="needs groups"):
        auroc(scores, labels, strata=field)


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
    assert "This run cannot tell: near chance" in page


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
        len(NeuronSet.load(run.path / "sets" / "prediction.place.json"))
    )
    assert found["place"] == ["6", "6"]  # all of its field's queries
    assert found["country"] == ["4", "4"]
    assert found["river"] == ["2", "2"]
    assert not {"person", "company", "product", "prediction.person"} & set(found)
