"""Build any causal type of transformers tiny, from its configuration class alone."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from broca.errors import ModelError
from broca.model.families.sizes import EXTRA, SIZES

_MOST_PARAMETERS = 6_000_000


def causal_types() -> tuple[str, ...]:
    """Every model type for which transformers has a causal language model."""
    return tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def build_tiny(model_type: str, seed: int = 0, **changes: Any) -> nn.Module:
    """A random model of a type, a few thousand parameters large, float32, in evaluation mode.

    Args:
        model_type: As in a configuration's ``model_type``.
        seed: Of its parameters, all of which are moved away from their initial values.
        **changes: Entries of the (text) configuration.

    Raises:
        ModelError: If transformers does not build the type from small numbers.
    """
    names = {**MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, **MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
    if model_type not in names:
        raise ModelError(f"transformers has no causal type {model_type!r}")
    name = names[model_type]
    make = getattr(transformers, name if isinstance(name, str) else name[0])
    try:
        config = _config(_configuration(make, model_type), changes)
        with torch.device("meta"):
            size = sum(p.numel() for p in make(config).parameters())
        if size <= _MOST_PARAMETERS:
            torch.manual_seed(seed)
            module = make(config).eval()
    except Exception as error:  # whatever a configuration class or a constructor raises
        raise ModelError(
            f"transformers did not build a tiny {model_type}", f"{type(error).__name__}: {error}"
        ) from error
    if size > _MOST_PARAMETERS:
        raise ModelError(f"{model_type} cannot be built tiny", f"{size:,} parameters remain")
    move_parameters(module, seed)
    return module


def _configuration(make: Any, model_type: str) -> Any:
    """The configuration class that the model's constructor takes (as AutoModel decides)."""
    cls = CONFIG_MAPPING[model_type]
    own = getattr(make, "config_class", None)
    parts = (getattr(cls, "sub_configs", None) or {}).values()
    return own if own in parts else cls


def _config(cls: Any, changes: dict[str, Any]) -> Any:
    """A small configuration; the parts nested in it are small too."""
    nested, extra = _nested(cls), dict(EXTRA.get(cls.model_type, {}))
    texts = [name for name in nested if "text" in name or "decoder" in name]
    own = {} if texts else dict(changes)
    for name, (part, defaults) in nested.items():
        given = {**defaults, **extra.pop(name, {}), **(changes if name in texts else {})}
        own[name] = _config(part, given).to_dict()
    known = {name for kind in cls.__mro__ for name in getattr(kind, "__annotations__", {})}
    sizes = {name: value for name, value in SIZES.items() if name in known}
    return cls(**{**sizes, **extra, **own})


def _nested(cls: Any) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Classes of the parts of a configuration, with what their owner sets in them beside sizes."""
    found: dict[str, tuple[Any, dict[str, Any]]] = {
        name: (part, {})
        for name, part in (getattr(cls, "sub_configs", None) or {}).items()
        if getattr(part, "model_type", "")
    }
    for name, spec in (getattr(cls, "sub_configs_defaults", None) or {}).items():
        part: Any = getattr(spec, "config_class", None)
        kind: Any = getattr(spec, "model_type", None)
        if not getattr(part, "model_type", ""):
            if kind not in CONFIG_MAPPING:
                continue
            part = CONFIG_MAPPING[kind]
        set_there = getattr(spec, "init_kwargs", None) or {}
        found[name] = (part, {k: v for k, v in set_there.items() if k not in SIZES})
    return found


@torch.no_grad()
def move_parameters(module: nn.Module, seed: int = 0) -> None:
    """Move every parameter away from its initial value: fresh ones hide mistakes.

    Weights become sharp, biases and norms uneven; scalars such as decay rates move a little.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator).to(parameter)
        if parameter.ndim > 1:
            parameter.copy_(noise * 0.18)
        else:
            parameter.add_(0.2 * noise)
    for name, buffer in module.named_buffers():
        if name.endswith("layer_scalar"):  # Gemma 4 keeps a factor of the block as a buffer
            buffer.fill_(0.7)
