"""Adapters (LoRA and its kin): merged into the weights in memory, or kept beside them.

A layer with an adapter computes ``W x + B A x``, and its ``weight`` is W alone: whatever reads or
edits weights would see a model that does not exist. So adapters are merged when a model is taken
up, unless they are to be kept; then effective weights are computed where they are read, and
nothing is written.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from broca.errors import ModelError
from broca.model.numbers import is_numbers

CONFIG = "adapter_config.json"
_MARKS = ("base_layer", "modules_to_save", "token_adapter")  # of peft's layers and wrappers


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no whole model."""
    return (folder / CONFIG).exists() and not (folder / "config.json").exists()


def base_of(folder: Path) -> str:
    """Name or path of the model that an adapter was trained for.

    Raises:
        ModelError: If its configuration cannot be read or names none.
    """
    peft = _peft(folder)
    try:
        name = peft.PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    except Exception as error:  # readers of a format raise errors of their own
        raise ModelError("The adapter's configuration cannot be read", str(folder)) from error
    if not name:
        raise ModelError(
            "The adapter does not name its model",
            str(folder),
            "Name the model, and the adapter as adapter=...",
        )
    return name


def put_adapter(module: nn.Module, folder: str) -> nn.Module:
    """A model with an adapter put on it, as a PeftModel.

    Raises:
        ModelError: If there is no such adapter or it is one of another model.
    """
    peft = _peft(folder)
    if not Path(folder).is_dir() or not (Path(folder) / CONFIG).exists():
        raise ModelError("There is no adapter in this folder", folder, f"It needs {CONFIG}.")
    try:
        stored = peft.utils.load_peft_weights(folder, device="cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of peft about its own calls
            adapted = peft.PeftModel.from_pretrained(module, folder)
    except Exception as error:  # other shapes, other modules, a damaged file: each its own error
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            "The adapter does not fit the model",
            folder,
            f"It may be damaged or of another model. peft said: {' '.join(said)[:200]}",
        ) from error
    wanted = set(peft.get_peft_model_state_dict(adapted))
    if wanted != set(stored):
        odd = min(wanted ^ set(stored))
        raise ModelError(
            f"The adapter is one of another model: {len(wanted ^ set(stored))} of its weights do "
            f"not match, the first {odd}",
            folder,
        )
    return adapted


def _peft(where: Any) -> Any:
    try:
        import peft
    except ImportError as error:
        raise ModelError(
            "Adapters need the package peft", str(where), 'Install it: pip install "broca[peft]"'
        ) from error
    return peft


def settle_adapters(module: Any, *, merge: bool) -> tuple[Any, tuple[str, ...]]:
    """The module itself, out of a PeftModel's wrapping, with its adapters merged or kept.

    Merging changes the weights of the module that was passed.

    Returns:
        The module, and notes on what was done.

    Raises:
        ModelError: If the adapter is no change of weights (virtual tokens).
    """
    peft = sys.modules.get("peft")
    if peft is None:  # then nothing can hold an adapter
        return module, ()
    known = sorted(getattr(module, "peft_config", None) or {})
    if isinstance(module, peft.PeftModel):
        if module.active_peft_config.is_prompt_learning:
            raise ModelError(
                "The adapter adds virtual tokens and no weights",
                ", ".join(known),
                "Only adapters of weights, such as LoRA, can be used.",
            )
        module = module.get_base_model()
    layers = dict(adapted_layers(module))
    if not layers:
        return module, ()
    active = sorted({name for layer in layers.values() for name in _acting(layer)})
    n_acting = sum(bool(_acting(layer)) for layer in layers.values())
    what = f"Adapter {', '.join(active)} of {n_acting} layers" if active else "No adapter"
    idle = [name for name in known if name not in active]
    unused = f" Not active: {', '.join(idle)}." if idle else ""
    if not merge or any(_is_packed(layer) for layer in layers.values()):
        return module, (f"{what}: kept beside the weights, which are not changed.{unused}",)
    with torch.no_grad():
        for layer in layers.values():
            _apart(module, layer)
        for name, layer in layers.items():
            module.set_submodule(name, _merged(layer))
    module._hf_peft_config_loaded = False
    module._weight_conversions = None  # load_adapter's would rename the weights when saved
    module.__dict__.pop("peft_config", None)
    _untie(module)
    return module, (f"{what}: merged into the weights in memory.{unused}",)


def adapted_layers(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Names and layers with something beside their own weights, the outermost only."""
    found: list[str] = []
    for name, layer in module.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if not inside and any(hasattr(layer, mark) for mark in _MARKS):
            found.append(name)
            yield name, layer


def _is_packed(layer: Any) -> bool:
    weight = getattr(getattr(layer, "base_layer", None), "weight", None)
    return isinstance(weight, Tensor) and not is_numbers(weight)


def _apart(module: nn.Module, layer: Any) -> None:
    """Give a layer that is merged into weights of its own: a tied one would change as well."""
    base = getattr(layer, "base_layer", None)
    weight = base._parameters.get("weight") if isinstance(base, nn.Module) else None
    holders = [each for each in module.modules() if each._parameters.get("weight") is weight]
    if base is not None and weight is not None and len(holders) > 1 and _acting(layer):
        base.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)


def _merged(layer: Any) -> nn.Module:
    merge = not getattr(layer, "disable_adapters", False)
    if hasattr(layer, "unload_and_optionally_merge_module"):
        return layer.unload_and_optionally_merge_module(
            merge=merge, safe_merge=True, adapter_names=None
        )
    if merge:
        layer.merge(safe_merge=True)
    return layer.get_base_layer()


def _untie(module: Any) -> None:
    """Where only one of two tied embeddings was adapted they are tied no longer."""
    ends = [module.get_input_embeddings(), module.get_output_embeddings()]
    pointers = {end.weight.data_ptr() for end in ends if end is not None}
    if len(pointers) > 1:
        module.config.tie_word_embeddings = False


def _acting(layer: Any) -> list[str]:
    """The adapters that act in a layer: the active ones that have a part in it, and are on."""
    if getattr(layer, "disable_adapters", False):
        return []
    there = layer._get_available_adapters()
    return [name for name in layer.active_adapters if name in there]


def effective_weight(layer: Any) -> Any:
    """A projection's weight with what active adapters add to it; its own where there is none."""
    weight = getattr(layer, "weight", None)
    if weight is None or not hasattr(layer, "get_delta_weight") or layer.merged:
        return weight
    for name in _acting(layer):
        added = layer.get_delta_weight(name)
        if added.shape != weight.shape:
            raise ModelError(
                f"The adapter {name} does more than add to weights",
                type(layer).__name__,
                "It cannot be kept beside: merge it (merge_adapter = true).",
            )
        weight = weight + added
    return weight
