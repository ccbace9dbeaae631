"""What a name or path is, and the way it is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import transformers

from broca.errors import ModelError
from broca.model.adapters import base_of, is_adapter, put_adapter
from broca.model.loading.checkpoints import load_checkpoint, read_tokenizer
from broca.model.loading.gguf import is_gguf, load_gguf
from broca.model.loading.loaded import Loaded

EMBEDDED = "atlas"


def load_module(
    name_or_path: str, *, dtype: str | torch.dtype, trust_remote_code: bool, **options: Any
) -> Loaded:
    """Model and tokenizer by name on the hub, by path, or the embedded ``"atlas"``.

    A path is a folder written by ``save_pretrained``, the folder of an adapter, which names its
    model, or a ``.gguf`` file.

    Raises:
        ModelError: If there is no such model, it is no causal language model, or its files are
            damaged or incomplete.
    """
    _check_dtype(dtype)
    with _only_errors():
        return _load(name_or_path, dtype, trust_remote_code, options)


def _check_dtype(dtype: str | torch.dtype) -> None:
    """Refuse what weights cannot be held in.

    Raises:
        ModelError: There is no such dtype, or it is none of weights.
    """
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype != "auto" and not (isinstance(found, torch.dtype) and found.is_floating_point):
        raise ModelError(
            f"Weights cannot be held in the dtype {str(dtype)!r}",
            mend="Use auto, float32, bfloat16 or float16.",
        )


@contextmanager
def _only_errors() -> Iterator[None]:
    """Keep transformers from drawing tables of what the error then says in a sentence."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)


def _load(
    name_or_path: str, dtype: str | torch.dtype, trust_remote_code: bool, options: dict[str, Any]
) -> Loaded:
    options = {key: value for key, value in options.items() if value is not None}
    adapter = options.pop("adapter", None)
    path = Path(name_or_path)
    if is_adapter(path):
        options.pop("revision", None)
        if adapter is not None:
            raise ModelError("Two adapters are named and no model", f"{name_or_path}, {adapter}")
        adapter, name_or_path = name_or_path, base_of(path)
        path = Path(name_or_path)
    if path.is_file():
        if not is_gguf(path):
            raise ModelError(
                "A model is a folder or a .gguf file, and no other file",
                name_or_path,
                "Give the folder that the file lies in.",
            )
        options.pop("revision", None)
        loaded = load_gguf(path, dtype=dtype, **options)
    else:
        loaded = load_checkpoint(
            _resolve(name_or_path), dtype=dtype, trust_remote_code=trust_remote_code, **options
        )
    if adapter is None:
        return loaded
    loaded = replace(loaded, module=put_adapter(loaded.module, adapter))
    return _with_its_tokenizer(loaded, Path(adapter), trust_remote_code)


def _with_its_tokenizer(loaded: Loaded, adapter: Path, trust_remote_code: bool) -> Loaded:
    """The tokenizer that was saved with an adapter is the one it was trained with."""
    if not (adapter / "tokenizer_config.json").exists():
        return loaded
    tokenizer = read_tokenizer(str(adapter), trust_remote_code=trust_remote_code)
    note = "Tokenizer and chat template are those of the adapter's folder."
    return replace(loaded, tokenizer=tokenizer, notes=(*loaded.notes, note))


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
