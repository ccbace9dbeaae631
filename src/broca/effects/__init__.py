"""The exact effect of neurons: what a prompt's answer loses when one of them is replaced.

The pipeline, file by file: ``aims`` (what is read, and where) and ``replacement`` (what stands in
the neurons' place) -> ``prefilter`` with ``gradients`` (which neurons, where not all) ->
``rows`` over ``reading`` (replaced neurons as branches, in four forms that ``check`` measures) ->
``effect`` and ``files`` (values with what may have been missed). ``ablate`` puts them together for
single neurons, ``sets`` for growing sets.
"""

from broca.effects.ablate import ablate_each, ablate_one, ablate_one_by_one
from broca.effects.effect import Effect, Effects, Missed
from broca.effects.sets import SetEffects, ablate_sets

__all__ = [
    "Effect",
    "Effects",
    "Missed",
    "SetEffects",
    "ablate_each",
    "ablate_one",
    "ablate_one_by_one",
    "ablate_sets",
]
