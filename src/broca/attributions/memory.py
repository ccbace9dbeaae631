"""How many branch rows run at once, and what happens when that was too many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from broca.engines.memory import (
    BatchLimit,
    available_bytes,
    current_limit,
    free_memory,
    is_out_of_memory,
)
from broca.errors import AttributionError
from broca.model import LanguageModel

T = TypeVar("T")

_CPU_BYTES = 1 << 30
_GPU_SHARE = 2 / 3


@dataclass
class RowBudget:
    """The largest number of rows at once; halved whenever memory runs out, for the whole run.

    Attributes:
        rows: Rows of the residual stream that run beside each other, or prompts.
        kind: What they are rows of: what was too many of one kind is remembered for it.
        limit: What remembers it; that of the run by default.
    """

    rows: int
    kind: str = "branches"
    limit: BatchLimit = field(default_factory=current_limit)

    def __post_init__(self) -> None:
        self.rows = self.limit.allowed(self.kind, self.rows)

    def fit(self, compute: Callable[[int], T]) -> T:
        """Call ``compute(rows)``, with half as many rows after every shortage of memory.

        Raises:
            AttributionError: If a single row is too much.
        """
        while True:
            try:
                return compute(self.rows)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.rows <= 1:
                    raise AttributionError(
                        "Out of memory with a single branch row",
                        mend="Use shorter prompts, a smaller model or a larger device.",
                    ) from error
            # Outside of the handler, where the error no longer holds the tensors of its frames.
            self.rows = self.limit.halve(self.kind, self.rows)
            free_memory()


def default_rows(model: LanguageModel, n_tokens: int) -> int:
    """Rows whose saved activations take about 1 GiB (GPU: two thirds of what weights leave)."""
    available = _CPU_BYTES
    if model.device.type == "cuda":
        available = gpu_bytes(model, _GPU_SHARE)
    return max(model.n_layers, int(available / row_bytes(model, n_tokens)))


def gpu_bytes(model: LanguageModel, share: float) -> int:
    """A share of what the weights leave of their GPU, whatever else is on it at the moment.

    So the same model makes the same batches on every GPU of a kind. Where others leave less than
    that, it is a share of what they leave.
    """
    here = (p for p in model.module.parameters() if p.device == model.device)
    weights = sum(p.numel() * p.element_size() for p in here)
    total = torch.cuda.get_device_properties(model.device).total_memory
    return room(total - weights, available_bytes(model.device), share)


def room(left: int, free: int, share: float) -> int:
    """A share of what is left beside the weights, or of what is free where that is not enough."""
    wanted = int(share * left)
    return wanted if wanted <= free else int(share * free)


def row_bytes(model: LanguageModel, n_tokens: int) -> int:
    """Saved activations of a row: half of the layers on average, a few dozen vectors in each."""
    d_model = model.module.get_input_embeddings().weight.shape[1]
    d_ff = model.identity.width("hidden")
    heads = getattr(model.config, "num_attention_heads", 1)
    per_layer = 24 * d_model + 8 * d_ff + 4 * heads * n_tokens
    vocabulary = model.module.get_input_embeddings().weight.shape[0]
    return int(4 * (model.n_layers / 2 * per_layer + 4 * vocabulary))


def blocks(
    n_prompts: int, n_layers: int, n_steps: int, rows: int
) -> Iterator[tuple[range, range, range]]:
    """Cut prompts x layers x steps into blocks of at most ``rows``, as (prompts, layers, steps).

    Whole prompts first, then all layers of a few steps, then a few layers of one step.
    """
    steps = min(n_steps, max(1, rows // n_layers))
    layers = min(n_layers, rows)
    prompts = max(1, rows // (n_layers * n_steps)) if steps == n_steps else 1
    for prompt in range(0, n_prompts, prompts):
        for layer in range(0, n_layers, layers):
            for step in range(0, n_steps, steps):
                yield (
                    range(prompt, min(prompt + prompts, n_prompts)),
                    range(layer, min(layer + layers, n_layers)),
                    range(step, min(step + steps, n_steps)),
                )
