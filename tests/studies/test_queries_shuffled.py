"""Fields against shuffled ones: equal to plain loops, and seldom wrong under the null."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples
from sklearn.metrics.pairwise import cosine_distances as sklearn_cosine

from broca.studies.queries.embedding import (
    cosine_distances,
    cosines,
    separation_records,
    silhouettes,
)
from broca.studies.queries.localisation import (
    Grid,
    field_maps,
    scattered_shares,
    share_records,
)
from broca.studies.queries.overlap import overlaps, pair_records, pooled_counts
from broca.studies.queries.shuffled import FieldScores, confounded
from query_parts import GRID, LAYERS, WIDTH, part_of, plain, random_part

# ---- plain twins


def plain_share(part: Any, field_of: Mapping[str, str], field: str) -> float:
    """Share of a field's score in the fullest 1 % of the cells, cell by cell."""
    cells: dict[tuple[int, int], float] = {}
    for query, own in plain(part).items():
        if field_of[query] == field:
            for neuron, score in own.items():
                layer, index = divmod(neuron, WIDTH)
                place = (layer, index // (WIDTH // 10))
                cells[place] = cells.get(place, 0.0) + score
    ordered = sorted(cells.values(), reverse=True)
    return sum(ordered[:1]) / sum(ordered)  # 1 % of 40 cells, rounded up


def test_shares_of_the_score_equal_a_loop_over_cells() -> None:
    part = random_part(1)
    scores = FieldScores.of(part, "field")
    assert (GRID.n_cells, GRID.n_top) == (40, 1)
    assert Grid(32, 11008, 64).n_top == 21
    maps = field_maps(scores, GRID)
    field_of = {query: question.field for query, question in part.questions.items()}
    for i, field in enumerate(scores.fields):
        assert GRID.top_share(maps)[i] == pytest.approx(plain_share(part, field_of, field))
    total = sum(score for own in plain(part).values() for score in own.values())
    assert maps.sum() == pytest.approx(total)


def test_bins_need_not_divide_the_width() -> None:
    grid = Grid(2, 11, 4)
    cells = grid.cells(np.arange(22))
    assert cells[:11].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3]
    assert cells[11:].tolist() == [4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7]


def test_overlaps_equal_sets_of_neurons() -> None:
    part = random_part(2)
    scores = FieldScores.of(part, "field")
    pooled: dict[str, set[int]] = {}
    for query, own in plain(part).items():
        pooled.setdefault(part.questions[query].field, set()).update(own)
    smaller, jaccard = overlaps(pooled_counts(scores, scores.codes[None]))
    for i, (a, b) in enumerate(combinations(scores.fields, 2)):
        shared = len(pooled[a] & pooled[b])
        assert smaller[0, i] == pytest.approx(shared / min(len(pooled[a]), len(pooled[b])))
        assert jaccard[0, i] == pytest.approx(shared / len(pooled[a] | pooled[b]))


def test_silhouettes_equal_scikit_learns() -> None:
    part = random_part(3)
    scores = FieldScores.of(part, "field")
    distances = cosine_distances(scores.scores)
    np.testing.assert_allclose(distances, sklearn_cosine(scores.scores), atol=1e-12)
    chunk = next(scores.shuffles(5, 0, 5))
    chunk[0, :] = np.r_[0, np.ones(len(chunk[0]) - 1, int)]  # a field of one query
    members = (chunk[:, None, :] == np.arange(3)[:, None]).astype(float)[:, :, :]
    for codes, found in zip(chunk[1:], silhouettes(distances, members[1:]), strict=True):
        expected = silhouette_samples(distances, codes, metric="precomputed")
        np.testing.assert_allclose(found, expected, atol=1e-12)
    alone = silhouettes(distances, members[:1, :2])[0]
    expected = silhouette_samples(distances, chunk[0], metric="precomputed")
    np.testing.assert_allclose(alone, expected, atol=1e-12)
    same = [
        1 - distances[i, j]
        for i, j in combinations(range(len(scores.codes)), 2)
        if scores.codes[i] == scores.codes[j]
    ]
    assert cosines(scores, distances)[0] == pytest.approx(np.mean(same))


def test_p_values_equal_a_plain_count_of_shuffles() -> None:
    part = random_part(4)
    scores = FieldScores.of(part, "field")
    records = share_records(scores, GRID, n=60, seed=9)
    extreme = dict.fromkeys(scores.fields, 1)
    drawn: dict[str, list[float]] = {field: [] for field in scores.fields}
    for chunk in scores.shuffles(60, 9, 7):  # chunks change no draw
        for codes in chunk:
            field_of = {
                query: scores.fields[code]
                for query, code in zip(scores.queries, codes, strict=True)
            }
            for record in records[1:]:
                share = plain_share(part, field_of, record["field"])
                extreme[record["field"]] += share >= record["share"] - 1e-10
                drawn[record["field"]].append(share)
    for record in records[1:]:
        assert record["p"] == pytest.approx(extreme[record["field"]] / 61)
        assert record["shuffled"] == pytest.approx(np.median(drawn[record["field"]]))


