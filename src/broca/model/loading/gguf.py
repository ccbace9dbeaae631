"""A model in one GGUF file: weights, configuration, tokenizer and chat template, all from it.

transformers reads the file. What is done here besides:

1. Weights are unpacked into plain numbers, float32 unless another dtype is asked for, so that they
   can be attributed and edited; the configuration loses the mark of a packed model.
2. Files beside it are not looked at: a folder may hold several models.
3. Vocabularies are skipped where only their length is needed (`broca.model.loading.skimming`).
4. What transformers 5.23 passes over in silence is put right or refused: how numbers are cut
   before merging, and scaled rotary frequencies.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import pre_tokenizers
from torch import nn

from broca.errors import ModelError
from broca.model.loading.loaded import Loaded, first_line
from broca.model.loading.skimming import Seen, skimmed
from broca.model.loading.weights import align, check_complete, load_naming_misfits

MAGIC = b"GGUF"

DIGITS_APART = ("smollm", "starcoder", "refact", "command-r", "exaone", "codeshell", "minerva-7b")
"""Pre-tokenizers of llama.cpp that cut every digit off before GPT-2's rule."""

GPT2_RULE = ("default", "gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion")
"""Those that are GPT-2's rule, which transformers falls back on."""


def is_gguf(path: Path) -> bool:
    """Whether a file is named as a GGUF file or begins as one."""
    if path.suffix == ".gguf":
        return True
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def load_gguf(path: Path, *, dtype: str | torch.dtype, **options: Any) -> Loaded:
    """Model and tokenizer of a GGUF file.

    Args:
        path: The file.
        dtype: What its weights are unpacked into; "auto" is float32.
        **options: Of ``AutoModelForCausalLM.from_pretrained``.

    Raises:
        ModelError: If the package gguf is missing or transformers is too old for it, the file is
            damaged or no GGUF file, or its architecture or rotary scaling is not supported.
    """
    _check_package(path)
    if options.get("quantization_config") is not None:
        raise ModelError(
            "A GGUF file is quantised already",
            str(path),
            "Leave quantization_config out: its weights are unpacked.",
        )
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ModelError("This is no GGUF file", str(path), "It does not begin with 'GGUF'.")
    try:
        return _load(path.resolve(), torch.float32 if dtype == "auto" else dtype, options)
    except ModelError:
        raise
    except Exception as error:  # the readers check little: whatever a damaged file trips
        raise ModelError(
            "The GGUF file cannot be read",
            str(path),
            f"It may be damaged or cut off, or of an architecture that transformers "
            f"{transformers.__version__} does not know: {first_line(error)}",
        ) from error


def _check_package(path: Path) -> None:
    from transformers.utils.import_utils import is_gguf_available

    if not is_gguf_available():
        raise ModelError(
            "Reading GGUF files needs the package gguf",
            str(path),
            'Install it: pip install "broca[gguf]"',
        )
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import (
            GGUF_PRE_TOKENIZER_SPLITS,  # noqa: F401
        )
        from transformers.utils.quantization_config import GgufConfig  # noqa: F401
    except ImportError as error:
        raise ModelError(
            "Reading GGUF files needs a newer transformers",
            str(path),
            f"{transformers.__version__} is installed; 5.23 reads them as is needed here: pip "
            'install --upgrade "broca[gguf]"',
        ) from error


def _load(path: Path, dtype: str | torch.dtype, options: dict[str, Any]) -> Loaded:
    from transformers.utils.quantization_config import GgufConfig

    with tempfile.TemporaryDirectory() as nothing_beside, skimmed() as seen:
        source: dict[str, Any] = {"gguf_file": str(path)}
        config = transformers.AutoConfig.from_pretrained(nothing_beside, **source)
        _check_size(config, seen)
        notes = _scale_rotary(config, seen.settings, seen.rotary_factors, path)
        tokenizer = transformers.AutoTokenizer.from_pretrained(nothing_beside, **source)
        notes += _cut_digits(tokenizer, seen.settings)
        load = partial(
            transformers.AutoModelForCausalLM.from_pretrained,
            nothing_beside,
            config=config,
            dtype=dtype,
            quantization_config=GgufConfig(gguf_file=str(path), dequantize=True),
            output_loading_info=True,
            **source,
            **{key: value for key, value in options.items() if key != "quantization_config"},
        )
        module, info = load_naming_misfits(load, str(path))
    check_complete(info, str(path))
    _become_plain(module)
    align(module)
    for holder in (module, module.config, tokenizer):
        holder.name_or_path = path.stem
    kinds = ", ".join(f"{kind} × {n}" for kind, n in Counter(seen.kinds).most_common())
    shown = str(module.dtype).removeprefix("torch.")
    notes.insert(0, f"{path.name}: weights unpacked to {shown} (stored as {kinds}).")
    return Loaded(module.eval(), tokenizer, tuple(notes))


