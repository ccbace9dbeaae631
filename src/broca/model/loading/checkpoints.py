"""A checkpoint of transformers: a folder or a name on the hub."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from broca.errors import ModelError
from broca.model.loading.loaded import Loaded, first_line


def load_checkpoint(
    path: str, *, dtype: str | torch.dtype, trust_remote_code: bool, **options: Any
) -> Loaded:
    """Model and tokenizer of a folder or a name on the hub.

    Raises:
        ModelError: If there is no such model or it is no causal language model.
    """
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
            path,
            f"Pass a folder written by save_pretrained, a .gguf file, a name on the Hugging Face "
            f"hub, or 'atlas'. transformers said: {first_line(error)}",
        ) from error
    return Loaded(module.eval(), tokenizer)
