"""What a name or path is, and the way it is loaded."""

from __future__ import annotations

import logging
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from broca.errors import ModelError
from broca.model.loading.checkpoints import load_checkpoint
from broca.model.loading.gguf import is_gguf, load_gguf
from broca.model.loading.loaded import Loaded

EMBEDDED = "atlas"

_log = logging.getLogger("broca.model")


def load_module(
    name_or_path: str, *, dtype: str | torch.dtype, trust_remote_code: bool, **options: Any
) -> Loaded:
    """Model and tokenizer by name on the hub, by path, or the embedded ``"atlas"``.

    A path is a folder written by ``save_pretrained`` or a ``.gguf`` file. What was done to the
    weights on the way is logged as well as returned.

    Raises:
        ModelError: If there is no such model, it is no causal language model, or its files are
            damaged or incomplete.
    """
    options = {key: value for key, value in options.items() if value is not None}
    path = Path(name_or_path)
    if path.is_file():
        if not is_gguf(path):
            raise ModelError("A model is a folder or a .gguf file, and no other file", name_or_path)
        options.pop("revision", None)
        loaded = load_gguf(path, dtype=dtype, **options)
    else:
        loaded = load_checkpoint(
            _resolve(name_or_path), dtype=dtype, trust_remote_code=trust_remote_code, **options
        )
    for note in loaded.notes:
        _log.warning(note)
    return loaded


def _resolve(name_or_path: str) -> str:
    if name_or_path == EMBEDDED:
        return str(resources.files("broca") / "atlas")
    path = Path(name_or_path)
    if path.is_dir() and not (path / "config.json").exists():
        raise ModelError(
            "The folder holds no model", name_or_path, "It needs a config.json (save_pretrained)."
        )
    if path.suffix == ".gguf":
        raise ModelError("There is no such file", name_or_path)
    return name_or_path
