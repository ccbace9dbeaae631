"""Localisation: where in the layers the neurons of a field lie.

Claim: the neurons that carry the answers of a field lie in a region of their own. arXiv
2406.10868, section 6, shows pictures of it; METHODS §3, analysis 1. Here it is a statement that
can fail.

1. A map per field: layers × neuron index, the index cut into `map_bins` equal bins (fewer where a
   layer has fewer neurons), so that it can be seen at 32 × 11008. A cell holds the sum of NA-ICA
   over the field's queries and the neurons of its bin. The layer profile is the map's row sums.
2. **Localised**: share of the field's score in the fullest 1 % of the cells of that map (rounded
   up, empty cells count). Cells of the map, not neurons: of single neurons 1 % would hold all.
3. Do queries of a field share places? The same share of shuffled fields (`shuffled.py`), for each
   field and for the mean over fields.
4. Do neighbouring neurons serve a field? The same share after every neuron of the map has moved to
   a random index of its layer, no two to the same one.

What differs from the paper: both tests. Only the second one is about regions: the index of a
trained model's neurons need not have an order, and cells are also full where queries merely
share neurons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from broca.store import summary_key
from broca.studies.queries import published
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.material import Part
from broca.studies.queries.shuffled import (
    FieldScores,
    ShuffledStudy,
    add_holm,
    against_shuffled,
    beside,
    caution,
    listed,
    shuffled_figures,
)
from broca.studies.study import Findings

SHARE_OF_CELLS = 0.01
ALL = "all"


@dataclass(frozen=True)
class Grid:
    """The cells of a map.

    Attributes:
        n_layers: Layers of the model.
        width: Neurons of the widest layer.
        n_bins: Bins of the index.
        widths: Neurons of every layer, () where all are as wide.
    """

    n_layers: int
    width: int
    n_bins: int
    widths: tuple[int, ...] = ()

    @classmethod
    def of(cls, part: Part, n_bins: int) -> Grid:
        """The grid of a part's site, at most one bin per neuron."""
        widths = part.sets.identity.layer_widths(part.sets.site)
        return cls(len(widths), max(widths), min(n_bins, max(widths)), widths)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.n_layers * self.n_bins

    @property
    def n_top(self) -> int:
        """Cells that 1 % are."""
        return int(np.ceil(SHARE_OF_CELLS * self.n_cells))

    def width_of(self, layer: int) -> int:
        """Neurons of a layer."""
        return self.widths[layer] if self.widths else self.width

    def cells(self, neurons: np.ndarray) -> np.ndarray:
        """Cell layer · n_bins + bin of flat positions layer · width + index."""
        layer, index = np.divmod(neurons, self.width)
        return layer * self.n_bins + index * self.n_bins // self.width

    def top_share(self, maps: np.ndarray) -> np.ndarray:
        """Share of the score in the fullest cells, [...] of maps [..., cell]."""
        first = self.n_cells - self.n_top
        top = np.partition(maps, first, axis=-1)[..., first:].sum(axis=-1)
        return top / maps.sum(axis=-1)


