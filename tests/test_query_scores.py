"""Clusters, NA-ICA and baselines against plain dictionaries, and the file of query sets."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broca.errors import RunError, ScoreError
from broca.neurons import ModelIdentity, Neuron
from broca.scores import (
    QUERY_METHODS,
    QueryScoreConfig,
    QuerySets,
    coarse_cluster,
    common_neurons,
    inverse_cluster_attribution,
    select_queries,
    summarise_query,
)

LAYERS, WIDTH = 3, 8
IDENTITY = ModelIdentity("tiny", "abc", LAYERS, {"hidden": WIDTH, "down": 4})


def make_queries(seed, n=8, prompts=3):
    """Attributions in which one neuron serves every query and some serve two or one."""
    rng = np.random.default_rng(seed)
    queries = {}
    for q in range(n):
        values = rng.normal(0, 0.02, (prompts, LAYERS, WIDTH))
        values[:, 0, 0] += 1.0  # common
        values[:, 1, q % WIDTH] += 0.8
        values[:, 2, (q // 2) % WIDTH] += 0.6
        values[:, 2, (3 * q + 1) % WIDTH] += 0.3
        queries[f"q{q}"] = values.astype(np.float32)
    return queries


# --- the plain twins: one dictionary {(layer, index): score} per query ---


def as_dict(table):
    return {(i, j): float(table[i, j]) for i in range(len(table)) for j in range(len(table[0]))}


def plain_cluster(attributions, config):
    prompts = [as_dict(np.float64(prompt)) for prompt in attributions]
    if config.variant == "paper":
        total = {n: sum(p[n] for p in prompts) for n in prompts[0]}
        largest = max(total.values())
        z = sum(a for a in total.values() if a > 0)
        return {n: a / z for n, a in total.items() if largest > 0 and a > config.t * largest}
    scores = Counter()
    for prompt in prompts:
        largest = max(prompt.values())
        for n, a in prompt.items():
            if largest > 0 and a > config.t * largest:
                scores[n] += round(a, 6)
    z = sum(scores.values())
    return {n: s / z if z > 0 else 0.0 for n, s in scores.items()}


def plain_na_ica(clusters, config):
    counts = Counter(n for cluster in clusters.values() for n in cluster)
    out = {}
    for query, cluster in clusters.items():
        scores = {n: s * math.log(len(clusters) / (counts[n] + 1)) for n, s in cluster.items()}
        ranked = sorted((n for n in scores if scores[n] > 0), key=lambda n: (-scores[n], n))
        kept = ranked[: config.v]
        if config.variant == "paper":
            kept = [n for n in kept if counts[n] / len(clusters) <= config.u]
        out[query] = [(n, scores[n]) for n in kept]
    return out


def located(ranking):
    return [
        ((int(n) // WIDTH, int(n) % WIDTH), s)
        for n, s in zip(ranking.neurons, ranking.scores, strict=True)
    ]


def select(queries, config, activations=None, **more):
    summaries = {
        q: summarise_query(a, None if activations is None else activations[q], config)
        for q, a in queries.items()
    }
    methods = more.pop("methods", [m for m in QUERY_METHODS if m != "activation"])
    return select_queries(summaries, IDENTITY, config=config, methods=methods, **more)


CONFIGS = [
    QueryScoreConfig(),
    QueryScoreConfig(t=0.05, u=0.5, v=3),
    QueryScoreConfig(variant="released-code"),
    QueryScoreConfig(t=0.02, v=4, variant="released-code"),
]


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from(CONFIGS))
def test_clusters_and_na_ica_equal_plain_dictionaries(seed, config):
    queries = make_queries(seed)
    plain = {q: plain_cluster(a, config) for q, a in queries.items()}
    for query, attributions in queries.items():
        cluster = coarse_cluster(attributions, config)
        assert (np.diff(cluster.neurons) > 0).all()
        got = dict(located(cluster))
        assert got.keys() == plain[query].keys()
        for n, score in plain[query].items():
            assert got[n] == pytest.approx(score, rel=1e-9, abs=1e-12)
    sets = select(queries, config)
    for query, expected in plain_na_ica(plain, config).items():
        got = located(sets.rankings["na-ica"][query])
        assert [n for n, _ in got] == [n for n, _ in expected]
        np.testing.assert_allclose([s for _, s in got], [s for _, s in expected])


def test_hand_arithmetic():
    one = np.zeros((2, 1, 4), np.float32)
    one[0, 0], one[1, 0] = [4, 1, -2, 0], [4, 1, -2, 1]  # sums 8, 2, -4, 1
    cluster = coarse_cluster(one, QueryScoreConfig(t=0.2))
    assert dict(located(cluster)) == pytest.approx({(0, 0): 8 / 11, (0, 1): 2 / 11})
    # The second prompt alone lets neurons 1 and 3 pass (1 > 0.2 · 4), the first only neuron 1.
    released = coarse_cluster(one, QueryScoreConfig(t=0.2, variant="released-code"))
    assert dict(located(released)) == pytest.approx(
        {(0, 0): 8 / 11, (0, 1): 2 / 11, (0, 3): 1 / 11}
    )


def test_released_code_sums_only_prompts_in_which_a_neuron_passed():
    one = np.zeros((2, 1, 3), np.float32)
    one[0, 0], one[1, 0] = [1.0, 0.5, 0.0], [1.0, 0.1, 0.0]
    released = coarse_cluster(one, QueryScoreConfig(variant="released-code"))
    assert list(released.neurons) == [0, 1]
    np.testing.assert_allclose(released.scores, [2 / 2.5, 0.5 / 2.5])
    paper = coarse_cluster(one)
    np.testing.assert_allclose(paper.scores, [2 / 2.6, 0.6 / 2.6], rtol=1e-6)


def test_released_code_rounds_to_six_decimals():
    tiny = np.full((1, 1, 2), 4e-7, np.float32)
    released = coarse_cluster(tiny, QueryScoreConfig(variant="released-code"))
    np.testing.assert_array_equal(released.scores, [0.0, 0.0])
    np.testing.assert_allclose(coarse_cluster(tiny).scores, [0.5, 0.5])


def test_negative_attributions_enter_no_cluster_and_not_the_divisor():
    values = np.array([[[3.0, 1.0, -9.0]]], np.float32)
    np.testing.assert_allclose(coarse_cluster(values).scores, [0.75, 0.25])
    for variant in ("paper", "released-code"):
        assert len(coarse_cluster(-np.abs(values), QueryScoreConfig(variant=variant))) == 0


def test_ica_and_common_neurons():
    queries = make_queries(0)
    clusters = [coarse_cluster(a) for a in queries.values()]
    ica = inverse_cluster_attribution(clusters, LAYERS * WIDTH)
    assert ica[0] == pytest.approx(math.log(8 / 9))
    assert ica[WIDTH] == pytest.approx(math.log(8 / 2))
    common = common_neurons(clusters, 0.3, LAYERS * WIDTH)
    assert common.neurons[0] == 0
    assert common.scores[0] == 1.0
    assert (np.diff(common.scores) <= 0).all()


def test_a_neuron_in_exactly_the_share_u_is_not_common():
    values = np.zeros((10, 1, 1, 12), np.float32)
    for q in range(10):
        values[q, 0, 0, [q, 10]] = [1.0, 1.0 if q < 3 else 0.0]
    clusters = [coarse_cluster(v) for v in values]
    assert len(common_neurons(clusters, 0.3, 12)) == 0
    assert list(common_neurons(clusters, 0.29, 12).neurons) == [10]


def test_the_paper_removes_common_neurons_and_the_released_code_does_not():
    queries = {}
    for q in range(5):
        values = np.zeros((1, LAYERS, WIDTH), np.float32)
        values[0, 0, q] = 1.0
        values[0, 1, 0] = 0.9 if q < 2 else 0.0  # 2 of 5: common at u = 0.3, ICA above 0
        queries[f"q{q}"] = values
    paper, released = (
        select(queries, QueryScoreConfig(variant=v)) for v in ("paper", "released-code")
    )
    assert list(paper.neurons("q0")) == [Neuron("hidden", 0, 0)]
    assert Neuron("hidden", 1, 0) in released.neurons("q0")
    assert list(paper.common_neurons()) == [Neuron("hidden", 1, 0)]


def test_baselines_have_as_many_neurons_as_na_ica():
    queries = make_queries(1)
    activations = {q: np.abs(a) for q, a in queries.items()}
    sets = select(queries, QueryScoreConfig(), activations, methods=QUERY_METHODS, seed=4)
    assert sets.methods == QUERY_METHODS
    assert sets.queries == tuple(queries)
    wanted = sets.counts()
    assert min(wanted.values()) > 0
    for method in QUERY_METHODS:
        counts = sets.counts(method)
        for query in queries:
            assert counts[query] <= wanted[query]
            if method != "knowledge-neurons":
                assert counts[query] == wanted[query]
    again = select(queries, QueryScoreConfig(), methods=["random"], seed=4)
    other = select(queries, QueryScoreConfig(), methods=["random"], seed=5)
    drawn = [list(s.neurons("q0", "random")) for s in (sets, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]
    # The common neuron leads wherever nothing removes it.
    assert next(iter(sets.neurons("q0", "na"))) == Neuron("hidden", 0, 0)
    assert next(iter(sets.neurons("q0", "knowledge-neurons"))) == Neuron("hidden", 0, 0)
    assert Neuron("hidden", 0, 0) not in sets.neurons("q0", "na-ica")


def test_activation_takes_the_highest_mean_values():
    queries = make_queries(2)
    rng = np.random.default_rng(2)
    activations = {q: rng.integers(-3, 4, a.shape).astype(np.float32) for q, a in queries.items()}
    sets = select(queries, QueryScoreConfig(), activations, methods=["na-ica", "activation"])
    for query, values in activations.items():
        mean = as_dict(values.mean(axis=0))
        expected = sorted(mean, key=lambda n: (-mean[n], n))[: sets.counts()[query]]
        assert [n for n, _ in located(sets.rankings["activation"][query])] == expected


def test_knowledge_neurons_are_shared_by_more_than_half_of_the_prompts():
    values = np.zeros((4, 1, 3), np.float32)
    values[:, 0] = [[1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 0, 1]]
    knowledge = summarise_query(values).knowledge
    assert list(knowledge.neurons) == [0]
    assert knowledge.scores[0] == 1.0
    most = summarise_query(values[:3]).knowledge
    assert list(most.neurons) == [0, 1]


def test_a_query_without_cluster_gets_no_neurons():
    queries = make_queries(3)
    queries["mute"] = -np.ones((2, LAYERS, WIDTH), np.float32)
    sets = select(queries, QueryScoreConfig())
    assert sets.counts()["mute"] == 0
    assert len(sets.neurons("mute")) == 0
    assert len(sets.neurons("mute", "random")) == 0


def test_round_trip(tmp_path):
    queries = make_queries(4)
    queries["mute"] = -np.ones((2, LAYERS, WIDTH), np.float32)
    config = QueryScoreConfig(t=0.1, v=5)
    sets = select(queries, config, seed=9)
    path = sets.save(tmp_path / "deep" / "queries.parquet")
    back = QuerySets.load(path)
    assert (back.identity, back.site, back.config, back.seed) == (IDENTITY, "hidden", config, 9)
    assert back.methods == sets.methods
    assert back.queries == sets.queries
    np.testing.assert_array_equal(back.common.neurons, sets.common.neurons)
    np.testing.assert_array_equal(back.common.scores, sets.common.scores)
    for method in sets.methods:
        for query in sets.queries:
            one, two = sets.rankings[method][query], back.rankings[method][query]
            np.testing.assert_array_equal(one.neurons, two.neurons)
            np.testing.assert_array_equal(one.scores, two.scores)
    columns = pq.read_table(path).column_names
    assert columns == ["query", "method", "site", "layer", "index", "score"]
    assert [p.name for p in path.parent.iterdir()] == ["queries.parquet"]


def test_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(ScoreError, match="Cannot read"):
        QuerySets.load(tmp_path / "missing.parquet")
    junk = tmp_path / "junk.parquet"
    junk.write_text("not parquet")
    with pytest.raises(ScoreError, match="no file of query sets"):
        QuerySets.load(junk)
    import pyarrow as pa

    pq.write_table(pa.table({"query": ["a"]}), junk)
    with pytest.raises(ScoreError, match="no file of query sets"):
        QuerySets.load(junk)
    with pytest.raises(RunError, match="Cannot write"):
        select(make_queries(0), QueryScoreConfig()).save(junk / "below" / "a-file.parquet")


def test_unknown_query_or_method():
    sets = select(make_queries(0), QueryScoreConfig())
    with pytest.raises(ScoreError, match="Unknown query"):
        sets.neurons("q99")
    with pytest.raises(ScoreError, match="No sets by 'activation'"):
        sets.neurons("q0", "activation")


@pytest.mark.parametrize(
    "wrong",
    [
        {"t": 1.0},
        {"t": -0.1},
        {"t": float("nan")},
        {"u": 0.0},
        {"u": 1.5},
        {"v": 0},
        {"v": 2.5},
        {"variant": "code"},
    ],
)
def test_settings_validate_themselves(wrong):
    with pytest.raises(ScoreError):
        QueryScoreConfig(**wrong)


def same(n, value=1.0):
    return {f"q{i}": np.full((1, LAYERS, WIDTH), value, np.float32) for i in range(n)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: select(make_queries(0, n=1), QueryScoreConfig()), "at least three"),
        (lambda: select(make_queries(0, n=2), QueryScoreConfig()), "at least three"),
        (lambda: select(make_queries(0, n=3), QueryScoreConfig()), "Use at least 4 queries"),
        (lambda: select({}, QueryScoreConfig()), "at least three"),
        (lambda: select(same(5), QueryScoreConfig()), "No query keeps a neuron"),
        (lambda: select(same(5, -1.0), QueryScoreConfig()), "No query keeps a neuron"),
        (lambda: select(make_queries(0), QueryScoreConfig(), methods=["tf-idf"]), "Unknown method"),
        (
            lambda: select(make_queries(0), QueryScoreConfig(), methods=["activation"]),
            "needs activations",
        ),
        (lambda: summarise_query(np.ones((3, 4))), r"\[prompt, layer, neuron\]"),
        (lambda: summarise_query(np.ones((0, 2, 2))), r"\[prompt, layer, neuron\]"),
        (lambda: summarise_query(np.full((1, 2, 2), np.nan)), "NaN"),
        (lambda: summarise_query(np.ones((1, 2, 2)), np.ones((1, 2, 3))), "Activations of shape"),
        (lambda: summarise_query(np.ones((1, 2, 2)), np.full((1, 2, 2), np.inf)), "Activations"),
        (
            lambda: select(
                {f"q{i}": np.eye(40, dtype=np.float32)[None, i : i + 1] for i in range(36)},
                QueryScoreConfig(),
            ),
            "do not fit the model",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ScoreError, match=message):
        call()