def test_sampled_p_values_come_near_those_of_all_permutations() -> None:
    part = part_of(
        {f"q{i}": {i // 3: 1.0, 50 + i: 0.4 + 0.1 * i} for i in range(6)},
        {f"q{i}": f"f{i // 3}" for i in range(6)},
    )
    scores = FieldScores.of(part, "field")
    distances = cosine_distances(scores.scores)
    sampled = separation_records(scores, distances, n=4000, seed=0)[0]

    def statistic(codes: np.ndarray) -> np.ndarray:
        return silhouettes(distances, scores.members(codes)).mean(axis=1)

    every = statistic(np.array(list(permutations(scores.codes))))
    exact = np.mean(every >= sampled["silhouette"] - 1e-10)
    assert exact == pytest.approx(2 / 20)
    assert sampled["p"] == pytest.approx(exact, abs=0.02)


# ---- shuffles


def test_shuffles_keep_the_number_of_queries_and_use_every_place() -> None:
    scores = FieldScores.of(random_part(5), "field")
    drawn = np.concatenate(list(scores.shuffles(300, 0, 64)))
    assert drawn.shape == (300, 15)
    assert all((np.bincount(codes) == scores.sizes).all() for codes in drawn)
    for place in drawn.T:
        np.testing.assert_allclose(np.bincount(place, minlength=3) / 300, 1 / 3, atol=0.12)
    assert (drawn[:64] == next(scores.shuffles(300, 0, 64))).all()


def test_languages_are_dealt_anew_among_the_versions_of_a_question_only() -> None:
    names = ["a@en", "a@de", "b@en", "b@de", "c@en", "d@de"]  # c and d stand alone
    languages = {name: name[-2:] for name in names}
    part = part_of({name: {i: 1.0} for i, name in enumerate(names)}, languages, languages)
    scores = FieldScores.of(part, "language")
    drawn = next(scores.shuffles(200, 0, 200))
    for first in (0, 2, 4):
        assert (drawn[:, first] != drawn[:, first + 1]).all()
        assert 0.3 < drawn[:, first].mean() < 0.7
    assert len({tuple(codes) for codes in drawn}) == 8
    freely = next(FieldScores.of(part, "field").shuffles(200, 0, 200))
    assert (freely[:, 0] == freely[:, 1]).any()


def test_unrecognised_versions_of_questions_are_said() -> None:
    known, unknown = (
        FieldScores.of(
            part_of({name: {0: 1.0} for name in names}, languages, languages), "language"
        )
        for names in (["a@en", "a@de", "b@en"], ["1", "2", "3"])
        for languages in [dict(zip(names, ("en", "de", "en"), strict=True))]
    )
    assert confounded(known, "language") == confounded(unknown, "field") == []
    assert "confounded with their language" in confounded(unknown, "language")[0]


def test_without_a_difference_the_tests_seldom_reject() -> None:
    p = []
    for seed in range(40):
        scores = FieldScores.of(random_part(seed), "field")
        whole, _ = pair_records(scores, LAYERS * WIDTH, 99, seed)
        separation = separation_records(scores, cosine_distances(scores.scores), 99, seed)
        shares = share_records(scores, GRID, 99, seed)
        p.append([whole["p"], separation[0]["p"], shares[0]["p"], shares[1]["p_index"]])
    rejected = (np.array(p) < 0.05).mean(axis=0)
    assert (rejected <= 0.15).all(), rejected  # 0.05 but for chance: 6 of 40 with p = 0.014
    assert (np.median(p, axis=0) > 0.25).all()


def test_neighbours_are_told_from_neurons_that_queries_merely_share() -> None:
    """Both fields share their neurons; only the first one's are neighbours."""
    places = {"near": [4, 5, 6, 7], "far": [1, 11, 22, 33]}
    scores = {
        f"{field}{i}": {WIDTH + place: 1.0 for place in places[field]}
        for field in places
        for i in range(6)
    }
    fields = {query: query.rstrip("0123456789") for query in scores}
    found = FieldScores.of(part_of(scores, fields), "field")
    near, far = share_records(found, GRID, n=400, seed=0)[1:]
    assert near["p_holm"] < 0.05
    assert near["p_index_holm"] < 0.01
    assert far["p_index_holm"] > 0.5
    moved = scattered_shares(found, Grid(LAYERS, WIDTH, WIDTH), n=20, seed=0)
    assert np.allclose(moved, 0.5)  # a cell per neuron: of four neurons 1 % of 160 cells hold two
