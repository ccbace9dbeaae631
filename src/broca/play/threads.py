"""How many threads a model on the processor computes with while somebody waits for it."""

from __future__ import annotations

import time

import torch

from broca.model import LanguageModel

LARGE = 20_000_000  # parameters above which a pass may be worth sharing among cores
ROWS = 7  # of an answer's next token: untouched, edited and five draws
TRIALS = 4


def suited(model: LanguageModel) -> int:
    """One thread for a small model; for a large one as many as torch would take, if that is faster.

    A small model's pass is over before threads have agreed on who does what. Whether more of them
    help a large one depends on the machine: passes of few rows wait for memory, and cores may be
    shared. Torch takes every core unless `OMP_NUM_THREADS` says otherwise. A model on a GPU waits
    for no thread.
    """
    size = sum(parameter.numel() for parameter in model.module.parameters())
    most = torch.get_num_threads()
    if size < LARGE or most == 1 or model.device.type != "cpu":
        return 1
    fastest = {n: min(_pass_seconds(model, n) for _ in range(TRIALS)) for n in (1, most)}
    torch.set_num_threads(most)
    return min(fastest, key=lambda n: fastest[n])


def _pass_seconds(model: LanguageModel, n_threads: int) -> float:
    """Wall seconds of one token in each row."""
    torch.set_num_threads(n_threads)
    batch = model.pad([[0]] * ROWS)
    start = time.perf_counter()
    model.logits(batch)
    return time.perf_counter() - start
