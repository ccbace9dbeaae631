"""Prediction: does the most active option of a field's neurons answer its questions?

Claim: a field's neurons are more active when the right option is put as the answer than with wrong
ones, so that they predict answers about as well as asking the model. arXiv 2406.10868, section 6;
METHODS §3, applications, 6.

1. The queries of every field are halved by seed into detection and held-out queries; versions of
   one question (ids alike but for "@language") stay in one half.
2. NA-ICA over the detection queries alone, all fields together: inverse cluster attribution,
   common neurons and sets know nothing of held-out queries. A field's neurons are the union.
3. Every option of every prompt is put as the answer; `broca.prediction.NeuronPredictor`, fitted on
   the field's detection prompts, predicts its held-out ones.
4. Accuracy on held-out prompts, mean over queries with bootstrap intervals, beside the model's own
   letters and guessing, and beside the same with random neurons, as many per layer, outside the
   set. Paired differences; sign flips against random neurons over queries, Holm over fields.
5. Do the neurons tell when the model is wrong? Score of a prompt: the predictor's margin for the
   letter the model prefers; AUROC of "the model is right", queries drawn whole. Over all fields
   prompts are compared within their field only (pairs won / pairs, summed over fields; queries
   drawn within fields): every field has its own neurons, and margins their own scale.

What differs from the paper: its figures are on queries whose neurons were used; held-out halves,
random neurons, intervals and step 5 are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from broca.errors import ScoreError
from broca.facts.seeding import stable_number
from broca.neurons import NeuronIndex, NeuronSet
from broca.prediction import FEWEST, POOLING, NeuronPredictor, option_values
from broca.prompts import ChoicePrompt
from broca.responses import Responses
from broca.scores import select_queries
from broca.store import summary_key
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.material import Material, Part, QueryBench, ask_untouched, own_group
from broca.studies.queries.offering import Halves, Offered, offer, rows_of
from broca.studies.queries.prediction_findings import Predicted, prediction_findings
from broca.studies.study import Findings, Plan, Results

Side = Sequence[tuple[Offered, range]]
"""Prompts of one half, each with its rows of responses."""


@dataclass
class Fields:
    """The fields that can be predicted, and why others cannot.

    Attributes:
        halves: Field -> its queries, halved.
        sets: Field -> its neurons, then random ones.
        left_out: Field -> reason.
    """

    halves: dict[str, Halves] = field(default_factory=dict)
    sets: dict[str, tuple[NeuronSet, ...]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


class NeuronPrediction:
    """Answers predicted from the activity of a field's neurons."""

    name = "queries.prediction"

    def plan(self, material: Material, bench: QueryBench) -> Plan:
        """Every query asked untouched; options of all of them put as answers and recorded.

        Raises:
            PromptError: A label is no single token after its prompt.
        """
        part = material.part("field", bench)
        fields = find_fields(part, material.config)
        plan = ask_untouched(part)
        offered = offer(part, {name: fields.halves[name] for name in fields.sets}, bench)
        responses = None
        if offered:
            prompts = [prompt for one in offered for prompt in one.answered]
            responses = bench.record(prompts, (part.sets.site,), POOLING)
        for neurons, *_ in fields.sets.values():
            bench.keep_set(neurons, neurons.name)
        plan.extra = {"part": part, "fields": fields, "offered": offered, "responses": responses}
        return plan

    def summarise(self, material: Material, results: Results) -> Findings:
        """Accuracy and AUROC by field."""
        extra = results.extra
        predicted = {}
        fields: Fields = extra["fields"]
        for name, sets in fields.sets.items():
            sides = [rows_of(extra["offered"], half) for half in fields.halves[name]]
            if len(sides[0]) < FEWEST or not sides[1]:
                fields.left_out[name] = "too few of its queries can be told by their answers"
            else:
                predicted[name] = _predict(sides, sets, extra["responses"], results)
        return prediction_findings(material.config, extra["part"], predicted, fields.left_out)


# ---- the field's neurons


