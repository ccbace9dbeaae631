"""Tiny GGUF files, written as llama.cpp's converter writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from tiny import tiny_module, tiny_tokenizer

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def plain_llama(**changes: Any):
    """A tiny Llama of the kind that a GGUF file can hold: no biases, rows of whole blocks."""
    return tiny_module(
        "llama", attention_bias=False, mlp_bias=False, intermediate_size=64, **changes
    )


def gguf_name(name: str) -> str:
    """What llama.cpp calls a weight of a Llama."""
    if name in OUTSIDE:
        return OUTSIDE[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


def rotary_order(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of q and k as llama.cpp wants them: the two halves of a head interleaved."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1)
    return halves.swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path: Path, module: Any, *, blocks: str = "F32", **settings: Any) -> Path:
    """A Llama with the tiny tokenizer as a GGUF file.

    Args:
        path: Where to.
        module: A module of :func:`plain_llama`.
        blocks: How the matrices of the layers are stored, e.g. "Q8_0".
        **settings: Further or other strings and tensors: `pre`, `rope_freqs`, `leave_out`.
    """
    config = module.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    if "scaling" in settings:
        writer.add_string("llama.rope.scaling.type", settings["scaling"])
        writer.add_float32("llama.rope.scaling.factor", 4.0)
    _add_tokenizer(writer, settings.get("pre", "gpt-2"))
    if "rope_freqs" in settings:
        writer.add_tensor("rope_freqs.weight", np.asarray(settings["rope_freqs"], np.float32))
    kind = gguf.GGMLQuantizationType[blocks]
    for name, weight in module.state_dict().items():
        if name == settings.get("leave_out"):
            continue
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        for part, n in heads.items():
            if f"{part}.weight" in name:
                weight = rotary_order(weight, n)
        numbers = weight.float().numpy()
        if numbers.ndim == 2 and "layers" in name and blocks != "F32":
            writer.add_tensor(gguf_name(name), gguf.quantize(numbers, kind), raw_dtype=kind)
        else:
            writer.add_tensor(gguf_name(name), numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter, pre: str) -> None:
    tokenizer = tiny_tokenizer()
    inner = tokenizer.backend_tokenizer
    tokens = [inner.id_to_token(i) for i in range(len(tokenizer))]
    merges = json.loads(inner.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if i < 3 else 1 for i in range(len(tokens))])
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)
