"""A checkpoint of transformers: a folder or a name on the hub."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from broca.errors import ModelError
from broca.model.loading.loaded import Loaded, first_line
from broca.model.loading.weights import align, check_complete, load_naming_misfits


def load_checkpoint(
    path: str, *, dtype: str | torch.dtype, trust_remote_code: bool, **options: Any
) -> Loaded:
    """Model and tokenizer of a folder or a name on the hub.

    Weights are safetensors, whole or in shards, or a ``.bin`` read with weights only: nothing is
    ever unpickled.

    Raises:
        ModelError: If there is no such model, it is no causal language model, a file is damaged,
            or weights are missing or left over.
    """
    if options.pop("weights_only", True) is not True:
        raise ModelError("Weights are never unpickled", path, "Leave weights_only out.")
    revision = {"revision": options["revision"]} if "revision" in options else {}
    load = partial(
        transformers.AutoModelForCausalLM.from_pretrained,
        path,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        output_loading_info=True,
        **options,
    )
    try:
        _check_tokenizer(Path(path))
        _check_generation(Path(path))
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            path, trust_remote_code=trust_remote_code, **revision
        )
        module, info = load_naming_misfits(load, path)
    except ModelError:
        raise
    except Exception as error:  # every reader of a file format raises errors of its own
        raise ModelError(
            "Cannot load a causal language model",
            path,
            f"Pass a folder written by save_pretrained, a .gguf file, a name on the Hugging Face "
            f"hub, or 'atlas'. {_cause(error)}",
        ) from error
    check_complete(info, path)
    align(module)
    return Loaded(module.eval(), tokenizer)


def read_tokenizer(folder: str, *, trust_remote_code: bool) -> Any:
    """The tokenizer of a folder that holds no model.

    Raises:
        ModelError: It cannot be read.
    """
    try:
        return transformers.AutoTokenizer.from_pretrained(
            folder, trust_remote_code=trust_remote_code
        )
    except Exception as error:  # every reader of a file format raises errors of its own
        raise ModelError(
            "The tokenizer cannot be read",
            folder,
            f"Take its files out of the folder to use that of the model. {_cause(error)}",
        ) from error


def _check_tokenizer(folder: Path) -> None:
    """Refuse a folder of weights alone: what transformers says of it names no cause.

    Raises:
        ModelError: There is no file that a tokenizer could be read from.
    """
    names = ("tokenizer*", "vocab*", "*.model", "merges.txt", "tekken.json", "spiece*")
    if folder.is_dir() and not any(file for name in names for file in folder.glob(name)):
        raise ModelError(
            "The folder holds no tokenizer",
            str(folder),
            "Save it there as well: tokenizer.save_pretrained(folder).",
        )


def _check_generation(folder: Path) -> None:
    """Refuse a damaged generation_config.json, which transformers passes over in silence.

    The tokens that end an answer stand in it.

    Raises:
        ModelError: It cannot be read.
    """
    file = folder / "generation_config.json"
    try:
        readable = not file.exists() or isinstance(json.loads(file.read_text("utf-8")), dict)
    except (ValueError, RecursionError):
        readable = False
    if not readable:
        raise ModelError(
            "The file is damaged", str(file), "Fetch it again, or take it out of the folder."
        )


def _cause(error: Exception) -> str:
    """What went wrong, by the kind of the error."""
    kind = type(error).__name__
    if kind == "SafetensorError":
        return f"A safetensors file is damaged or cut off: {first_line(error)}"
    if kind == "UnpicklingError":
        return "A .bin file holds more than weights, and that is never run."
    return f"transformers said: {first_line(error)}"
