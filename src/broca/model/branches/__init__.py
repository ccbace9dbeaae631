"""Primitive 2 for branches: many altered copies of the last token of a prompt, run cheaply.

Attention is causal, so a changed last token changes nothing before it. Copies of it (*branches*)
need the prefix's keys and values only. A base pass records these; then four ways lead to the
logits of the branches, in falling order of speed and rising order of generality:

1. :func:`run_wavefront`: rows join the residual stream behind the layer that alters them, all of
   a prompt's rows beside each other, no row below its layer.
2. :func:`run_packed`: all branches in one sequence behind the prompt, with a mask per layer.
3. :func:`run_rows`: every branch a batch row of its own on the prefix's cache.
4. :func:`run_whole`: every branch a whole prompt; needs nothing of the family.

All run inside the model's own forward: what a family does outside its blocks stays its own code.
"""

from broca.model.branches.attention import BranchesRefusedError, weights_held
from broca.model.branches.copies import run_rows, run_whole
from broca.model.branches.experts import mixture_output, routing_held
from broca.model.branches.last_tokens import run_last_tokens
from broca.model.branches.packed import run_packed
from broca.model.branches.passes import BasePass, base_pass
from broca.model.branches.wavefront import run_wavefront

__all__ = [
    "BasePass",
    "BranchesRefusedError",
    "base_pass",
    "mixture_output",
    "routing_held",
    "run_last_tokens",
    "run_packed",
    "run_rows",
    "run_wavefront",
    "run_whole",
    "weights_held",
]
