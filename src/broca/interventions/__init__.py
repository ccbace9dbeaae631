"""Switch neurons off, scale them or fix them: for a whole batch, or differently per row.

1. Every intervention names neurons, a change, and the positions at which it is made.
2. ``intervene(model, ...)`` sets one hook per (site, layer) touched and removes it whatever
   happens.
3. Positions are counted from the end of each prompt, so that left padding and answer tokens
   after the prompt change nothing.
"""

from broca.interventions.kinds import (
    Deactivate,
    Fix,
    Intervention,
    Positions,
    Scale,
    first_layer,
)
from broca.interventions.making import intervene

__all__ = [
    "Deactivate",
    "Fix",
    "Intervention",
    "Positions",
    "Scale",
    "first_layer",
    "intervene",
]
