"""What goes into a block and comes out of it, however the family hands it over."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from broca.model.language_model import LanguageModel


def rows_of(output: Any) -> Tensor:
    """The rows that a block hands on: itself, or the first of a tuple or list."""
    return output[0] if isinstance(output, (tuple, list)) else output


def arguments_of(module: nn.Module, args: tuple, kwargs: dict) -> dict[str, Any]:
    """The arguments of a block by name, however the family hands them over."""
    names = [n for n in inspect.signature(type(module).forward).parameters if n != "self"]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def run_mixture(model: LanguageModel, layer: int, entering: Tensor, hidden: Tensor) -> Tensor:
    """Output of MLP and experts, [prompt, d_model], of one token each, for given hidden values."""
    block = model.block(layer)
    assert block.mlp is not None
    model.rows = len(entering)
    with model.touch("hidden", layer, lambda _: hidden.unsqueeze(1)):
        output = block.mlp(entering.unsqueeze(1))
    return rows_of(output).reshape(len(entering), -1)
