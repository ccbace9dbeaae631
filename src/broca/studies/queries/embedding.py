"""Embedding view: do queries of one field lie together, by the scores of their neurons?

Claim: queries of one field use similar neurons, and lie apart from those of others. arXiv
2406.10868, section 6, shows a picture; METHODS §3, analysis 4.

1. A query is the vector of its NA-ICA scores over all neurons of any query; the distance of two
   queries is 1 - cosine.
2. **Separation**: the silhouette of the fields in that space of all neurons, not in the picture,
   for each field and over all queries; against shuffled fields (`shuffled.py`).
3. The mean cosine within fields and between them.
4. The picture: t-SNE of the same distances (scikit-learn, begun from principal components, seed
   fixed). Distances in it are not to be read; no figure comes from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from broca.store import summary_key
from broca.studies.queries.asking import read_domains
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.localisation import ALL
from broca.studies.queries.material import Part
from broca.studies.queries.shuffled import (
    FieldScores,
    ShuffledStudy,
    add_holm,
    against_shuffled,
    listed,
    shuffled_figures,
)
from broca.studies.study import Findings

PERPLEXITY = 30  # at most; scikit-learn's own value
FEWEST = 5  # queries of a picture


class Embedding(ShuffledStudy):
    """The embedding study."""

    def compare(self, part: Part, scores: FieldScores, config: QueriesConfig) -> Findings:
        """The picture's points, and the separation in the full space."""
        distances = cosine_distances(scores.scores)
        records = separation_records(scores, distances, config.n_permutations, config.seed)
        within, between = cosines(scores, distances)
        figures: dict[str, Any] = {
            f"{self.prefix}.queries": len(scores.queries),
            **shuffled_figures(self.prefix, records[0], "silhouette"),
            f"{self.prefix}.cosine_within": within,
            f"{self.prefix}.cosine_between": between,
        }
        for record in records[1:]:
            start = f"{self.prefix}.{summary_key('fields', record['field'])}"
            figures |= shuffled_figures(start, record, "silhouette")
        tables = {
            "separation": records,
            "points": _points(part, scores, config, self.by),
        }
        words = embedding_words(records, within, between, config.alpha, self.by)
        return Findings(figures, tables, words)


def cosine_distances(vectors: np.ndarray) -> np.ndarray:
    """1 - cosine of every two rows, none of them 0: float64 [row, row], 0 on the diagonal."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    distances = np.clip(1 - unit @ unit.T, 0, None)
    np.fill_diagonal(distances, 0)
    return distances


def silhouettes(distances: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Silhouette of every query: (b - a) / max(a, b), 0 where its field has no other query.

    a is the mean distance to the other queries of its field, b to those of the nearest other one.

    Args:
        distances: [query, query].
        members: 0 and 1, [draw, field, query]; every query in one field, no field empty.

    Returns:
        float64 [draw, query].
    """
    sums = members @ distances
    sizes = members.sum(axis=2, keepdims=True)
    own_size = (members * sizes).sum(axis=1)
    a = (members * sums).sum(axis=1) / np.maximum(own_size - 1, 1)
    b = np.where(members > 0, np.inf, sums / sizes).min(axis=1)
    larger = np.maximum(a, b)
    ratio = np.divide(b - a, larger, out=np.zeros_like(a), where=larger > 0)
    return np.where(own_size > 1, ratio, 0.0)


def separation_records(
    scores: FieldScores, distances: np.ndarray, n: int, seed: int
) -> list[dict[str, Any]]:
    """The silhouette of all queries first, then of every field, against shuffled fields."""

    def means(codes: np.ndarray) -> np.ndarray:
        members = scores.members(codes)
        each = silhouettes(distances, members)
        fields = np.einsum("dfq,dq->df", members, each) / scores.sizes
        return np.concatenate([each.mean(axis=1, keepdims=True), fields], axis=1)

    size = 4 * len(scores.fields) * len(scores.queries)
    tested = against_shuffled(scores, means, n=n, seed=seed, size=size)
    records = [
        {"field": field, "n": int(queries), **test.record("silhouette")}
        for field, queries, test in zip(
            (ALL, *scores.fields), (len(scores.queries), *scores.sizes), tested, strict=True
        )
    ]
    add_holm(records[1:])
    return records


def cosines(scores: FieldScores, distances: np.ndarray) -> tuple[float, float]:
    """Mean cosine of two queries of one field, and of two fields; NaN where there are none."""
    same = scores.codes[:, None] == scores.codes
    other = ~np.eye(len(same), dtype=bool)
    within, between = 1 - distances[same & other], 1 - distances[~same]
    return (float(within.mean()) if len(within) else float("nan"), float(between.mean()))


def place_on_plane(vectors: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE of rows by cosine, float [row, 2]; too few rows stay in a line."""
    if len(vectors) < FEWEST:
        return np.stack([np.arange(len(vectors)), np.zeros(len(vectors))], axis=1)
    from sklearn.manifold import TSNE

    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    return TSNE(
        metric="cosine", init="pca", perplexity=perplexity, random_state=seed
    ).fit_transform(unit)


def _points(
    part: Part, scores: FieldScores, config: QueriesConfig, by: str
) -> list[dict[str, Any]]:
    """Every query with its place, field of knowledge and language."""
    domains = read_domains(config) if by == "language" else {}
    places = place_on_plane(scores.scores, config.seed)
    return [
        {
            "query": query,
            "field": domains.get(query, part.questions[query].field),
            "language": part.questions[query].language,
            "x": float(x),
            "y": float(y),
        }
        for query, (x, y) in zip(scores.queries, places, strict=True)
    ]


def embedding_words(
    records: Sequence[Mapping[str, Any]], within: float, between: float, alpha: float, by: str
) -> list[str]:
    """The separation in sentences."""
    whole, fields = records[0], records[1:]
    apart = [record["field"] for record in fields if record["p_holm"] < alpha]
    return [
        f"Silhouette of {by}s over all neurons {whole['silhouette']:.3f}; with {by}s shuffled "
        f"{whole['shuffled']:.3f} [{whole['shuffled_low']:.3f}, {whole['shuffled_high']:.3f}] "
        f"(p = {whole['p']:.2g}, n = {whole['n']} queries): "
        + (
            f"queries of one {by} use more similar neurons than any queries do"
            if whole["p"] < alpha
            else f"it cannot be told that queries of one {by} use similar neurons"
        )
        + f". Mean cosine within {by}s {within:.2f}, between them {between:.2f}.",
        f"{by.capitalize()} by {by}, {len(apart)} of {len(fields)} lie closer together than "
        f"shuffled ones after Holm's correction{': ' + listed(apart) if apart else ''}."
        + (
            ""
            if whole["silhouette"] > 0
            else f" A silhouette of at most 0 says that {by}s are not clusters: the nearest other "
            f"{by} is as near as the own one."
        ),
    ]


STUDIES = (
    Embedding("queries.embedding", "field", "queries.embedding"),
    Embedding("queries.embedding.languages", "language", "queries.embedding.languages"),
)
