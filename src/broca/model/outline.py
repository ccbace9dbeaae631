"""A model without its weights, for a process that plans what others compute.

What is measured with the weights (fingerprint, how the model may be driven, what its neurons
cover) is measured before they are left out. Structure, tokenizer and configuration are the
model's own; parameters keep name, shape and dtype, and take no memory.
"""

from __future__ import annotations

import copy
from typing import Any, NoReturn

import torch
from torch import nn

from broca.errors import ModelError
from broca.model.language_model import LanguageModel

_MEASURED = ("identity", "drive", "coverage", "is_embedded", "special_tokens", "end_tokens")


class Outline(LanguageModel):
    """See the module; made by `outline_of`. Nothing can be computed with it.

    Attributes:
        loaded_on: Device of the model that it is an outline of.
        loaded_on_name: What its maker calls the devices that hold its weights.
    """

    loaded_on: torch.device
    loaded_on_name: str

    @property
    def device(self) -> torch.device:
        """Device of the model that it is an outline of."""
        return self.loaded_on

    @property
    def device_name(self) -> str:
        """Names of the devices that hold the weights of that model."""
        return self.loaded_on_name

    def run(self, *_: Any, **__: Any) -> NoReturn:
        """Refused.

        Raises:
            ModelError: Always.
        """
        raise ModelError(
            "The weights are not in this process", self.name, "Workers have them: compute there."
        )

    forward = run


def outline_of(model: LanguageModel) -> Outline:
    """A copy of a model without weights.

    Raises:
        ModelError: The model holds weights of a kind that cannot be left out.
    """
    for name in _MEASURED:
        getattr(model, name)
    module: nn.Module = model.module
    memo: dict[int, Any] = {}
    try:
        for parameter in module.parameters():
            memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
        for buffer in module.buffers():
            memo[id(buffer)] = buffer.detach().to("meta")
        for part in module.modules():  # of accelerate, which may hold weights that are offloaded
            hook = getattr(part, "_hf_hook", None)
            if hook is not None:
                memo[id(hook)] = _NoHook()
        found = copy.deepcopy(model, memo)
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise ModelError("The model has no outline", model.name, str(error)) from error
    outline = Outline.__new__(Outline)
    outline.__dict__.update(found.__dict__)
    outline.loaded_on, outline.loaded_on_name = model.device, model.device_name
    return outline


class _NoHook:
    """Stands for a hook that moves weights about."""
