"""Tiny random models of many families, from config objects, and a tiny byte-level tokenizer.

Fresh configs hide mistakes: their biases are zero and their norm weights are one. Here every
bias is non-zero and every norm weight is away from its initial value.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from broca.model import LanguageModel

WINDOW = 6  # shorter than the prompts of the tests

_LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
_TWO_KINDS = ["sliding_attention", "full_attention"] * 2

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {**_LLAMA, "attention_bias": True, "mlp_bias": True}),
    "mistral": ("Mistral", {**_LLAMA, "sliding_window": WINDOW}),
    "qwen2": ("Qwen2", _LLAMA),
    "qwen3": ("Qwen3", {**_LLAMA, "head_dim": 8, "attention_bias": True}),
    "gemma2": (
        "Gemma2",
        {
            **_LLAMA,
            "head_dim": 8,
            "sliding_window": WINDOW,
            "layer_types": _TWO_KINDS,
            "query_pre_attn_scalar": 8,
            "attn_implementation": "eager",  # soft-capped logits need it
        },
    ),
    "gpt2": ("GPT2", {"n_embd": 32, "n_inner": 48, "n_layer": 4, "n_head": 4, "n_positions": 256}),
    "gpt_neox": (
        "GPTNeoX",
        {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
            "use_parallel_residual": True,
        },
    ),
    "gpt_neox_serial": (
        "GPTNeoX",
        {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
            "use_parallel_residual": False,
        },
    ),
    "phi3": ("Phi3", {**_LLAMA, "pad_token_id": 0}),
    "olmo2": ("Olmo2", _LLAMA),
    "opt": (
        "OPT",
        {
            "hidden_size": 32,
            "ffn_dim": 48,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
            "word_embed_proj_dim": 32,
        },
    ),
    "bloom": (
        "Bloom",
        {"hidden_size": 32, "n_layer": 4, "n_head": 4, "attn_implementation": "eager"},
    ),
}

TEXTS = (
    "the quick brown fox jumps over the lazy dog",
    "the capital of France is the city of",
    "a cat",
    "one two three four five six seven eight nine ten eleven twelve",
)


@lru_cache(maxsize=1)
def tiny_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Byte-level BPE over a few sentences, with a BOS token in front of every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<pad>", "<bos>", "<eos>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    letters = [f" {letter}" for letter in "ABCDEFGH"]
    tokenizer.train_from_iterator([*TEXTS, "Answer: A B C D", *letters * 9], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )


def disturb(module: torch.nn.Module, seed: int = 0, scale: float = 3.0) -> None:
    """Move every parameter away from its initial value: sharp logits, biases, uneven norms."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise * scale * 0.06)
            elif "norm" in name or "ln_" in name:
                offset = 0.3 * noise
                parameter.copy_(offset if name.endswith("bias") else parameter + offset)
            else:
                parameter.copy_(0.2 * noise)


def tiny_module(family: str, seed: int = 0, **changes: Any) -> transformers.PreTrainedModel:
    """A random transformers model of a family, float32, in evaluation mode."""
    prefix, options = FAMILIES[family]
    options = {"vocab_size": 320, "bos_token_id": 1, "eos_token_id": 2, **options, **changes}
    attention = options.pop("attn_implementation", "sdpa")
    config = getattr(transformers, f"{prefix}Config")(**options)
    config._attn_implementation = attention
    torch.manual_seed(seed)
    name = {"GPT2": "GPT2LMHeadModel"}.get(prefix, f"{prefix}ForCausalLM")
    module = getattr(transformers, name)(config)
    disturb(module, seed)
    return module.eval()


def tiny_model(family: str = "llama", seed: int = 0, **changes: Any) -> LanguageModel:
    """The same, as a :class:`~broca.model.LanguageModel`."""
    return LanguageModel(tiny_module(family, seed, **changes), tiny_tokenizer(), name=family)
