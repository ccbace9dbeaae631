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
    BlockScores,
    Labelling,
    check_labels,
    draw_negatives,
    gather_scores,
    hash_labels,
    score_blocks,
    score_expertise,
    score_expertise_many,
    shuffle_labels,
)
from broca.scores.neuron_scores import NeuronScores
from broca.scores.queries import (
    QUERY_METHODS,
    QuerySummary,
    select_queries,
    summarise_query,
)
from broca.scores.query_sets import QuerySets

__all__ = [
    "QUERY_METHODS",
    "BlockScores",
    "Labelling",
    "NeuronScores",
    "QueryScoreConfig",
    "QuerySets",
    "QuerySummary",
    "Ranking",
    "average_precision",
    "average_precision_many",
    "average_precision_tensor",
    "check_labels",
    "coarse_cluster",
    "common_neurons",
    "draw_negatives",
    "gather_scores",
    "hash_labels",
    "inverse_cluster_attribution",
    "score_blocks",
    "score_expertise",
    "score_expertise_many",
    "select_queries",
    "shuffle_labels",
    "summarise_query",
]
