"""What other tools call the places of neurons.

TransformerLens: the hook at which the same numbers pass, as in its `HookedTransformer`. The index
within a hook is the neuron's own (q, k, v: heads and their dimensions in one line). Where a norm
stands behind the MLP (Gemma 2), its `hook_mlp_out` lies behind that norm, `down` before it.
"""

from __future__ import annotations

_HOOKS = {
    "hidden": "mlp.hook_post",
    "gate": "mlp.hook_pre",
    "up": "mlp.hook_pre_linear",
    "down": "hook_mlp_out",
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "o": "hook_attn_out",
}


def hook_name(site: str, layer: int, *, gated: bool) -> str:
    """The hook of TransformerLens, such as ``blocks.3.mlp.hook_post``.

    Args:
        site: The site.
        layer: The layer.
        gated: Whether the model's MLPs have a gate; without one `up` is the input of the
            activation, which is `hook_pre` there.
    """
    name = "mlp.hook_pre" if site == "up" and not gated else _HOOKS[site]
    return f"blocks.{layer}.{name}"
