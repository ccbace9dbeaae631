"""Expertise: how well a neuron's response tells one relation's prompts from others.

1. Positives: the detection prompts of the relation. Negatives: `ratio` times as many, drawn by
   seed from the detection prompts of the other relations (all of them if they are fewer).
2. Score of a neuron: average precision of its signed responses against these labels; chance is
   positives / all, 0.2 at ratio 4.
3. The relation's neurons: the top k. Ties at the border are counted, and broken by a hash of each
   neuron's place, which favours no site or layer; in the order (site, layer, index), as METHODS §1
   has it, on request.

Controls: `shuffle_labels` (the same labels on other prompts) and the random sets of
`broca.neurons`.

Source: arXiv 2502.17355; METHODS §2.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from broca.errors import ScoreError
from broca.neurons import SITES, NeuronIndex, NeuronSet, ordered_sites
from broca.progress import track
from broca.scores.average_precision import average_precision, average_precision_many
from broca.tabular import Columns, Tabular

_READ_BYTES = 64 << 20  # responses held in memory at a time


class ResponsesLike(Protocol):
    """What scoring needs of responses, wherever they lie."""

    @property
    def index(self) -> NeuronIndex: ...

    @property
    def prompt_ids(self) -> Sequence[str]: ...

    def block(self, site: str, layer: int) -> np.ndarray:
        """float32 [prompt, neuron] of one site and layer."""
        ...


class Labelling(NamedTuple):
    """Which prompts are positive and which take part, bool [prompt] each."""

    positive: np.ndarray
    included: np.ndarray


@dataclass(frozen=True, eq=False)
class NeuronScores(Tabular):
    """One score per neuron of an index.

    Attributes:
        index: The neurons.
        values: float64 [neuron], in the order of the index.
        method: How they were scored.
        settings: The settings of that method.
        data_hash: Hash of the prompts and labels they were scored on.
    """

    index: NeuronIndex
    values: np.ndarray
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    data_hash: str = ""

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.index),):
            raise ScoreError(f"{self.values.shape} scores for {len(self.index)} neurons")

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        low, high = (float(end) for end in (self.values.min(), self.values.max()))
        sites = ", ".join(self.index.sites)
        return (
            f"<NeuronScores {self.method}: {len(self):,} neurons ({sites}) of "
            f"{self.index.identity.id}, {low:.3g} to {high:.3g}>"
        )

    def columns(self, limit: int | None = None) -> Columns:
        """Site, layer, index and score of every neuron; with a limit, of the best."""
        flat = np.arange(len(self))
        if limit is not None:
            flat = np.argsort(-self.values, kind="stable")[:limit]
        sites, layers, indices = self.index.locate(flat)
        return {
            "site": [SITES[code] for code in sites.tolist()],
            "layer": layers.tolist(),
            "index": indices.tolist(),
            "score": self.values[flat].astype(float).tolist(),
        }

    def top(
        self,
        k: int,
        *,
        name: str = "",
        sites: Sequence[str] | None = None,
        ties: Literal["spread", "order"] = "spread",
    ) -> NeuronSet:
        """The k neurons of the highest score.

        The set's settings tell how many neurons have the score of the last one (`tied`) and how
        many of these are in the set (`tied_in`): between them the choice is arbitrary.

        Args:
            k: How many.
            name: Name of the set, e.g. the relation.
            sites: Rank only the neurons of these sites (the top k within gate, say).
            ties: "spread" breaks ties by a hash of each neuron's place, so that no site or layer
                is favoured; "order" by site, layer and index.

        Raises:
            ScoreError: If there are fewer than k neurons, or k is below 1.
        """
        wanted = ordered_sites(sites) if sites is not None else self.index.sites
        spans = [self.index.site_slice(site) for site in wanted]
        flat = np.concatenate([np.arange(span.start, span.stop) for span in spans])
        if not 1 <= k <= len(flat):
            raise ScoreError(
                f"The top {k} of {len(flat)} neurons do not exist",
                where=name or None,
                mend=f"Choose k between 1 and {len(flat)}.",
            )
        values = self.values[flat]
        second = flat if ties == "order" else _place_hash(*self.index.locate(flat))
        ranked = flat[np.lexsort((second, -values))[:k]]
        border = self.values[ranked[-1]]
        tied = int(np.count_nonzero(values == border))
        tied_in = int(np.count_nonzero(self.values[ranked] == border))
        return self.index.select(
            ranked,
            self.values[ranked],
            name=name,
            method=self.method,
            settings={
                **self.settings,
                "k": k,
                "sites": list(wanted),
                "ties": ties,
                "tied": tied,
                "tied_in": tied_in,
            },
            data_hash=self.data_hash,
        )


def _place_hash(sites: np.ndarray, layers: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """A number per neuron that has nothing to do with where it is (splitmix64), uint64 [neuron]."""
    key = sites.astype(np.uint64) << np.uint64(52)
    key += (layers.astype(np.uint64) << np.uint64(32)) + indices.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        key = (key ^ (key >> np.uint64(shift))) * np.uint64(factor)
    return key ^ (key >> np.uint64(31))


def score_expertise(
    responses: ResponsesLike, positive: ArrayLike, included: ArrayLike | None = None
) -> NeuronScores:
    """Average precision of every neuron for one labelling.

    Args:
        responses: Responses of the neurons to the prompts.
        positive: Whether a prompt is one of the relation, [prompt].
        included: Whether a prompt takes part, [prompt]; all do if left out.

    Raises:
        ScoreError: Labels do not fit, no positive or no negative prompt, NaN responses.
    """
    everyone = np.ones(np.shape(positive), bool) if included is None else included
    return score_expertise_many(responses, {"": (positive, everyone)})[""]


def score_expertise_many(
    responses: ResponsesLike, labellings: Mapping[str, tuple[ArrayLike, ArrayLike]]
) -> dict[str, NeuronScores]:
    """Average precision of every neuron for many labellings, reading the responses once.

    Memory: 64 MiB of responses at a time, and one float64 per neuron and labelling.

    Args:
        responses: Responses of the neurons to the prompts.
        labellings: Name -> (positive [prompt], included [prompt]).

    Raises:
        ScoreError: As `score_expertise`.
    """
    n_prompts = len(responses.prompt_ids)
    labels = {name: _checked(name, *pair, n_prompts) for name, pair in labellings.items()}
    values = np.empty((len(labels), len(responses.index)))
    if labels:
        positive = np.array([label.positive for label in labels.values()])
        included = np.array([label.included for label in labels.values()])
        used = np.flatnonzero(included.any(axis=0))
        _fill(responses, positive[:, used], included[:, used], used, values)
    use = _expert_use(responses)
    return {
        name: NeuronScores(
            responses.index,
            row,
            "expertise",
            {
                "n_positive": int(label.positive.sum()),
                "n_included": int(label.included.sum()),
                **use,
            },
            _hash(responses.prompt_ids, label),
        )
        for (name, label), row in zip(labels.items(), values, strict=True)
    }


def _expert_use(responses: ResponsesLike) -> dict[str, Any]:
    """How often experts are used, for controls: share of prompts that reach each, by layer."""
    experts = responses.index.identity.experts
    if not experts:
        return {}
    shares = [[] for _ in experts]
    for site, layer, _ in responses.index.blocks():
        if experts[layer].number and site in ("hidden", "up", "gate"):
            number, width = experts[layer]
            values = responses.block(site, layer)[:, : number * width : width]
            shares[layer] = (1 - np.isnan(values).mean(axis=0)).round(4).tolist()
    return {"expert_use": shares}


def draw_negatives(
    labels: Sequence[str], relation: str, *, ratio: float = 4, seed: int = 0
) -> Labelling:
    """The prompts of a relation, and `ratio` times as many drawn from the others.

    Args:
        labels: Relation of each prompt.
        relation: The relation whose prompts are positive.
        ratio: Negatives per positive; all prompts of other relations if they are fewer.
        seed: Seed of the draw; each relation draws independently of the others.

    Raises:
        ScoreError: No prompt of this relation or of another one, or a ratio not above 0.
    """
    positive = np.array([label == relation for label in labels], dtype=bool)
    others = np.flatnonzero(~positive)
    if ratio <= 0:
        raise ScoreError(f"{ratio} negatives per positive", mend="The ratio is above 0.")
    if not positive.any():
        raise ScoreError("A relation has no prompt to find neurons with", where=relation)
    if not len(others):
        raise ScoreError(
            "There is no prompt of another relation",
            where=relation,
            mend="Expertise compares relations: it needs at least two.",
        )
    wanted = min(len(others), max(1, round(ratio * int(positive.sum()))))
    rng = np.random.default_rng([seed, zlib.crc32(relation.encode())])
    included = positive.copy()
    included[rng.choice(others, wanted, replace=False)] = True
    return Labelling(positive, included)


def shuffle_labels(labels: Sequence[str], *, seed: int) -> list[str]:
    """The same labels on other prompts: the control in which no neuron can know a relation."""
    order = np.random.default_rng([seed, 0x5F1E]).permutation(len(labels))
    return [str(labels[i]) for i in order.tolist()]


def _checked(name: str, positive: ArrayLike, included: ArrayLike, n_prompts: int) -> Labelling:
    members = np.asarray(included, dtype=bool)
    positives = np.asarray(positive, dtype=bool)
    if positives.shape != (n_prompts,) or members.shape != (n_prompts,):
        raise ScoreError(
            f"Labels of shape {positives.shape} and {members.shape} do not fit {n_prompts} prompts",
            where=name or None,
        )
    positives = positives & members
    if not positives.any():
        raise ScoreError("There is no positive prompt", where=name or None)
    if not (members & ~positives).any():
        raise ScoreError(
            "There is no negative prompt",
            where=name or None,
            mend="Expertise compares relations: it needs prompts of at least two.",
        )
    return Labelling(positives, members)


def _fill(
    responses: ResponsesLike,
    positive: np.ndarray,
    included: np.ndarray,
    used: np.ndarray,
    values: np.ndarray,
) -> None:
    """Write average precision [labelling, neuron], reading each block in bounded pieces."""
    n_prompts = len(responses.prompt_ids)
    blocks = list(responses.index.blocks())
    widths = [where.stop - where.start for _, _, where in blocks]
    for site, layer, where in track(blocks, "Scoring neurons", weights=widths):
        block = responses.block(site, layer)
        if block.shape != (n_prompts, where.stop - where.start):
            raise ScoreError(
                f"Responses of shape {block.shape}, expected "
                f"{(n_prompts, where.stop - where.start)}",
                where=f"{site}, layer {layer}",
            )
        step = max(1, _READ_BYTES // (len(used) * block.itemsize))
        for start in range(0, block.shape[1], step):
            piece = np.asarray(block[:, start : start + step])
            if responses.index.identity.experts:
                # A prompt that never reaches an expert counts as lower than all that do.
                piece = np.where(np.isnan(piece), np.finfo(piece.dtype).min, piece)
            if len(used) < n_prompts:
                piece = piece[used]
            columns = slice(where.start + start, where.start + start + piece.shape[1])
            if len(positive) == 1:
                values[0, columns] = average_precision(
                    piece, positive[0], included[0], neuron_axis=1
                )
            else:
                values[:, columns] = average_precision_many(
                    piece, positive, included, neuron_axis=1
                ).T


def _hash(prompt_ids: Sequence[str], label: Labelling) -> str:
    digest = hashlib.sha256("\0".join(map(str, prompt_ids)).encode())
    digest.update(np.packbits(label.positive).tobytes())
    digest.update(np.packbits(label.included).tobytes())
    return digest.hexdigest()[:16]
