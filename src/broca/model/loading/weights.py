"""Weights as they were loaded: complete, finite, and where they lie in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import nn

from broca.errors import ModelError
from broca.model.numbers import is_numbers, is_plain

ALIGNED = 64  # bytes; torch's own memory begins at multiples of it


def load_naming_misfits(load: Callable[..., Any], where: str) -> tuple[Any, dict[str, Any]]:
    """Load, and where shapes do not fit, name the first weight: transformers points at a table.

    Args:
        load: Loads model and information, by ``from_pretrained`` with further options.
        where: The model's name.

    Raises:
        ModelError: Weights have another shape than the model.
    """
    try:
        return load()
    except RuntimeError as error:
        if "ignore_mismatched_sizes" not in str(error):
            raise
        check_complete(load(ignore_mismatched_sizes=True)[1], where)
        raise


def check_complete(info: dict[str, Any], where: str) -> None:
    """Refuse a model with weights that its files lack, or files with weights that it lacks.

    Args:
        info: What transformers tells of the load (``output_loading_info``).
        where: The model's name.

    Raises:
        ModelError: Naming the first of them.
    """
    _refuse(info["missing_keys"], "are missing and would be drawn at random", where)
    misfits = [
        f"{key}, {_shape(found)} for {_shape(own)}" for key, found, own in info["mismatched_keys"]
    ]
    _refuse(misfits, "have another shape than the model", where)
    _refuse(info["unexpected_keys"], "have no place in the model", where)


def _shape(shape: Any) -> str:
    return " × ".join(map(str, shape))


def _refuse(names: Collection[str], what: str, where: str) -> None:
    if names:
        raise ModelError(
            f"{len(names)} weights {what}, the first {min(names)}",
            where,
            "The files are incomplete or of another model. If that is meant, load the model with "
            "transformers and pass it on: LanguageModel(model, tokenizer).",
        )


@torch.no_grad()
def check_finite(module: nn.Module, where: str) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        ModelError: Naming the first of them.
    """
    for name, weight in module.named_parameters():
        plain = is_numbers(weight) and not weight.is_meta and weight.numel()
        # smallest and largest: NaN is handed on, and no array of answers is made
        if plain and not bool(torch.isfinite(torch.stack(torch.aminmax(weight))).all()):
            raise ModelError(
                f"Weights of {name} are not finite",
                where,
                "The files are damaged, or numbers of another dtype overflowed: try "
                "dtype='bfloat16' or 'float32'.",
            )


@torch.no_grad()
def align(module: nn.Module) -> None:
    """Move weights that lie at odd addresses of a mapped file into torch's own memory.

    Matrix products choose their order of summation by address: the same weights from a GGUF file
    and from a folder would differ in the last digits.
    """
    for weight in module.parameters():
        odd = weight.device.type == "cpu" and is_plain(weight) and weight.data_ptr() % ALIGNED
        if odd:
            weight.data = weight.data.clone()