def _check_size(config: Any, seen: Seen) -> None:
    """Refuse settings that ask for far more weights than there are: damage, told in time."""
    if config.num_hidden_layers > len(seen.kinds):
        raise ValueError(f"it names {config.num_hidden_layers} layers")
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(config)
    n_weights = sum(weight.numel() for weight in empty.parameters())
    if n_weights > 2 * seen.n_values:  # an embedding may stand for two
        raise ValueError(f"it holds {seen.n_values:,} of {n_weights:,} weights")


def unmark(module: nn.Module) -> tuple[str, ...]:
    """Take a module up that transformers has unpacked from a GGUF file: a note on it, or none.

    Its weights are plain numbers; only its configuration still says that they are packed.
    """
    quantised = getattr(getattr(module, "config", None), "quantization_config", None)
    if getattr(quantised, "quant_method", None) != "gguf":
        return ()
    if not all(weight.is_floating_point() for weight in module.parameters()):
        return ()
    _become_plain(module)
    return ("Its weights were unpacked from a GGUF file by transformers.",)


def _become_plain(module: nn.Module) -> None:
    """Take the marks of a packed model off: its weights are plain numbers now."""
    config: Any = module.config
    for holder in {id(each): each for each in (config, config.get_text_config())}.values():
        if hasattr(holder, "quantization_config"):
            del holder.quantization_config
    for mark in ("hf_quantizer", "quantization_method", "is_quantized"):
        module.__dict__.pop(mark, None)


def _cut_digits(tokenizer: Any, settings: dict[str, Any]) -> list[str]:
    """Cut numbers into digits where the file's pre-tokenizer does; name an unknown one."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    rule = settings.get("tokenizer.ggml.pre")
    if settings.get("tokenizer.ggml.model") != "gpt2" or rule is None:
        return []
    if rule in DIGITS_APART:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    elif rule not in GGUF_PRE_TOKENIZER_SPLITS and rule not in GPT2_RULE:
        return [
            f"The file's rule {rule!r} for cutting text before merging is not known; GPT-2's is "
            "taken, and some texts may have other tokens than the model has learnt."
        ]
    return []


def _scale_rotary(
    config: Any, settings: dict[str, Any], factors: torch.Tensor | None, path: Path
) -> list[str]:
    """Write the file's rotary scaling into the configuration; the notes on it."""
    prefix = settings["general.architecture"]
    kind = settings.get(f"{prefix}.rope.scaling.type")
    if factors is not None:
        return _llama3_frequencies(config, factors, path)
    if kind in (None, "none") or prefix == "gpt-oss":  # transformers reads that one's
        return []
    if kind != "linear":
        raise ModelError(
            f"Rotary frequencies scaled by {kind!r} are not read from GGUF files",
            str(path),
            "Positions would be wrong; take the model's safetensors folder.",
        )
    factor = float(settings[f"{prefix}.rope.scaling.factor"])
    whole = config.rope_parameters
    scaled = whole.get("full_attention", whole)  # by kind of layer: windows are not scaled
    scaled |= {"rope_type": "linear", "factor": factor}
    return [f"Rotary frequencies are scaled linearly by {factor:g}, as the file says."]


def _llama3_frequencies(config: Any, factors: torch.Tensor, path: Path) -> list[str]:
    """Llama 3.1 and later store what each frequency is divided by; the settings are its own."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    if torch.equal(factors, torch.ones_like(factors)):
        return []
    plain = dict(config.rope_parameters)
    base = plain["rope_theta"] ** -(torch.arange(0, 2 * len(factors), 2) / (2 * len(factors)))
    config.rope_parameters = {
        **plain,
        "rope_type": "llama3",
        "factor": float(factors.max()),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    found, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    if not torch.allclose(found, base / factors, rtol=1e-3):
        raise ModelError(
            "The file's rotary frequencies are not those of Llama 3",
            str(path),
            "Positions would be wrong; take the model's safetensors folder.",
        )
    return [f"Rotary frequencies are scaled as in Llama 3, by up to {float(factors.max()):g}."]