class Localisation(ShuffledStudy):
    """The localisation study."""

    def compare(self, part: Part, scores: FieldScores, config: QueriesConfig) -> Findings:
        """Maps, layer profiles, and how localised each field is."""
        grid = Grid.of(part, config.map_bins)
        maps = field_maps(scores, grid)
        records = share_records(scores, grid, config.n_permutations, config.seed)
        profiles = maps.reshape(len(maps), grid.n_layers, grid.n_bins).sum(axis=-1)
        spans = [_span(profile) for profile in profiles]
        for record, (first, last) in zip(records[1:], spans, strict=True):
            record |= {"first_layer": first, "last_layer": last}
        figures: dict[str, Any] = {
            f"{self.prefix}.cells": grid.n_cells,
            f"{self.prefix}.top_cells": grid.n_top,
            **shuffled_figures(self.prefix, records[0], "share"),
            **_middle(spans, grid, self.prefix),
        }
        for record in records[1:]:
            start = f"{self.prefix}.{summary_key('fields', record['field'])}"
            figures |= shuffled_figures(start, record, "share")
            for end in ("", ".low", ".high"):
                key = f"scattered{end.replace('.', '_')}"
                figures[f"{start}.share.scattered{end}"] = record[key]
            figures[f"{start}.share.p_index"] = record["p_index"]
            figures[f"{start}.share.p_index_holm"] = record["p_index_holm"]
        tables = {
            "caution": [{"near_chance": bool(caution(part, config.seed))}],
            "shares": records,
            "maps": _map_records(scores, grid, maps),
            "profiles": _profile_records(scores, profiles),
            "grid": [{"layers": grid.n_layers, "neurons": grid.width, "bins": grid.n_bins}],
            "published": _published(self.by, figures, self.prefix, grid),
        }
        words = [
            *localisation_words(records, grid, config.alpha, self.by),
            _layer_words(figures, self.prefix, grid, self.by),
        ]
        return Findings(figures, tables, words)


def field_maps(scores: FieldScores, grid: Grid) -> np.ndarray:
    """Sums of NA-ICA per field and cell, float64 [field, cell]."""
    return scores.members(scores.codes[None])[0] @ _query_maps(scores, grid)


def _query_maps(scores: FieldScores, grid: Grid) -> np.ndarray:
    """The same per query, float64 [query, cell]."""
    maps = np.zeros((grid.n_cells, len(scores.queries)))
    np.add.at(maps, grid.cells(scores.neurons), scores.scores.T)
    return maps.T


def share_records(scores: FieldScores, grid: Grid, n: int, seed: int) -> list[dict[str, Any]]:
    """How localised: the mean over fields first, then every field, with both tests."""
    maps = _query_maps(scores, grid)

    def shares(codes: np.ndarray) -> np.ndarray:
        each = grid.top_share(scores.members(codes) @ maps)
        return np.concatenate([each.mean(axis=1, keepdims=True), each], axis=1)

    size = len(scores.fields) * (grid.n_cells + len(scores.queries))
    tested = against_shuffled(scores, shares, n=n, seed=seed, size=size)
    records = [
        {"field": field, "n": int(queries), **test.record("share")}
        for field, queries, test in zip(
            (ALL, *scores.fields), (len(scores.queries), *scores.sizes), tested, strict=True
        )
    ]
    moved = scattered_shares(scores, grid, n, seed)
    for record, column in zip(records[1:], moved.T, strict=True):
        test = beside(record["share"], column, "greater")
        ends = {"scattered": test.shuffled, "scattered_low": test.low, "scattered_high": test.high}
        record |= {**ends, "p_index": test.p}
    add_holm(records[1:])
    add_holm(records[1:], "p_index")
    return records


