"""Numbers per neuron out of responses, as work for an engine: scores and means.

A neuron's number needs its own responses and no others. Sites and layers are read in portions of
bounded size, where they lie on disk for all to see. What was found of a portion lies among the
run's parts until it is finished, so that a process that joined, or a resumed run, finds what
others have computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from broca.engines import Engine
from broca.neurons import digest_of
from broca.responses import Responses
from broca.scores import (
    BlockScores,
    Labelling,
    NeuronScores,
    check_labels,
    gather_scores,
    hash_labels,
    score_blocks,
)
from broca.store import RunFolder, replacing

PORTION_BYTES = 64 << 20  # of responses read for one item, at least
Blocks = tuple[tuple[str, int], ...]
Found = dict[str, np.ndarray]


@dataclass(frozen=True)
class Scoring:
    """Scores a portion: all it needs is the responses, on disk."""

    responses: Responses
    labels: Mapping[str, Labelling]

    def __call__(self, blocks: Blocks) -> Found:
        found = score_blocks(self.responses, self.labels, blocks)
        use = {f"use.{layer}": share for layer, share in found.use.items()}
        return {"values": found.values, **use}


@dataclass(frozen=True)
class Averaging:
    """Means of a portion, or means of the magnitudes."""

    responses: Responses
    absolute: bool

    def __call__(self, blocks: Blocks) -> Found:
        means = [self.responses.block_means(*block, absolute=self.absolute) for block in blocks]
        return {"values": np.concatenate(means)}


def score(
    folder: RunFolder,
    engine: Engine,
    responses: Responses,
    labellings: Mapping[str, Labelling],
) -> dict[str, NeuronScores]:
    """Average precision of every neuron, for many labellings of the recorded prompts.

    Args:
        folder: Of the run.
        engine: Where portions are scored.
        responses: As `broca.run.recording.record` gave them, or a subset.
        labellings: Name -> labelling.

    Raises:
        ScoreError: As `broca.scores.score_expertise`.
    """
    labels = check_labels(responses, labellings)
    hashes = [hash_labels(responses.prompt_ids, label) for label in labels.values()]
    work = Scoring(responses, labels)
    found = _by_portions(folder, engine, work, responses, ["scores", *hashes], "Scoring neurons")
    return gather_scores(responses, labels, [_as_scores(part) for part in found])


def average(folder: RunFolder, engine: Engine, responses: Responses, absolute: bool) -> np.ndarray:
    """Mean response (or mean |response|) of every neuron over the prompts, [neuron].

    Args:
        folder: Of the run.
        engine: Where portions are averaged.
        responses: As `broca.run.recording.record` gave them, or a subset.
        absolute: Whether magnitudes are averaged.
    """
    determinants = ["means", str(absolute), *responses.prompt_ids]
    work = Averaging(responses, absolute)
    found = _by_portions(folder, engine, work, responses, determinants, "Averaging responses")
    return np.concatenate([part["values"] for part in found])


def portions_of(responses: Responses) -> list[Blocks]:
    """Sites and layers in portions, each of as many as make up enough bytes."""
    found: list[list[tuple[str, int]]] = []
    n_bytes = 0
    for site, layer, where in responses.index.blocks():
        if not found or n_bytes >= PORTION_BYTES:
            found.append([])
            n_bytes = 0
        found[-1].append((site, layer))
        n_bytes += 4 * len(responses.prompt_ids) * (where.stop - where.start)
    return [tuple(blocks) for blocks in found]


def _by_portions(
    folder: RunFolder,
    engine: Engine,
    work: Callable[[Blocks], Found],
    responses: Responses,
    determinants: list[str],
    description: str,
) -> list[Found]:
    """What is found of each portion, in the order of the index."""
    key = digest_of([responses.key, *determinants])
    portions = portions_of(responses)
    named = {f"{determinants[0]}-{key}-{n}": blocks for n, blocks in enumerate(portions)}
    names = {blocks: name for name, blocks in named.items()}
    known: dict[str, Found] = {}

    def place(name: str) -> Path:
        return folder.parts_path / f"{name}.npz"

    left = [name for name in named if not place(name).exists()]
    for blocks, found in engine.map(
        work,
        [named[name] for name in left],
        description,
        [_width(responses, named[name]) for name in left],
        names=left,
        stored=lambda name: place(name).exists(),
    ):
        known[names[blocks]] = found
        if not folder.finished:  # by another process, which needs none of it
            _write(place(names[blocks]), found)
    return [known.get(name) or _read(place(name), work, blocks) for name, blocks in named.items()]


def _width(responses: Responses, blocks: Blocks) -> int:
    slices = (responses.index.block_slice(*block) for block in blocks)
    return sum(where.stop - where.start for where in slices)


def _as_scores(found: Found) -> BlockScores:
    use = {int(n.removeprefix("use.")): share for n, share in found.items() if n != "values"}
    return BlockScores(found["values"], use)


def _write(path: Path, found: Found) -> None:
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(file, **found)  # pyright: ignore[reportArgumentType]


def _read(path: Path, work: Callable[[Blocks], Found], blocks: Blocks) -> Found:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except FileNotFoundError:  # swept up by whoever has finished the run
        return work(blocks)
