"""What a run depends on beside its settings."""

from __future__ import annotations

import platform
from typing import Any

import torch

from broca.engines.worker import versions_of
from broca.model import LanguageModel

PACKAGES = ("broca", "torch", "transformers", "tokenizers", "numpy", "scipy", "numba", "pyarrow")


def environment_of(model: LanguageModel) -> dict[str, Any]:
    """Versions, model and machine as plain values."""
    return {
        "model": model.name,
        "revision": model.revision or "",
        "fingerprint": model.identity.fingerprint,
        "architecture": model.config.model_type,
        "n_layers": model.n_layers,
        "coverage": model.coverage.to_dict(),
        "widths": model.identity.to_dict()["widths"],
        "parameters": sum(p.numel() for p in model.module.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "device_name": model.device_name,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": versions_of(PACKAGES),
    }
