"""Where decoder families keep their sites: tables only, no logic.

A model is recognised by structure: the first entry of each table that every decoder block has.
A family that no entry fits is described by the user with a :class:`Layout`.
"""

from __future__ import annotations

from dataclasses import dataclass

LAYER_PATHS = (
    "model.layers",
    "transformer.h",
    "gpt_neox.layers",
    "model.decoder.layers",
    "model.language_model.layers",
    "language_model.model.layers",
    "transformer.blocks",
    "transformer.layers",
    "backbone.layers",
)


@dataclass(frozen=True)
class Part:
    """A site's place in a block: the output of the module at ``path``, or a part of it.

    Attributes:
        path: Dotted path from the decoder block.
        cut: ``all``; ``half-0``, ``half-1`` (fused gate and up); ``third-0`` to ``third-2``
            (fused q, k, v side by side); ``heads-0`` to ``heads-2`` (q, k, v interleaved head by
            head); ``group-0`` to ``group-2`` (q, then fewer key and value heads).
    """

    path: str
    cut: str = "all"


@dataclass(frozen=True)
class Layout:
    """Where one decoder block keeps its sites; paths are dotted, from the block.

    Attributes:
        down: The module whose input is ``hidden`` and whose output is ``down``.
        up: The up projection (plain MLP: its only input projection).
        gate: The gate projection, or None for a plain MLP.
        q, k, v: The attention projections, or None where they cannot be told apart.
        o: The attention's output projection.
        activation: The module or function between the projections.
        layers: Dotted path of the list of blocks, from the model.
    """

    down: str
    up: Part
    gate: Part | None = None
    q: Part | None = None
    k: Part | None = None
    v: Part | None = None
    o: Part | None = None
    activation: str | None = None
    layers: str | None = None


# Fields of a Layout: (down, up, gate), the paths relative to the block.
MLP_FORMS: tuple[tuple[str, Part, Part | None], ...] = (
    ("mlp.down_proj", Part("mlp.up_proj"), Part("mlp.gate_proj")),
    ("mlp.down_proj", Part("mlp.gate_up_proj", "half-1"), Part("mlp.gate_up_proj", "half-0")),
    ("feed_forward.down_proj", Part("feed_forward.up_proj"), Part("feed_forward.gate_proj")),
    ("feed_forward.w2", Part("feed_forward.w3"), Part("feed_forward.w1")),
    ("mlp.w2", Part("mlp.w3"), Part("mlp.w1")),
    ("mlp.c_proj", Part("mlp.c_fc_1"), Part("mlp.c_fc_0")),
    ("mlp.c_proj", Part("mlp.c_fc"), None),
    ("mlp.dense_4h_to_h", Part("mlp.dense_h_to_4h"), None),
    ("mlp.fc_out", Part("mlp.fc_in"), None),
    ("mlp.fc2", Part("mlp.fc1"), None),
    ("mlp.down_proj", Part("mlp.up_proj"), None),
    ("ffn.down_proj", Part("ffn.up_proj"), None),
    ("fc2", Part("fc1"), None),
)

ATTENTION_PATHS = (
    "self_attn",
    "attn.attention",
    "attn",
    "attention",
    "self_attention",
)

# Projections by name inside the attention module: q, k, v, then the candidates for o.
ATTENTION_FORMS: tuple[tuple[Part, Part, Part], ...] = (
    (Part("q_proj"), Part("k_proj"), Part("v_proj")),
    (Part("qkv_proj", "group-0"), Part("qkv_proj", "group-1"), Part("qkv_proj", "group-2")),
    (Part("c_attn", "third-0"), Part("c_attn", "third-1"), Part("c_attn", "third-2")),
)
# query_key_value is interleaved by head here; Falcon and others store it differently.
INTERLEAVED_QKV = frozenset({"gpt_neox", "bloom"})
INTERLEAVED_FORM = (
    Part("query_key_value", "heads-0"),
    Part("query_key_value", "heads-1"),
    Part("query_key_value", "heads-2"),
)
ATTENTION_OUTPUTS = ("o_proj", "out_proj", "c_proj", "dense", "wo")

ACTIVATIONS = (
    "mlp.act_fn",
    "mlp.activation_fn",
    "mlp.act",
    "mlp.activation",
    "mlp.gelu_impl",
    "feed_forward.act_fn",
    "ffn.act",
    "activation_fn",
)

# Norms that a block applies to the MLP's output before adding it to the residual stream.
POST_MLP_NORMS = (
    "post_feedforward_layernorm",
    "post_mlp_layernorm",
    "post_ffn_norm",
)

# Config entries by which a block multiplies the MLP's output.
MULTIPLIERS = ("residual_multiplier",)

# Submodules that tell a mixture-of-experts block.
EXPERT_NAMES = ("experts", "block_sparse_moe", "router")
