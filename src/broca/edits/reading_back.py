"""A written copy is read back and compared before it is called done.

1. The folder is loaded as anybody would load it.
2. Every weight equals, bit by bit, that of the model edited in memory.
3. Its logits are those of the model under the same change as an intervention, which knows
   nothing of weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from broca.edits.weights import ValueVectors, WeightEdit, edited, new_columns
from broca.errors import EditError, ModelError
from broca.interventions import intervene
from broca.model import LanguageModel
from broca.model.loading import load_module

TOLERANCES = {torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Shares of the largest logit that rounding may account for; 1e-4 in other dtypes."""

N_ROWS, N_TOKENS = 4, 12


def check_copy(model: LanguageModel, edits: Sequence[WeightEdit], folder: Path) -> None:
    """Compare a written copy with the model and its edits.

    Raises:
        EditError: If it cannot be loaded, or is another model than the intervention makes.
    """
    copy = _load(model, folder)
    _compare_weights(model, edits, copy)
    ids = _rows(model)
    with _intervened(model, edits):
        expected = _logits(model.module, ids, model.device)
    found = _logits(copy, ids, torch.device("cpu"))
    error = float((found - expected).abs().max()) / max(1.0, float(expected.abs().max()))
    if not error <= TOLERANCES.get(model.dtype, 1e-4):  # NaN fails as well
        raise EditError(
            f"The written copy is not the model with its edit: logits differ by {error:.2g} of "
            "the largest",
            model.name,
            "Nothing was kept. Intervene without saving, or report the model's family.",
        )


def _load(model: LanguageModel, folder: Path) -> Any:
    try:
        return load_module(
            str(folder),
            dtype=model.dtype,
            trust_remote_code=False,
            attn_implementation=getattr(model.config, "_attn_implementation", None),
        ).module
    except ModelError as error:
        raise EditError("The written copy cannot be loaded", model.name, str(error)) from error


def _compare_weights(model: LanguageModel, edits: Sequence[WeightEdit], copy: Any) -> None:
    found = copy.state_dict()
    with edited(model, *edits):
        wanted = model.module.state_dict()
        if wanted.keys() != found.keys():
            odd = min(wanted.keys() ^ found.keys())
            raise EditError(f"The written copy has other weights, the first {odd}", model.name)
        for name, weight in wanted.items():
            if not torch.equal(weight.cpu(), found[name].cpu()):
                raise EditError(f"The written copy differs in {name}", model.name)


def _rows(model: LanguageModel) -> Tensor:
    """Token ids far from each other, [prompt, token]."""
    size = model.module.get_input_embeddings().weight.shape[0]
    return ((torch.arange(N_ROWS * N_TOKENS) * 7919 + 3) % size).reshape(N_ROWS, N_TOKENS)


@torch.no_grad()
def _logits(module: Any, ids: Tensor, device: torch.device) -> Tensor:
    mask = torch.ones_like(ids)
    output = module(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)
    return output.logits.float().cpu()


@contextmanager
def _intervened(model: LanguageModel, edits: Sequence[WeightEdit]) -> Iterator[None]:
    """The edits as hooks: scaled neurons, or what new value vectors add to the MLP's output."""
    scales = [edit for edit in edits if not isinstance(edit, ValueVectors)]
    if len(scales) == len(edits):
        with intervene(model, *scales):
            yield
        return
    with ExitStack() as stack:
        for layer, columns in new_columns(model, tuple(edits)).items():
            places = torch.tensor(list(columns))
            changes = [
                new.float() - model.value_column(layer, index).float()
                for index, new in columns.items()
            ]
            added = torch.stack(changes, dim=1)
            _add_to_down(stack, model, layer, places, added)
        yield


def _add_to_down(
    stack: ExitStack, model: LanguageModel, layer: int, places: Tensor, added: Tensor
) -> None:
    """Add the neurons' values times [d_model, neuron] to a layer's ``down``."""
    values: list[Tensor] = []

    def keep(hidden: Tensor) -> None:
        values[:] = [hidden[..., places.to(hidden.device)].float()]

    def add(down: Tensor) -> Tensor:
        return (down.float() + values[0] @ added.T).to(down.dtype)

    stack.enter_context(model.touch("hidden", layer, keep))
    stack.enter_context(model.touch("down", layer, add))