def scattered_shares(scores: FieldScores, grid: Grid, n: int, seed: int) -> np.ndarray:
    """Shares when every neuron moves to a random index of its layer, float64 [draw, field]."""
    rng = np.random.default_rng([seed, 1])
    layers, counts = np.unique(scores.neurons // grid.width, return_counts=True)
    fields = scores.members(scores.codes[None])[0] @ scores.scores  # [field, neuron]
    drawn = np.empty((n, len(fields)))
    for row in drawn:
        moved = [
            layer * grid.width + rng.choice(grid.width_of(layer), count, replace=False)
            for layer, count in zip(layers, counts, strict=True)
        ]
        cells = grid.cells(np.concatenate(moved))
        maps = [np.bincount(cells, each, minlength=grid.n_cells) for each in fields]
        row[:] = grid.top_share(np.array(maps))
    return drawn


def _span(profile: np.ndarray) -> tuple[int, int]:
    """Layers between which the middle half of a score lies."""
    reached = np.cumsum(profile) / profile.sum()
    first, last = np.searchsorted(reached, (0.25, 0.75))
    return int(first), int(last)


def _middle(spans: Sequence[tuple[int, int]], grid: Grid, prefix: str) -> dict[str, Any]:
    first, last = np.mean(spans, axis=0)
    return {
        f"{prefix}.first_layer": float(first),
        f"{prefix}.last_layer": float(last),
        f"{prefix}.first_depth": float((first + 0.5) / grid.n_layers),
        f"{prefix}.last_depth": float((last + 0.5) / grid.n_layers),
    }


def _map_records(scores: FieldScores, grid: Grid, maps: np.ndarray) -> list[dict[str, Any]]:
    """The cells that are not empty."""
    return [
        {
            "field": field,
            "layer": int(cell // grid.n_bins),
            "bin": int(cell % grid.n_bins),
            "score": float(each[cell]),
        }
        for field, each in zip(scores.fields, maps, strict=True)
        for cell in np.flatnonzero(each)
    ]


def _profile_records(scores: FieldScores, profiles: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"field": field, "layer": layer, "share": float(value)}
        for field, profile in zip(scores.fields, profiles, strict=True)
        for layer, value in enumerate(profile / profile.sum())
    ]


def _published(
    by: str, figures: Mapping[str, Any], prefix: str, grid: Grid
) -> list[dict[str, Any]]:
    first, last = (figures[f"{prefix}.{end}_layer"] for end in ("first", "last"))
    what = "layers of the regions" if by == "field" else "layers of the neurons"
    theirs = published.REGIONS if by == "field" else published.LAYERS
    return [
        {
            "figure": what,
            "ours": f"{first:.1f} to {last:.1f} of {grid.n_layers} (middle half of the score)",
            "published": theirs,
        }
    ]


def localisation_words(
    records: Sequence[Mapping[str, Any]], grid: Grid, alpha: float, by: str
) -> list[str]:
    """Both tests in sentences."""
    whole, fields = records[0], records[1:]
    shared = [record["field"] for record in fields if record["p_holm"] < alpha]
    regions = [record["field"] for record in fields if record["p_index_holm"] < alpha]
    found = whole["p"] < alpha
    return [
        f"The fullest {grid.n_top} of {grid.n_cells} cells hold {whole['share']:.0%} of a {by}'s "
        f"score in the mean; with {by}s shuffled {whole['shuffled']:.0%} "
        f"[{whole['shuffled_low']:.0%}, {whole['shuffled_high']:.0%}] (p = {whole['p']:.2g}, "
        f"n = {whole['n']} queries in {len(fields)} {by}s): "
        + (
            f"queries of one {by} share places."
            if found
            else f"it cannot be told that queries of one {by} share places."
        ),
        f"{by.capitalize()} by {by}, {len(shared)} of {len(fields)} are more localised than "
        f"shuffled ones after Holm's correction{': ' + listed(shared) if shared else ''}.",
        f"Neighbours: the neurons of {len(regions)} of {len(fields)} {by}s lie closer together "
        "along the index than the same neurons at random places of their layers"
        + (
            f": {listed(regions)}."
            if regions
            else f": no region of neighbours that serves a {by} is seen."
            + (f" Cells are full because queries of a {by} share neurons." if found else "")
        ),
    ]


def _layer_words(figures: Mapping[str, Any], prefix: str, grid: Grid, by: str) -> str:
    ends = [figures[f"{prefix}.{name}"] for name in ("first_layer", "last_layer")]
    depth = [figures[f"{prefix}.{name}"] for name in ("first_depth", "last_depth")]
    text = (
        f"The middle half of a {by}'s score lies in layers {ends[0]:.1f} to {ends[1]:.1f} of "
        f"{grid.n_layers} in the mean (counted from 0; depth {depth[0]:.0%} to {depth[1]:.0%})"
    )
    if by != "field":
        return f"{text}."
    low, high = published.REGION_DEPTH
    return f"{text}; the published regions lie at {low:.0%} to {high:.0%}."


STUDIES = (
    Localisation("queries.localisation", "field", "queries.localisation"),
    Localisation("queries.localisation.languages", "language", "queries.localisation.languages"),
)
