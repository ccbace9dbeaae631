"""The function of LlamaForCausalLM, written out for speed on a CPU; `to_llama` exports the weights.

Projections that share an input are one matrix, products run in bf16 while weights and the
residual stream stay in float32, attention is written out (its fused backward is slow in bf16 on
CPUs), and logits are computed only at positions with a label.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from atlas.tokenizer import BOS, EOS, PAD

EPSILON = 1e-6
ROPE_THETA = 10_000.0


@dataclass(frozen=True)
class NetSettings:
    vocabulary: int
    width: int = 192
    feed_forward: int = 512
    layers: int = 6
    heads: int = 6
    longest_prompt: int = 256  # in training; the exported model takes max_positions
    max_positions: int = 2048


def normalise(x: Tensor) -> Tensor:
    """RMS norm without its weight, which is folded into the matrix that follows."""
    width = x.shape[-1]
    scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() / width + EPSILON
    return x * torch.rsqrt(scale)


def rotate(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """Rotary positions; the sign of the swapped half is in the sine."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), signed_sin)


class Layer(nn.Module):
    def __init__(self, s: NetSettings) -> None:
        super().__init__()
        inner, outer = 0.02, 0.02 / math.sqrt(2 * s.layers)
        self.heads = s.heads
        self.qkv = nn.Parameter(torch.randn(3 * s.width, s.width) * inner)
        self.out = nn.Parameter(torch.randn(s.width, s.width) * outer)
        self.gate_up = nn.Parameter(torch.randn(2 * s.feed_forward, s.width) * inner)
        self.down = nn.Parameter(torch.randn(s.width, s.feed_forward) * outer)
        self.attention_norm = nn.Parameter(torch.ones(s.width))
        self.mlp_norm = nn.Parameter(torch.ones(s.width))

    def forward(self, h: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        rows, length, width = h.shape
        dtype, size = cos.dtype, width // self.heads
        x = normalise(h).to(dtype)
        qkv = F.linear(x, (self.qkv * self.attention_norm).to(dtype))
        qkv = qkv.view(rows, length, 3, self.heads, size).permute(2, 0, 3, 1, 4)
        q, k = rotate(qkv[:2], cos, sin)
        scores, v = q @ k.transpose(-1, -2), qkv[2]
        weights = torch.softmax(scores.float() * size**-0.5 + mask, -1).to(dtype)
        mixed = (weights @ v).transpose(1, 2).reshape(rows, length, width)
        h = h + F.linear(mixed, self.out.to(dtype))
        x = normalise(h).to(dtype)
        gate, up = F.linear(x, (self.gate_up * self.mlp_norm).to(dtype)).chunk(2, -1)
        return h + F.linear(F.silu(gate) * up, self.down.to(dtype))


class Net(nn.Module):
    cos: Tensor
    sin: Tensor
    mask: Tensor

    def __init__(self, settings: NetSettings) -> None:
        super().__init__()
        s = self.settings = settings
        self.embedding = nn.Parameter(torch.randn(s.vocabulary, s.width) * 0.02)
        self.layers = nn.ModuleList(Layer(s) for _ in range(s.layers))
        self.final_norm = nn.Parameter(torch.ones(s.width))
        size = s.width // s.heads
        frequencies = 1 / ROPE_THETA ** (torch.arange(0, size, 2).float() / size)
        angles = torch.outer(torch.arange(s.longest_prompt).float(), frequencies).repeat(1, 2)
        future = torch.full((s.longest_prompt, s.longest_prompt), -1e9).triu(1)
        self.register_buffer("cos", angles.cos(), persistent=False)
        sign = torch.tensor([-1.0, 1.0]).repeat_interleave(size // 2)
        self.register_buffer("sin", angles.sin() * sign, persistent=False)
        self.register_buffer("mask", future, persistent=False)

    def forward(
        self, tokens: Tensor, positions: Tensor, dtype: torch.dtype = torch.bfloat16
    ) -> Tensor:
        """Logits at flat positions. Padding is on the right, where causal attention never looks."""
        length = tokens.shape[1]
        cos, sin = self.cos[:length].to(dtype), self.sin[:length].to(dtype)
        h = F.embedding(tokens, self.embedding)
        for layer in self.layers:
            h = layer(h, cos, sin, self.mask[:length, :length])
        h = normalise(h.flatten(0, 1)[positions]) * self.final_norm
        return F.linear(h.to(dtype), self.embedding.to(dtype)).float()

    def to_llama(self) -> LlamaForCausalLM:
        s = self.settings
        config = LlamaConfig(
            vocab_size=s.vocabulary,
            hidden_size=s.width,
            intermediate_size=s.feed_forward,
            num_hidden_layers=s.layers,
            num_attention_heads=s.heads,
            num_key_value_heads=s.heads,
            max_position_embeddings=s.max_positions,
            tie_word_embeddings=True,
            rms_norm_eps=EPSILON,
            rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
            pad_token_id=PAD,
            bos_token_id=BOS,
            eos_token_id=EOS,
        )
        state = {"model.embed_tokens.weight": self.embedding, "model.norm.weight": self.final_norm}
        state["lm_head.weight"] = self.embedding
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            query, key, value = layer.qkv.chunk(3, 0)
            gate, up = layer.gate_up.chunk(2, 0)
            parts = {
                "self_attn.q_proj": query,
                "self_attn.k_proj": key,
                "self_attn.v_proj": value,
                "self_attn.o_proj": layer.out,
                "mlp.gate_proj": gate,
                "mlp.up_proj": up,
                "mlp.down_proj": layer.down,
                "input_layernorm": layer.attention_norm,
                "post_attention_layernorm": layer.mlp_norm,
            }
            state |= {f"model.layers.{number}.{name}.weight": w for name, w in parts.items()}
        model = LlamaForCausalLM(config)
        model.load_state_dict({name: w.detach().cpu().clone() for name, w in state.items()})
        return model.float().eval()
