"""What is put around a model: reached through, or refused because hooks would not be seen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from broca.architectures import ENCODERS
from broca.errors import ModelError

# Attribute of a wrapper under which the original module is, by the wrapper's class.
_WRAPPERS = {
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
}
_SHARDED = ("FSDPModule", "FullyShardedDataParallel")
_EXPORTED = ("ScriptModule", "RecursiveScriptModule", "GraphModule", "ExportedProgram")


def unwrapped(module: Any) -> nn.Module:
    """The original module of a compiled or data-parallel one, which stays as it is.

    Raises:
        ModelError: If it is exported or sharded, or parts of it are compiled: functions set on
            sites would not be called there; or if weights are not in memory.
    """
    while type(module).__name__ in _WRAPPERS and type(module).__name__ not in _SHARDED:
        module = getattr(module, _WRAPPERS[type(module).__name__])
    if not isinstance(module, nn.Module):
        raise ModelError(f"{type(module).__name__} is no module of torch", mend=_ORIGINAL)
    for name, part in module.named_modules():
        kinds = {kind.__name__ for kind in type(part).__mro__}
        where = name or type(part).__name__
        if kinds & set(_SHARDED):
            raise ModelError("A sharded model keeps its weights elsewhere", where, _ORIGINAL)
        if kinds & set(_EXPORTED):
            raise ModelError("An exported model runs no hooks", where, _ORIGINAL)
        if "OptimizedModule" in kinds or getattr(part, "_compiled_call_impl", None) is not None:
            raise ModelError("A part of the model is compiled and runs no hooks", where, _ORIGINAL)
    away = next((name for name, weight in module.named_parameters() if weight.is_meta), None)
    if away is not None:
        raise ModelError(
            "Weights are not in memory: they were offloaded to the CPU's memory or a disk",
            away,
            "Use a device_map that offloads nothing: more or larger devices, or a smaller dtype.",
        )
    return module


def parts_around(root: nn.Module, inner: nn.Module) -> tuple[nn.Module, ...]:
    """A module, all it is made of, and all it is part of within a model."""
    path = next(name for name, module in root.named_modules() if module is inner)
    names = path.split(".")
    above = [root.get_submodule(".".join(names[:n])) for n in range(len(names))]
    return (*above, *inner.modules())


def check_uncompiled(parts: Iterable[nn.Module]) -> None:
    """Refuse a model of which a part was compiled in place after it had been loaded.

    Raises:
        ModelError: If one was: a function set on a site would not be called there.
    """
    for part in parts:
        # read past __getattr__: this is asked whenever a site is touched
        kept = part.__dict__
        inside = kept.get("_modules")
        if kept.get("_compiled_call_impl") is not None or (
            inside and "OptimizedModule" in [type(one).__name__ for one in inside.values()]
        ):
            raise ModelError(
                "A part of the model was compiled after it was loaded and runs no hooks",
                type(part).__name__,
                _ORIGINAL,
            )


_ORIGINAL = "Pass the model as transformers loaded it, before torch.compile, FSDP or export."


def refuse_encoders(config: Any) -> None:
    """Refuse a model type that reads both ways.

    Raises:
        ModelError: Naming it.
    """
    if config.model_type in ENCODERS and not getattr(config, "is_decoder", False):
        raise ModelError(
            f"{config.model_type} is an encoder: it reads a text in both directions and does not "
            "continue it",
            mend="Use a decoder (a causal language model).",
        )