def find_fields(part: Part, config: QueriesConfig) -> Fields:
    """Halve every field and find its neurons from detection queries alone (steps 1 and 2)."""
    found = Fields(halves=halves(part, config.seed))
    detection = [query for half, _ in found.halves.values() for query in half]
    for name, (half, held_out) in found.halves.items():
        if not held_out:
            found.left_out[name] = "one query only"
        elif sum(len(part.asked[query]) for query in half) < FEWEST:
            found.left_out[name] = "one detection prompt only"
    try:
        sets = select_queries(
            {query: part.attributed[query].summary for query in detection},
            part.sets.identity,
            site=part.sets.site,
            config=config.scores,
            methods=("na-ica",),
            seed=config.seed,
        )
    except ScoreError as error:  # too few queries for the share u, or no neuron left
        found.left_out = dict.fromkeys(found.halves, f"{error.what[:1].lower()}{error.what[1:]}")
        return found
    index = NeuronIndex(part.sets.identity, (part.sets.site,))
    for name, (half, _) in found.halves.items():
        every = np.concatenate([sets.rankings["na-ica"][query].neurons for query in half])
        union, n_queries = np.unique(every, return_counts=True)
        if not len(union):
            found.left_out[name] = "its detection queries keep no neuron"
        elif name not in found.left_out:
            order = np.argsort(-n_queries, kind="stable")  # those of most queries first
            neurons = index.select(
                union[order],
                n_queries[order],
                name=f"prediction.{summary_key(name)}",
                method="na-ica union",
                settings={"detection_queries": len(half)},
            )
            seeds = range(config.seed, config.seed + max(1, config.n_matched))
            found.sets[name] = (neurons, *(random_like(neurons, index, seed) for seed in seeds))
    return found


def halves(part: Part, seed: int) -> dict[str, Halves]:
    """Field -> its queries halved by seed and id; detection has one more of an odd number.

    Versions of one question in several languages stay together: the halves may then differ more.
    """
    found = {}
    for name in part.fields:
        own = [query for query, question in part.questions.items() if question.field == name]
        own.sort(key=lambda query: (stable_number(seed, "prediction", query), query))
        versions: dict[str, list[str]] = {}
        for query in own:
            versions.setdefault(part.questions[query].base, []).append(query)
        detection: list[str] = []
        held_out: list[str] = []
        for together in versions.values():
            (detection if len(detection) < (len(own) + 1) // 2 else held_out).extend(together)
        found[name] = (tuple(detection), tuple(held_out))
    return found


def random_like(neurons: NeuronSet, index: NeuronIndex, seed: int) -> NeuronSet:
    """Random neurons, as many per layer; outside the set where the layer has that many others."""
    rng = np.random.default_rng([seed, 0x9ED])
    drawn = []
    for (site, layer), n in neurons.counts().items():
        block = index.block_slice(site, layer)
        every = np.arange(block.stop - block.start)
        others = np.setdiff1d(every, neurons.only(layer=layer).indices)
        pool = others if len(others) >= n else every
        drawn.append(block.start + np.sort(rng.choice(pool, n, replace=False)))
    return index.select(np.concatenate(drawn), name=f"{neurons.name}.random-{seed}")


# ---- predicting


def _predict(
    sides: Sequence[Side], sets: Sequence[NeuronSet], responses: Responses, results: Results
) -> Predicted:
    """Predictions of one field's held-out prompts by its neurons and by random ones."""
    asked = [one for one, _ in sides[1]]
    chosen = np.array(_chosen(asked, results))
    picked, margins = [], []
    for neurons in sets:
        known, new = (
            option_values(
                responses.subset([row for _, rows in side for row in rows]),
                neurons,
                [len(rows) for _, rows in side],
            )
            for side in sides
        )
        width = max(known.shape[1], new.shape[1])
        known, new = (_widened(values, width) for values in (known, new))
        predictor = NeuronPredictor().fit(known)
        picked.append(predictor.predict(new))
        margins.append(predictor.margin(new, chosen))
    return Predicted(
        query=tuple(one.prompt.fact for one in asked),
        n_options=np.array([one.n for one in asked]),
        chosen=chosen,
        right=np.array([one.right for one in asked]),
        picked=np.stack(picked),
        margin=np.stack(margins),
        n_neurons=len(sets[0]),
        n_detection=len({one.prompt.fact for one, _ in sides[0]}),
    )


def _chosen(asked: Sequence[Offered], results: Results) -> list[int]:
    """Position of the option the model prefers, per prompt."""
    groups = list(dict.fromkeys(own_group(one.prompt.fact) for one in asked))
    outcomes = results.where(groups, intervention="none")
    said = dict(zip(outcomes.prompt, outcomes.text, strict=True))
    found = []
    for one in asked:
        if one.chosen is None:
            assert isinstance(one.prompt, ChoicePrompt)
            found.append(one.prompt.labels.index(said[one.prompt.id]))
        else:
            found.append(one.chosen)
    return found


def _widened(values: np.ndarray, n_options: int) -> np.ndarray:
    missing = n_options - values.shape[1]
    return np.pad(values, ((0, 0), (0, missing), (0, 0)), constant_values=np.nan)


STUDIES = (NeuronPrediction(),)
