"""Recordings of responses as work for an engine: shards of prompts, put together block by block.

1. Prompts, shortest first, are cut into **shards** of whole batches: the batches are those that a
   single process would record. A worker records a shard into a folder of its own.
2. When all are there, a worker puts the shards of one site and layer together in the order of the
   prompts, and deletes what it has read.
3. Whoever is through writes the mark, and the blocks take their place among the responses.

Workers need a file system that all see; through the driver go names and numbers of rows only.
Prompts that fill one shard are recorded where they belong.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from broca.engines import Engine
from broca.errors import RunError
from broca.model import LanguageModel
from broca.neurons import NeuronIndex
from broca.prompts import Prompt
from broca.responses import Responses, record_responses, response_key
from broca.store import RunFolder, replacing
from broca.store.blocks import DONE, block_entry, claim_block, damaged_blocks, settle_blocks
from broca.store.files import read_json, write_json

SHARD = 256  # prompts of a shard, about
BlockOf = tuple[str, int]


@dataclass(frozen=True)
class Shard:
    """Prompts recorded together.

    Attributes:
        rows: Where they stand among all prompts.
        prompts: The prompts.
    """

    rows: tuple[int, ...]
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True)
class Recording:
    """Records a shard in a folder that all processes see: all it needs is the model."""

    model: LanguageModel
    sites: tuple[str, ...]
    pooling: str
    folder: str
    batch_size: int

    def __call__(self, shard: Shard) -> None:
        record_responses(
            self.model,
            shard.prompts,
            self.sites,
            pooling=self.pooling,
            folder=self.folder,
            batch_size=self.batch_size,
        )


@dataclass(frozen=True)
class Joining:
    """Puts the shards of a block together.

    Attributes:
        shards: Folder of the shards.
        whole: Folder of the finished blocks.
        place: Where that folder ends up.
        rows: Name of each shard, and where its prompts stand among all.
    """

    shards: Path
    whole: Path
    place: Path
    rows: tuple[tuple[str, tuple[int, ...]], ...]

    def settled(self) -> bool:
        """Whether all blocks are in their place: another process may have been quicker."""
        return not damaged_blocks(self.place, quick=True)

    def __call__(self, block: BlockOf) -> None:
        file = file_of(block)
        target = self.whole / file
        try:
            parts = [np.load(self.shards / name / file, mmap_mode="r") for name, _ in self.rows]
        except FileNotFoundError:
            if target.exists():  # another process was quicker
                return
            raise
        n_prompts = sum(len(rows) for _, rows in self.rows)
        with replacing(target) as beside:
            joined = claim_block(beside, (n_prompts, parts[0].shape[1]))
            for (_, rows), part in zip(self.rows, parts, strict=True):
                joined[list(rows)] = part
            joined.flush()
            write_json(self.whole / f"{file}.json", block_entry(beside))
        for name, _ in self.rows:
            (self.shards / name / file).unlink(missing_ok=True)


def file_of(block: BlockOf) -> str:
    """The file of a site and layer."""
    return f"{block[0]}.{block[1]}.npy"


def shards_of(model: LanguageModel, prompts: Sequence[Prompt], batch_size: int) -> list[Shard]:
    """Prompts in shards of whole batches, shortest first."""
    lengths = [len(tokens) for tokens in model.encode([prompt.text for prompt in prompts])]
    order = sorted(range(len(prompts)), key=lambda row: (lengths[row], row))
    step = batch_size * max(1, SHARD // batch_size)
    cuts = [tuple(order[start : start + step]) for start in range(0, len(order), step)]
    if len(cuts) == 1:
        cuts = [tuple(range(len(prompts)))]
    return [Shard(rows, tuple(prompts[row] for row in rows)) for rows in cuts]


def record(
    folder: RunFolder,
    engine: Engine,
    model: LanguageModel,
    prompts: Sequence[Prompt],
    sites: Sequence[str],
    pooling: str,
    batch_size: int,
) -> Responses:
    """Responses to prompts on disk, recorded where an engine computes; what is there is read.

    Args:
        folder: Of the run.
        engine: Where shards are recorded and put together.
        model: The model under study.
        prompts: What it reads.
        sites: Which sites.
        pooling: See `broca.record_responses`.
        batch_size: Prompts per pass.

    Raises:
        BrocaError: As `broca.record_responses`.
    """
    index = NeuronIndex(model.identity, tuple(sites))
    key = response_key(model, prompts, index.sites, pooling)
    ids, kept = tuple(prompt.id for prompt in prompts), folder.responses_path.absolute()
    if damaged_blocks(kept / key, quick=True):
        shards = shards_of(model, prompts, batch_size)
        parts = folder.parts_path.absolute() / key
        into = kept if len(shards) == 1 else parts / "shards"
        recording = Recording(model, tuple(sites), pooling, str(into), batch_size)
        names = [response_key(model, shard.prompts, index.sites, pooling) for shard in shards]
        rows = tuple((name, shard.rows) for name, shard in zip(names, shards, strict=True))
        joining = Joining(into, parts / "whole", kept / key, rows)
        about = {"sites": list(index.sites), "pooling": pooling, "prompts": list(ids)}
        try:
            _record_shards(engine, recording, shards, joining)
            if len(shards) > 1:
                _put_together(
                    engine, joining, [(s, layer) for s, layer, _ in index.blocks()], about
                )
        except (FileNotFoundError, RunError):
            if not joining.settled():  # else another process is through, and has swept up
                raise
        shutil.rmtree(parts, ignore_errors=True)
    return Responses(index, ids, pooling, key, kept / key)


def _put_together(
    engine: Engine, joining: Joining, blocks: Sequence[BlockOf], about: dict[str, Any]
) -> None:
    _join(engine, joining, blocks)
    _settle(joining.whole, joining.place, about, blocks)


def _record_shards(
    engine: Engine, recording: Recording, shards: Sequence[Shard], joining: Joining
) -> None:
    def stored(name: str) -> bool:
        """Its blocks are there, or put together already."""
        if joining.settled():
            return True
        done = joining.shards / name / DONE
        if not done.exists():
            return False
        files = read_json(done)["blocks"]
        places = (joining.shards / name, joining.whole)
        return all(any((place / file).exists() for place in places) for file in files)

    left = {name: s for (name, _), s in zip(joining.rows, shards, strict=True) if not stored(name)}
    for _ in engine.map(
        recording,
        list(left.values()),
        "Recording responses",
        [len(shard.rows) for shard in left.values()],
        names=list(left),
        stored=stored,
    ):
        pass


def _join(engine: Engine, joining: Joining, blocks: Sequence[BlockOf]) -> None:
    named = {f"{joining.whole.parent.name}-{file_of(block)}": block for block in blocks}

    def stored(name: str) -> bool:
        return (joining.whole / file_of(named[name])).exists() or joining.settled()

    left = [name for name in named if not stored(name)]
    for _ in engine.map(
        joining,
        [named[name] for name in left],
        "Putting responses together",
        names=left,
        stored=stored,
    ):
        pass


def _settle(whole: Path, place: Path, about: dict[str, Any], blocks: Sequence[BlockOf]) -> None:
    """Mark blocks that are put together as finished, and move them to their place.

    Raises:
        RunError: They cannot be moved.
    """
    entries = {file_of(block): whole / f"{file_of(block)}.json" for block in blocks}
    with suppress(RunError):  # another process has written the mark, and moved them perhaps
        found = {file: read_json(entry) for file, entry in entries.items()}
        write_json(whole / DONE, {**about, "blocks": found})
    for entry in entries.values():
        entry.unlink(missing_ok=True)
    settle_blocks(whole, place)
