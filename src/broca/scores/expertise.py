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
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from broca.errors import ScoreError
from broca.neurons import NeuronIndex
from broca.progress import track
from broca.scores.average_precision import average_precision, average_precision_many
from broca.scores.neuron_scores import NeuronScores

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
    labels = check_labels(responses, labellings)
    blocks = [(site, layer) for site, layer, _ in responses.index.blocks()]
    return gather_scores(responses, labels, [score_blocks(responses, labels, blocks)])


class BlockScores(NamedTuple):
    """Scores of some blocks.

    Attributes:
        values: Average precision, [labelling, neuron], block after block.
        use: Layer -> share of the prompts that reach each of its experts, [expert].
    """

    values: np.ndarray
    use: Mapping[int, np.ndarray]


def check_labels(
    responses: ResponsesLike, labellings: Mapping[str, tuple[ArrayLike, ArrayLike]]
) -> dict[str, Labelling]:
    """Labellings that fit responses.

    Raises:
        ScoreError: Labels do not fit, or hold no positive or no negative prompt.
    """
    n_prompts = len(responses.prompt_ids)
    return {name: _checked(name, *pair, n_prompts) for name, pair in labellings.items()}


def score_blocks(
    responses: ResponsesLike,
    labels: Mapping[str, Labelling],
    blocks: Sequence[tuple[str, int]],
) -> BlockScores:
    """Average precision of the neurons of some sites and layers; they need no others.

    Args:
        responses: Responses of the neurons to the prompts.
        labels: Name -> labelling, as `check_labels` gives them.
        blocks: (site, layer) of each block.

    Raises:
        ScoreError: NaN responses.
    """
    width = sum(_width(responses, block) for block in blocks)
    values = np.empty((len(labels), width))
    if labels:
        positive = np.array([label.positive for label in labels.values()])
        included = np.array([label.included for label in labels.values()])
        used = np.flatnonzero(included.any(axis=0))
        _fill(responses, blocks, positive[:, used], included[:, used], used, values)
    return BlockScores(values, _expert_use(responses, blocks))


def gather_scores(
    responses: ResponsesLike, labels: Mapping[str, Labelling], parts: Sequence[BlockScores]
) -> dict[str, NeuronScores]:
    """One score per neuron for each labelling.

    Args:
        responses: What was scored; its blocks are not read.
        labels: As `score_blocks` was given.
        parts: Scores of all blocks, in the order of the index.
    """
    values = np.concatenate([part.values for part in parts], axis=1)
    shares: list[list[float]] = [[] for _ in responses.index.identity.experts]
    for part in parts:
        for layer, share in part.use.items():
            shares[layer] = share.tolist()
    use = {"expert_use": shares} if shares else {}
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
            hash_labels(responses.prompt_ids, label),
        )
        for (name, label), row in zip(labels.items(), values, strict=True)
    }


def _expert_use(
    responses: ResponsesLike, blocks: Sequence[tuple[str, int]]
) -> dict[int, np.ndarray]:
    """How often experts are used, for controls: share of prompts that reach each, by layer."""
    experts, shares = responses.index.identity.experts, {}
    for site, layer in blocks:
        if experts and experts[layer].number and site in ("hidden", "up", "gate"):
            number, width = experts[layer]
            values = responses.block(site, layer)[:, : number * width : width]
            shares[layer] = (1 - np.isnan(values).mean(axis=0)).round(4)
    return shares


def _width(responses: ResponsesLike, block: tuple[str, int]) -> int:
    where = responses.index.block_slice(*block)
    return where.stop - where.start


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
    blocks: Sequence[tuple[str, int]],
    positive: np.ndarray,
    included: np.ndarray,
    used: np.ndarray,
    values: np.ndarray,
) -> None:
    """Write average precision [labelling, neuron], reading each block in bounded pieces."""
    n_prompts = len(responses.prompt_ids)
    widths = [_width(responses, block) for block in blocks]
    first = 0
    for (site, layer), width in zip(
        track(blocks, "Scoring neurons", weights=widths), widths, strict=True
    ):
        block = responses.block(site, layer)
        if block.shape != (n_prompts, width):
            raise ScoreError(
                f"Responses of shape {block.shape}, expected {(n_prompts, width)}",
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
            columns = slice(first + start, first + start + piece.shape[1])
            if len(positive) == 1:
                values[0, columns] = average_precision(
                    piece, positive[0], included[0], neuron_axis=1
                )
            else:
                values[:, columns] = average_precision_many(
                    piece, positive, included, neuron_axis=1
                ).T
        first += width


def hash_labels(prompt_ids: Sequence[str], label: Labelling) -> str:
    """Hash of prompts and which of them are positive and take part."""
    digest = hashlib.sha256("\0".join(map(str, prompt_ids)).encode())
    digest.update(np.packbits(label.positive).tobytes())
    digest.update(np.packbits(label.included).tobytes())
    return digest.hexdigest()[:16]
