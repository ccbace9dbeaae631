"""Branches that join the residual stream behind the layer that alters them: no row below it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from broca.model.branches.attention import BranchesRefusedError, branching
from broca.model.branches.blocks import rows_of
from broca.model.branches.passes import BasePass
from broca.model.branches.prefixes import prefixes_of
from broca.model.language_model import LanguageModel
from broca.model.resume import passed_over


def run_wavefront(
    model: LanguageModel, base: BasePass, layers: range, rows_behind: Callable[[int], Tensor]
) -> Tensor:
    """Logits of branches that join the residual stream behind given layers.

    Args:
        model: The model.
        base: The base pass of the prompts.
        layers: The layers behind which rows join.
        rows_behind: Gives the rows that join behind a layer, [prompt, row, d_model].

    Returns:
        float32 [prompt, row, vocab], rows in the order of the layers.

    Raises:
        BranchesRefusedError: If the family's attention cannot be driven this way.
    """
    prefixes = prefixes_of(model, base)
    first = layers.start

    def before(layer: int):
        def hook(module: nn.Module, args: tuple) -> None:
            prefixes.layer = layer

        return hook

    def after(layer: int):
        def hook(module: nn.Module, args: tuple, output: Any) -> Any:
            rows = rows_of(output)
            new = rows_behind(layer)
            rows = torch.cat([rows.to(new.device), new], dim=1)
            return type(output)([rows, *output[1:]]) if isinstance(output, (tuple, list)) else rows

        return hook

    handles = []
    try:
        for number in range(first + 1, model.n_layers):
            handles.append(model.layers[number].register_forward_pre_hook(before(number)))
            if number in layers:
                handles.append(model.layers[number].register_forward_hook(after(number)))
        entering = rows_behind(first)
        with (
            branching(model.module, prefixes),
            passed_over(model.layers, first + 1, entering),
        ):
            logits = _last_token_forward(model, base)
    finally:
        for handle in handles:
            handle.remove()
    if prefixes.served != set(range(first + 1, model.n_layers)):
        raise BranchesRefusedError("not every layer asks for its attention by name")
    return logits.reshape(len(base), -1, logits.shape[-1]).float()


def _last_token_forward(model: LanguageModel, base: BasePass) -> Tensor:
    return model.forward(
        input_ids=base.batch.ids[:, -1:],
        attention_mask=base.batch.attention_mask[:, -1:],
        position_ids=base.batch.position_ids[:, -1:],
        use_cache=False,
        logits_to_keep=0,
    )
