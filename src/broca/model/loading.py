"""Load a causal language model and its tokenizer, and tell it from others."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from broca.errors import ModelError

EMBEDDED = "atlas"


def load_module(
    name_or_path: str, *, dtype: str | torch.dtype, trust_remote_code: bool, **options: Any
) -> tuple[nn.Module, Any]:
    """Model and tokenizer by name on the hub, by path, or the embedded ``"atlas"``.

    Raises:
        ModelError: If there is no such model or it is no causal language model.
    """
    path = _resolve(name_or_path)
    options = {key: value for key, value in options.items() if value is not None}
    revision = {"revision": options["revision"]} if "revision" in options else {}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            path, trust_remote_code=trust_remote_code, **revision
        )
        module = transformers.AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, trust_remote_code=trust_remote_code, **options
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(
            "Cannot load a causal language model",
            name_or_path,
            f"Pass a folder written by save_pretrained, a name on the Hugging Face hub, or "
            f"'atlas'. transformers said: {_first_line(error)}",
        ) from error
    return module.eval(), tokenizer


def _resolve(name_or_path: str) -> str:
    if name_or_path == EMBEDDED:
        return str(resources.files("broca") / "atlas")
    path = Path(name_or_path)
    if path.is_dir() and not (path / "config.json").exists():
        raise ModelError(
            "The folder holds no model", name_or_path, "It needs a config.json (save_pretrained)."
        )
    if path.is_file():
        raise ModelError("A model is a folder, not a file", name_or_path)
    return name_or_path


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@torch.no_grad()
def fingerprint(module: nn.Module) -> str:
    """Hash of all weights: equal for equal bytes, whatever the order of summation.

    The bits of every parameter are summed as integers (exact and independent of threads and
    devices) and some are hashed as they are.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(module.named_parameters()):
        flat = parameter.detach().reshape(-1)
        kind = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()]
        bits = flat.contiguous().view(kind)
        total = int(bits.sum(dtype=torch.int64))
        sample = bits[:: max(1, len(bits) // 64)].to(torch.int64).cpu().tolist()
        digest.update(f"{name}{tuple(parameter.shape)}{total}{sample}".encode())
    return digest.hexdigest()[:16]
