"""Tiny models under adapters that do something."""

from __future__ import annotations

from typing import Any

import peft
import torch

from tiny import tiny_module

ATTENTION, MLP = ["q_proj", "v_proj"], ["gate_proj", "down_proj"]


def in_dtype(module: Any, dtype: torch.dtype) -> Any:
    """Weights in a dtype, as `from_pretrained` has them: rotary frequencies stay float32."""
    for weight in module.parameters():
        weight.data = weight.data.to(dtype)
    return module


def lora(targets: list[str], family: str = "llama", dtype=torch.float32, **changes: Any):
    """A tiny model under a LoRA that does something."""
    module = in_dtype(tiny_module(family, **changes), dtype)
    config = peft.LoraConfig(
        r=2,
        lora_alpha=8,
        target_modules=targets,
        task_type="CAUSAL_LM",
        fan_in_fan_out=family == "gpt2",  # whose weights are transposed
    )
    adapted = peft.get_peft_model(module, config)
    generator = torch.Generator().manual_seed(5)
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            weight.data = 0.3 * torch.randn(weight.shape, generator=generator).to(weight.dtype)
    return adapted.eval()
