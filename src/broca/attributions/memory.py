"""How many branch rows run at once, and what happens when that was too many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from broca.engines.memory import available_bytes, free_memory, is_out_of_memory
from broca.errors import AttributionError
from broca.model import LanguageModel

T = TypeVar("T")

_CPU_BYTES = 1 << 30


@dataclass
class RowBudget:
    """The largest number of branch rows at once; halved whenever memory runs out.

    Attributes:
        rows: Rows of the residual stream that run beside each other.
    """

    rows: int

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
            self.rows = max(1, self.rows // 2)
            free_memory()


def default_rows(model: LanguageModel, n_tokens: int) -> int:
    """Rows whose saved activations take about 1 GiB (GPU: two thirds of what is free)."""
    available = _CPU_BYTES
    if model.device.type == "cuda":
        available = 2 * available_bytes(model.device) // 3
    return max(model.n_layers, int(available / row_bytes(model, n_tokens)))


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
