"""One number per neuron: expertise of responses, and scores from attributions."""

from broca.scores.average_precision import (
    average_precision,
    average_precision_many,
    average_precision_tensor,
)
from broca.scores.expertise import (
    Labelling,
    NeuronScores,
    draw_negatives,
    score_expertise,
    score_expertise_many,
    shuffle_labels,
)

__all__ = [
    "Labelling",
    "NeuronScores",
    "average_precision",
    "average_precision_many",
    "average_precision_tensor",
    "draw_negatives",
    "score_expertise",
    "score_expertise_many",
    "shuffle_labels",
]
