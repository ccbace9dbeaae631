"""The predictor and its AUROC: equal to plain loops and scikit-learn, at chance on noise."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

import broca
from broca.errors import EstimateError, ScoreError
from broca.estimates import auroc
from broca.prediction import NeuronPredictor

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
    lone = auroc([1.0, 2, 3, 4, 5, 0], [True] * 5 + [False], groups=list("abcdef"))
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
