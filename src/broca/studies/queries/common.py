"""Common neurons: what the neurons say that serve questions of every field.

Claim: neurons in the clusters of many queries sit in the top layer and write the form of an
answer, not its content. arXiv 2406.10868, section 6; METHODS §3, analysis 3.

1. Common neurons: in more than a share u of the coarse clusters, of all fields together.
2. Their value vectors through the final norm and the unembedding (`broca.readout`): the tokens
   whose logits they raise and lower most.
3. How many of them have an option's letter (in words: the first token of a query's answer) as
   their first token, at either end: a gated neuron can be negative, and then speaks for its
   bottom tokens.
4. The same of random neurons of the same layers, none of them common: `POOL` are read per layer.
   Null: in each layer it is arbitrary which of common and random neurons are the common ones;
   p = (permutations with as many letters + 1) / (permutations + 1). And how many common neurons
   sit in the top layer, against one in as many as there are layers (binomial test).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from broca.choices import Letters
from broca.errors import ModelError
from broca.model import LanguageModel
from broca.neurons import Neuron
from broca.readout import Readout, read_values
from broca.studies.queries import published
from broca.studies.queries.material import Material, Part, QueryBench
from broca.studies.queries.shuffled import beside, plan_untouched, shuffled_figures
from broca.studies.study import Findings, Plan, Results

N_TOKENS = 10
POOL = 50  # random neurons read per layer


class CommonNeurons:
    """Top and bottom tokens of the common neurons."""

    name = "queries.common"
    several_fields = True

    def plan(self, material: Material, bench: QueryBench) -> Plan:
        """The value vectors are read as work of the bench.

        Raises:
            QuestionsError: There is one field only.
        """
        plan = plan_untouched(material, bench, "field")
        part = material.part("field", bench)
        common = list(part.sets.common_neurons())
        pool = random_neurons(part, material.config.seed)
        said, reason = [], ""
        if common:
            names = [str(neuron) for neuron in (*common, *pool)]
            letters = sorted(answer_tokens_of(part))
            determinants = {"neurons": names, "letters": letters, "n_tokens": N_TOKENS}
            try:
                (read,) = bench.keep("values", say, [(determinants, (names, letters))], quick=True)
                said = read["said"]
            except ModelError as error:
                reason = str(error)
        plan.extra = {"part": part, "said": said, "reason": reason}
        return plan

    def summarise(self, material: Material, results: Results) -> Findings:
        """Which tokens, which layers, and whether letters are among them."""
        part: Part = results.extra["part"]
        config = material.config
        common = part.sets.common_neurons()
        said: Sequence[dict[str, Any]] = results.extra["said"]
        if not len(common):
            return Findings({"queries.common.neurons": 0}, {}, ["There are no common neurons."])
        empty = {"top": None, "bottom": None, "letter": None}
        records = [
            {"neuron": str(neuron), "layer": neuron.layer, "share": float(share), **empty}
            for neuron, share in zip(common, common.scores, strict=True)
        ]
        n_layers = part.sets.identity.n_layers
        top = sum(record["layer"] == n_layers - 1 for record in records)
        p_top = float(stats.binomtest(top, len(records), 1 / n_layers, "greater").pvalue)
        figures: dict[str, Any] = {
            "queries.common.neurons": len(records),
            "queries.common.top_layer": top / len(records),
            "queries.common.top_layer.p": p_top,
        }
        words = [_layer_words(top, records, n_layers, p_top, config.alpha)]
        if said:
            for record, each in zip(records, said, strict=False):  # the pool comes after
                record |= {name: each[name] for name in empty}
            whole = letter_record(records, said[len(records) :], config.n_permutations, config.seed)
            figures |= shuffled_figures("queries.common", whole, "letters")
            figures["queries.common.letters.random"] = whole["random"]
            words.append(letter_words(whole, config.alpha, part.answer))
        else:
            words.append(f"Their value vectors cannot be read: {results.extra['reason']}")
        return Findings(
            figures,
            {
                "common": records,
                "published": [
                    {
                        "figure": "layers of common neurons",
                        "ours": f"{top} of {len(records)} in the top layer",
                        "published": published.COMMON_LAYER,
                    }
                ],
            },
            words,
        )


def say(model: LanguageModel, item: tuple[Sequence[str], Sequence[int]]) -> dict[str, Any]:
    """What value vectors say: neurons by name, and the tokens that count as letters."""
    names, letters = item
    read = read_values(model, [Neuron.parse(name) for name in names], n_tokens=N_TOKENS)
    return {"said": [as_record(each, set(letters)) for each in read]}


def answer_tokens_of(part: Part) -> set[int]:
    """Tokens an answer begins with: those of the letters, or of all queries' answers in words."""
    found: set[int] = set()
    for asked in (one for listed in part.asked.values() for one in listed):
        if isinstance(asked, Letters):
            found.update(token for tokens in asked.candidates for token in tokens)
        else:
            found.update(right[0] for right in asked.rights)
    return found


