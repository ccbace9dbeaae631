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
    "model.text_model.layers",
    "language_model.model.layers",
    "text_model.layers",
    "transformer.blocks",
    "transformer.layers",
    "backbone.layers",
)

# Parts of a name that tell layers of something else than the text decoder.
NO_DECODER = ("vision", "visual", "image", "audio", "encoder", "mtp", "depth_decoder", "tower")

# Model types that read both ways: none of them continues a text.
ENCODERS = frozenset(
    {
        "albert",
        "bert",
        "bert-generation",
        "big_bird",
        "camembert",
        "data2vec-text",
        "electra",
        "ernie",
        "megatron-bert",
        "mobilebert",
        "mpnet",
        "rembert",
        "roberta",
        "roberta-prelayernorm",
        "roc_bert",
        "roformer",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    }
)


@dataclass(frozen=True)
class Part:
    """A site's place in a block: the output of the module at ``path``, or a part of it.

    Attributes:
        path: Dotted path from the decoder block.
        cut: ``all``; ``half-0``, ``half-1`` (fused gate and up). Of fused q, k, v: ``group-0`` to
            ``group-2`` (all of q, then the key heads, then the value heads); ``heads-…`` (head by
            head); ``shared-…`` (per key head its queries, its key, its value); ``single-…`` (all
            of q, then one key and one value head); ``fours-…`` (in four blocks).
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


# Names inside the module that holds an MLP: (down, up, gate).
MLP_FORMS: tuple[tuple[str, Part, Part | None], ...] = (
    ("down_proj", Part("up_proj"), Part("gate_proj")),
    ("down_proj", Part("gate_up_proj", "half-1"), Part("gate_up_proj", "half-0")),
    ("output_linear", Part("input_linear", "half-1"), Part("input_linear", "half-0")),
    ("w2", Part("w3"), Part("w1")),
    ("c_proj", Part("w1"), Part("w2")),
    ("c_proj", Part("c_fc_1"), Part("c_fc_0")),
    ("c_proj", Part("c_fc"), None),
    ("dense_4h_to_h", Part("dense_h_to_4h"), None),
    ("fc_out", Part("fc_in"), None),
    ("fc2", Part("fc1"), None),
    ("w_out", Part("w_in.w_1"), Part("w_in.w_0")),
    ("wo", Part("wi_1"), Part("wi_0")),
    ("wo", Part("wi"), None),
    ("down_proj", Part("up_proj"), None),
)

# Where such a module is inside a block, in the order of preference; "" is the block itself.
MLP_PATHS = (
    "mlp",
    "feed_forward",
    "mlp.shared_expert",
    "mlp.shared_experts",
    "mlp.shared_mlp",
    "feed_forward.shared_expert",
    "feed_forward.shared_experts",
    "block_sparse_moe.shared_experts",
    "mixer.shared_experts",
    "shared_mlp",
    "shared_experts",
    "ffn",
    "mixer",
    "mlp_block",
    "ffn.ffn",
    "",
)

ATTENTION_PATHS = (
    "self_attn",
    "attn.attention",
    "attn",
    "attention",
    "self_attention",
    "mixer",
    "temporal_block",
    "ffn.self_attention",
)

# Projections by name inside the attention module: q, k, v. Which of the fused forms holds is told
# by arithmetic when a model is loaded; where none does, q, k and v are not offered.
SEPARATE_QKV: tuple[tuple[Part, Part, Part], ...] = (
    (Part("q_proj"), Part("k_proj"), Part("v_proj")),
    (Part("project_q"), Part("project_k"), Part("project_v")),
)
FUSED_QKV = ("qkv_proj", "query_key_value", "c_attn", "Wqkv", "att_proj", "qkv")
# Cuts of a fused projection: q, k, v.
QKV_CUTS: tuple[tuple[str, str, str], ...] = (
    ("group-0", "group-1", "group-2"),
    ("heads-0", "heads-1", "heads-2"),
    ("shared-0", "shared-1", "shared-2"),
    ("single-0", "single-1", "single-2"),
    ("fours-0", "fours-2", "fours-1"),
)
ATTENTION_OUTPUTS = ("o_proj", "out_proj", "c_proj", "dense", "wo", "project_o")

# Names of the activation inside the module that holds the MLP.
ACTIVATIONS = ("act_fn", "activation_fn", "act", "activation", "gelu_impl")
# Entries of the configuration that name it, for blocks that write it inline.
ACTIVATION_NAMES = (
    "hidden_act",
    "hidden_activation",
    "activation_function",
    "mlp_hidden_act",
    "activation",
)
# A factor on the gate before its activation, kept by the module that holds the MLP.
GATE_FACTORS = ("gate_multiplier",)

# Submodules that tell a mixture of experts.
EXPERT_NAMES = ("experts", "block_sparse_moe", "moe", "router")
