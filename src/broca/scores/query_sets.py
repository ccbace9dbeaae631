"""The neurons of many queries by several methods, and the one Parquet file that holds them.

Columns: query, method, site, layer, index, score; rows of one (query, method) stand in rank order.
What has no row (a query without neurons, the settings, the model, the common neurons) stands in
the file's metadata under `broca`, as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from broca.errors import RunError, ScoreError
from broca.neurons import ModelIdentity, NeuronIndex, NeuronSet
from broca.scores.clusters import QueryScoreConfig, Ranking
from broca.tabular import Columns, Tabular

FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class QuerySets(Tabular):
    """Neurons of every query by every method, at one site of one model.

    Attributes:
        identity: The model.
        site: Site of all the neurons.
        config: Settings they were found with.
        seed: Seed of the random baseline.
        rankings: Method -> query -> neurons in rank order; every method has every query.
        common: The common neurons with their share of the clusters, most common first.
    """

    identity: ModelIdentity
    site: str
    config: QueryScoreConfig
    seed: int
    rankings: Mapping[str, Mapping[str, Ranking]]
    common: Ranking

    def __repr__(self) -> str:
        return (
            f"<QuerySets: {len(self.queries):,} queries × {len(self.methods)} methods, "
            f"{self.site} neurons of {self.identity.id}>"
        )

    def columns(self, limit: int | None = None) -> Columns:
        """Query, method, rank, site, layer, index and score of every chosen neuron."""
        index = NeuronIndex(self.identity, (self.site,))
        chosen = [
            (query, method, rank, int(flat), float(score))
            for method in self.methods
            for query, ranking in self.rankings[method].items()
            for rank, (flat, score) in enumerate(
                zip(ranking.neurons, ranking.scores, strict=True), start=1
            )
        ][:limit]
        _, layers, indices = index.locate(
            index.from_grid(np.array([one[3] for one in chosen], dtype=np.int64))
        )
        return {
            "query": [one[0] for one in chosen],
            "method": [one[1] for one in chosen],
            "rank": [one[2] for one in chosen],
            "site": [self.site] * len(chosen),
            "layer": layers.tolist(),
            "index": indices.tolist(),
            "score": [one[4] for one in chosen],
        }

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(self.rankings)

    @property
    def queries(self) -> tuple[str, ...]:
        return tuple(next(iter(self.rankings.values()), {}))

    def neurons(self, query: str, method: str = "na-ica") -> NeuronSet:
        """The neuron set of one query by one method; it may be empty.

        Raises:
            ScoreError: Unknown query or method.
        """
        if method not in self.rankings:
            raise ScoreError(f"No sets by {method!r}", mend=f"There are {', '.join(self.methods)}.")
        if query not in self.rankings[method]:
            raise ScoreError("Unknown query", where=query)
        return self._set(self.rankings[method][query], f"{query}/{method}", method)

    def common_neurons(self) -> NeuronSet:
        """The common neurons, scored by their share of the clusters."""
        return self._set(self.common, "common", "common")

    def counts(self, method: str = "na-ica") -> dict[str, int]:
        """Number of neurons of each query."""
        return {query: len(ranking) for query, ranking in self.rankings[method].items()}

    def _set(self, ranking: Ranking, name: str, method: str) -> NeuronSet:
        index = NeuronIndex(self.identity, (self.site,))
        return index.select(
            index.from_grid(ranking.neurons),
            ranking.scores,
            name=name,
            method=method,
            settings={**asdict(self.config), "seed": self.seed},
        )

    def save(self, path: str | Path) -> Path:
        """Write one Parquet file, beside the target first and then renamed.

        Raises:
            RunError: The file cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        width = self.identity.width(self.site)
        parts = [
            (query, method, ranking)
            for method, queries in self.rankings.items()
            for query, ranking in queries.items()
        ]
        flat = np.concatenate([np.empty(0, np.int64), *(r.neurons for _, _, r in parts)])
        table = pa.table(
            {
                "query": pa.array([q for q, _, r in parts for _ in range(len(r))], pa.string()),
                "method": pa.array([m for _, m, r in parts for _ in range(len(r))], pa.string()),
                "site": pa.array([self.site] * len(flat), pa.string()),
                "layer": pa.array(flat // width, pa.int32()),
                "index": pa.array(flat % width, pa.int32()),
                "score": pa.array(np.concatenate([np.empty(0), *(r.scores for *_, r in parts)])),
            }
        )
        path = Path(path)
        beside = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(
                table.replace_schema_metadata({"broca": json.dumps(self._about())}), beside
            )
            beside.replace(path)
        except OSError as error:
            raise RunError("Cannot write query sets", str(path), str(error)) from error
        return path

    def _about(self) -> dict[str, Any]:
        return {
            "format": "broca.query-sets",
            "version": FORMAT_VERSION,
            "model": self.identity.to_dict(),
            "site": self.site,
            "config": asdict(self.config),
            "seed": self.seed,
            "methods": list(self.methods),
            "queries": list(self.queries),
            "common": {
                "neurons": self.common.neurons.tolist(),
                "share": self.common.scores.tolist(),
            },
        }

    @classmethod
    def load(cls, path: str | Path) -> QuerySets:
        """Read a file written by `save`.

        Raises:
            ScoreError: The file is missing, malformed or of another format.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
            about = json.loads((table.schema.metadata or {})[b"broca"])
            if (about["format"], about["version"]) != ("broca.query-sets", FORMAT_VERSION):
                raise KeyError("format")
            identity = ModelIdentity.from_dict(about["model"])
            common = Ranking(
                np.array(about["common"]["neurons"], np.int64),
                np.array(about["common"]["share"], np.float64),
            )
            return cls(
                identity,
                about["site"],
                QueryScoreConfig(**about["config"]),
                about["seed"],
                _read_rankings(table.to_pydict(), about, identity.width(about["site"])),
                common,
            )
        except OSError as error:
            raise ScoreError("Cannot read query sets", str(path), str(error)) from error
        except (KeyError, TypeError, ValueError, RecursionError, pa.ArrowException) as error:
            raise ScoreError(
                "This is no file of query sets", str(path), "Pass one written by broca."
            ) from error


def _read_rankings(
    columns: Mapping[str, list], about: Mapping[str, Any], width: int
) -> dict[str, dict[str, Ranking]]:
    rows: dict[tuple[str, str], tuple[list[int], list[float]]] = {
        (method, query): ([], []) for method in about["methods"] for query in about["queries"]
    }
    names = ("query", "method", "layer", "index", "score")
    for query, method, layer, index, score in zip(*(columns[n] for n in names), strict=True):
        neurons, scores = rows[method, query]
        neurons.append(layer * width + index)
        scores.append(score)
    rankings: dict[str, dict[str, Ranking]] = {method: {} for method in about["methods"]}
    for (method, query), (neurons, scores) in rows.items():
        rankings[method][query] = Ranking(np.array(neurons, np.int64), np.array(scores, float))
    return rankings
