"""broca finds, measures and edits the neurons of language models in which knowledge sits.

The public names are loaded on first use, so that ``import broca`` loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from broca.answers import Alike, AnswersAlikeWarning, find_alike, find_targets, measure_border
    from broca.attributions import Attributions, attribute_answer_tokens, attribute_neurons
    from broca.edits import (
        FactEditConfig,
        FactReplacement,
        ValueVectors,
        edited,
        replace_fact,
        save_edited,
    )
    from broca.effects import Effects, SetEffects, ablate_each, ablate_sets
    from broca.errors import BrocaError
    from broca.estimates import Estimate
    from broca.facts import Fact, Relation, Relations, load_relations
    from broca.interventions import Deactivate, Fix, Scale, intervene
    from broca.locators import Located, locate
    from broca.measurements import AnswerRow, answer_prompts
    from broca.model import LanguageModel, Layout, Part, TokenBatch
    from broca.neurons import ModelIdentity, Neuron, NeuronIndex, NeuronSet, uniform_random
    from broca.prediction import NeuronPredictor, record_options
    from broca.prompts import (
        ChoicePrompt,
        Prompt,
        render_fact_prompts,
        render_question_prompts,
        render_word_prompts,
    )
    from broca.questions import Question, build_questions, load_questions
    from broca.readout import find_firings, read_values
    from broca.responses import Responses, record_responses
    from broca.scores import (
        NeuronScores,
        QueryScoreConfig,
        QuerySets,
        average_precision,
        draw_negatives,
        score_expertise,
        score_expertise_many,
        select_queries,
        summarise_query,
    )
    from broca.tabular import table_of

__version__ = "0.2.0"

_HOMES = {
    "answers": ("Alike", "AnswersAlikeWarning", "find_alike", "find_targets", "measure_border"),
    "attributions": ("Attributions", "attribute_answer_tokens", "attribute_neurons"),
    "edits": (
        "FactEditConfig",
        "FactReplacement",
        "ValueVectors",
        "edited",
        "replace_fact",
        "save_edited",
    ),
    "effects": ("Effects", "SetEffects", "ablate_each", "ablate_sets"),
    "errors": ("BrocaError",),
    "estimates": ("Estimate",),
    "facts": ("Fact", "Relation", "Relations", "load_relations"),
    "interventions": ("Deactivate", "Fix", "Scale", "intervene"),
    "locators": ("Located", "locate"),
    "measurements": ("AnswerRow", "answer_prompts"),
    "model": ("LanguageModel", "Layout", "Part", "TokenBatch"),
    "neurons": ("ModelIdentity", "Neuron", "NeuronIndex", "NeuronSet", "uniform_random"),
    "prediction": ("NeuronPredictor", "record_options"),
    "prompts": (
        "ChoicePrompt",
        "Prompt",
        "render_fact_prompts",
        "render_question_prompts",
        "render_word_prompts",
    ),
    "questions": ("Question", "build_questions", "load_questions"),
    "readout": ("find_firings", "read_values"),
    "responses": ("Responses", "record_responses"),
    "scores": (
        "NeuronScores",
        "QueryScoreConfig",
        "QuerySets",
        "average_precision",
        "draw_negatives",
        "score_expertise",
        "score_expertise_many",
        "select_queries",
        "summarise_query",
    ),
    "tabular": ("table_of",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Alike",
    "AnswerRow",
    "AnswersAlikeWarning",
    "Attributions",
    "BrocaError",
    "ChoicePrompt",
    "Deactivate",
    "Effects",
    "Estimate",
    "Fact",
    "FactEditConfig",
    "FactReplacement",
    "Fix",
    "LanguageModel",
    "Layout",
    "Located",
    "ModelIdentity",
    "Neuron",
    "NeuronIndex",
    "NeuronPredictor",
    "NeuronScores",
    "NeuronSet",
    "Part",
    "Prompt",
    "QueryScoreConfig",
    "QuerySets",
    "Question",
    "Relation",
    "Relations",
    "Responses",
    "Scale",
    "SetEffects",
    "TokenBatch",
    "ValueVectors",
    "ablate_each",
    "ablate_sets",
    "answer_prompts",
    "attribute_answer_tokens",
    "attribute_neurons",
    "average_precision",
    "build_questions",
    "draw_negatives",
    "edited",
    "find_alike",
    "find_firings",
    "find_targets",
    "intervene",
    "load_questions",
    "load_relations",
    "locate",
    "measure_border",
    "read_values",
    "record_options",
    "record_responses",
    "render_fact_prompts",
    "render_question_prompts",
    "render_word_prompts",
    "replace_fact",
    "save_edited",
    "score_expertise",
    "score_expertise_many",
    "select_queries",
    "summarise_query",
    "table_of",
    "uniform_random",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'broca' has no attribute {name!r}")
    value = getattr(import_module(f"broca.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
