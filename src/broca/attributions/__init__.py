"""Neuron attribution: which neurons make a model give this answer (integrated gradients).

The pipeline, file by file: ``targets`` (what is explained) -> ``branching`` over ``tails`` (the
objective and its gradients at scaled values, in three forms that ``forms`` checks) ->
``integrate`` with ``rules`` and ``memory`` -> ``attribution`` (values with their figures).
``attribute`` puts them together, in the ``precision`` asked for.
"""

from broca.attributions.attribute import (
    attribute_answer_tokens,
    attribute_each,
    attribute_neurons,
    check_attributable,
)
from broca.attributions.attribution import Attribution, Attributions
from broca.attributions.branching import Path
from broca.attributions.forms import FormCheck, check_form
from broca.attributions.rules import Rule, fixed_rule, nested_rules
from broca.attributions.whole_answers import attribute_whole_answers

__all__ = [
    "Attribution",
    "Attributions",
    "FormCheck",
    "Path",
    "Rule",
    "attribute_answer_tokens",
    "attribute_each",
    "attribute_neurons",
    "attribute_whole_answers",
    "check_attributable",
    "check_form",
    "fixed_rule",
    "nested_rules",
]