def random_neurons(part: Part, seed: int) -> list[Neuron]:
    """Neurons of every layer that holds common ones, none of them common, drawn by seed."""
    width = part.sets.identity.width(part.sets.site)
    there = part.sets.identity.layer_widths(part.sets.site)
    common = part.sets.common.neurons
    rng = np.random.default_rng([seed, 2])
    drawn = []
    for layer in np.unique(common // width):
        free = np.setdiff1d(np.arange(there[layer]), common[common // width == layer] % width)
        chosen = rng.choice(free, min(POOL, len(free)), replace=False)
        drawn += [Neuron(part.sets.site, int(layer), int(index)) for index in chosen]
    return drawn


def as_record(readout: Readout, letters: set[int]) -> dict[str, Any]:
    """What a value vector says, as plain values; a token that it does not move is not named."""
    ends = {
        "top": [one for one in readout.top if one.score > 0],
        "bottom": [one for one in readout.bottom if one.score < 0],
    }
    return {
        "layer": readout.neuron.layer,
        **{name: " · ".join(one.token.strip(" ") for one in end) for name, end in ends.items()},
        "letter": any(one.id in letters for end in ends.values() for one in end[:1]),
    }


def letter_record(
    records: Sequence[Mapping[str, Any]], pool: Sequence[Mapping[str, Any]], n: int, seed: int
) -> dict[str, Any]:
    """Share of common neurons with a letter first, that of random ones, and the test of step 4.

    Args:
        records: The common neurons, each with its layer and whether a letter comes first.
        pool: Random neurons of the same layers; a layer may have none.
        n: Number of permutations.
        seed: Of the permutations.
    """
    rng = np.random.default_rng([seed, 3])
    dealt, random, paired = np.zeros(n), 0.0, 0
    for layer in sorted({one["layer"] for one in records}):
        own, other = (
            [bool(one["letter"]) for one in listed if one["layer"] == layer]
            for listed in (records, pool)
        )
        letters = sum(own) + sum(other)
        # letters among as many neurons as are common, drawn without replacement from both
        dealt += rng.hypergeometric(letters, len(own) + len(other) - letters, len(own), n)
        if other:
            random, paired = random + len(own) * float(np.mean(other)), paired + len(own)
    share = float(np.mean([one["letter"] for one in records]))
    test = beside(share, dealt / len(records), "greater")
    return {
        "n": len(records),
        "random": random / paired if paired else None,
        **test.record("letters"),
    }


def _layer_words(
    top: int, records: Sequence[Mapping[str, Any]], n_layers: int, p: float, alpha: float
) -> str:
    verdict = "more than" if p < alpha else "which cannot be told from what"
    middle = float(np.median([record["layer"] for record in records]))
    return (
        f"{top} of {len(records)} common neurons sit in the top layer, {verdict} an even spread "
        f"over {n_layers} layers would put there (p = {p:.2g}); median layer {middle:g}. "
        f"Published: {published.COMMON_LAYER}."
    )


def letter_words(whole: Mapping[str, Any], alpha: float, answer: str = "letters") -> str:
    """Whether they speak letters, or the answers of the queries."""
    what, token = {
        "letters": ("the form of the answer", "an option's letter"),
        "words": ("answers", "the first token of a query's answer"),
    }[answer]
    verdict = (
        f"more of them than of others write {what}"
        if whole["p"] < alpha
        else f"it cannot be told that they write {what} more than others"
    )
    random = "there are none" if whole["random"] is None else f"{whole['random']:.0%}"
    return (
        f"{whole['letters']:.0%} of the {whole['n']} common neurons have {token} as "
        "their first token, at the top or the bottom; of random neurons of the same layers "
        f"{random}. Were it arbitrary which are the common ones, it would be "
        f"{whole['shuffled']:.0%} [{whole['shuffled_low']:.0%}, {whole['shuffled_high']:.0%}] "
        f"(p = {whole['p']:.2g}): {verdict}."
    )


STUDIES = (CommonNeurons(),)
