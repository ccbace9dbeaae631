"""One number per neuron: expertise of responses, and scores from attributions."""

from broca.scores.average_precision import (
    average_precision,
    average_precision_many,
    average_precision_tensor,
)
from broca.scores.clusters import (
    QueryScoreConfig,
    Ranking,
    coarse_cluster,
    common_neurons,
    inverse_cluster_attribution,
)
from broca.scores.expertise import (
    Labelling,
    NeuronScores,
    draw_negatives,
    score_expertise,
    score_expertise_many,
    shuffle_labels,
)
from broca.scores.queries import (
    QUERY_METHODS,
    QuerySummary,
    select_queries,
    summarise_query,
)
from broca.scores.query_sets import QuerySets

__all__ = [
    "QUERY_METHODS",
    "Labelling",
    "NeuronScores",
    "QueryScoreConfig",
    "QuerySets",
    "QuerySummary",
    "Ranking",
    "average_precision",
    "average_precision_many",
    "average_precision_tensor",
    "coarse_cluster",
    "common_neurons",
    "draw_negatives",
    "inverse_cluster_attribution",
    "score_expertise",
    "score_expertise_many",
    "select_queries",
    "shuffle_labels",
    "summarise_query",
]
