"""Flips: wrong answers that boosting turns right, right ones that suppressing turns wrong.

Claim: boosting a query's own neurons turns wrong answers right, suppressing them turns right ones
wrong, more often than other methods' neurons and random ones. arXiv 2406.10868, section 6
(knowledge editing); METHODS §3, applications, 5.

1. The conditions are those of the effect study on the query's own prompts: every query's neurons,
   by every method, and matched random sets, scaled at the last position. Rows are shared with it.
2. A flip: boost makes the preferred letter right where the untouched model's was wrong, suppress
   wrong where it was right.
3. Rate = flips / prompts that could flip (answered wrongly, or rightly, by the untouched model;
   ours), with a bootstrap interval over the queries that have such prompts; and flips / all
   prompts (the paper's), over all queries. Flips the other way stand beside them. Where none or
   all flip, resampling gives no interval: the exact binomial one over queries stands there.
4. NA-ICA against every method, and every method against random: paired bootstrap over the same
   queries; sign flips over queries, Holm over the pairs of an action. Own against matched random
   sets likewise, one-sided.
5. By language, versions of one question (ids alike but for "@language") are no independent
   queries: in steps 3 and 4 they are drawn, and flipped, together.

The test against matched sets compares one flip of the own set with a mean over few matched ones.
Under the null both flip alike, but the difference is then skewed, not symmetric: where `n_matched`
is small and matched sets flip 90 % or more of what could flip, the one-sided p is too small
(anti-conservative). Where matched sets flip little it errs on the safe side.

What differs from the paper: denominators, intervals, tests, flips the other way; queries without
neurons are left out, and a method that finds none for a query flips nothing there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from broca.estimates import Estimate, bootstrap, holm, sign_flip_test
from broca.store import summary_key
from broca.studies.queries import published
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.effect import set_conditions
from broca.studies.queries.effects import Key, group_sums, spread
from broca.studies.queries.flip_words import flip_words
from broca.studies.queries.material import (
    Material,
    Part,
    QueryBench,
    ask_untouched,
    near_chance,
    own_group,
)
from broca.studies.study import Condition, Findings, Outcomes, Plan, Results

ALL = "all"
CONTROL = "random"


@dataclass(frozen=True)
class QueryFlips:
    """Flips by field of knowledge, or by language.

    Attributes:
        name: As recipes name it.
        by: "field" or "language".
        prefix: Of its figures.
    """

    name: str
    by: str
    prefix: str

    def plan(self, material: Material, bench: QueryBench) -> Plan:
        """Every query asked untouched, and under its own and matched random sets."""
        part = material.part(self.by, bench)
        plan = ask_untouched(part)
        places: dict[Key, list[Condition]] = {}
        for query in part.found:
            for key, condition in set_conditions(plan, part, query, material.config, others=False):
                places.setdefault(key, []).append(condition)
        plan.extra = {"part": part, "places": places}
        return plan

    def summarise(self, material: Material, results: Results) -> Findings:
        """Rates by method and field, methods compared, the published ones beside them."""
        part: Part = results.extra["part"]
        config = material.config
        flips = Flips.of(
            part.found,
            [results[Condition(own_group(query))] for query in part.found],
            {key: results[listed] for key, listed in results.extra["places"].items()},
            config,
            part.bases(part.found),
        )
        fields = np.array([part.questions[query].field for query in part.found], dtype=object)
        records = []
        for field in (ALL, *part.fields):
            keep = np.ones(len(fields), bool) if field == ALL else fields == field
            if keep.any():
                records += _records(field, flips.where(keep), config)
        near = near_chance(part.accuracy().low, part.chance())
        tables = {
            "caution": [{"near_chance": near}],
            "flips": records,
            "paired": _paired(flips, config),
            "published": published.published_flips(self.by),
        }
        whole = [record for record in records if record["field"] == ALL]
        words = flip_words(whole, tables["paired"], config.alpha, near)
        return Findings(_figures(tables, self.prefix), tables, words)


# ---- counting

Kind = tuple[str, str]
"""Method and action."""


@dataclass(frozen=True)
class Flips:
    """Prompts per query, and how many of them each method flips.

    Attributes:
        prompts: Prompts of each query, [query].
        wrong: Prompts answered wrongly by the untouched model, [query].
        wanted: (method, action) -> flips as wanted, [query].
        against: (method, action) -> flips the other way, [query].
        matched: (method, action) -> wanted flips of matched random sets, mean over these; NaN for
            queries where the method has no neurons.
        groups: Label of each query's group, drawn and flipped as a whole, [query].
    """

    prompts: np.ndarray
    wrong: np.ndarray
    wanted: Mapping[Kind, np.ndarray]
    against: Mapping[Kind, np.ndarray]
    matched: Mapping[Kind, np.ndarray]
    groups: np.ndarray

    @classmethod
    def of(
        cls,
        queries: Sequence[str],
        untouched: Sequence[Outcomes],
        edited: Mapping[Key, Outcomes],
        config: QueriesConfig,
        groups: Sequence[str] | None = None,
    ) -> Flips:
        """Count rows.

        Args:
            queries: The queries that have neurons.
            untouched: Their prompts with the model untouched, in the same order.
            edited: Rows of all sets of a kind.
            config: Methods and actions.
            groups: Base ids of the queries; by default every query is a group of its own.
        """
        number = {query: i for i, query in enumerate(queries)}
        kinds = [(method, action) for method in config.methods for action in config.actions]
        wanted, against = ({kind: np.zeros(len(queries)) for kind in kinds} for _ in range(2))
        matched = {kind: np.full(len(queries), np.nan) for kind in kinds}
        sizes = np.array([len(rows) for rows in untouched], float)
        for key, rows in edited.items():
            place, kind = number[key.query], (key.method, key.action)
            to_right = rows.correct & ~rows.correct_before
            to_wrong = ~rows.correct & rows.correct_before
            here, there = (to_right, to_wrong) if key.action == "boost" else (to_wrong, to_right)
            if key.kind == "matched":
                matched[kind][place] = here.sum() / (len(rows) / sizes[place])
            else:
                wanted[kind][place], against[kind][place] = here.sum(), there.sum()
        wrong = np.array([np.count_nonzero(~rows.correct) for rows in untouched], float)
        labels = np.array(queries if groups is None else groups, dtype=object)
        return cls(sizes, wrong, wanted, against, matched, labels)

    def where(self, keep: np.ndarray) -> Flips:
        """The same of some queries, bool [query]."""
        return Flips(
            self.prompts[keep],
            self.wrong[keep],
            *(
                {kind: counts[keep] for kind, counts in table.items()}
                for table in (self.wanted, self.against, self.matched)
            ),
            groups=self.groups[keep],
        )

    def candidates(self, action: str) -> np.ndarray:
        """Prompts that an action could flip, [query]."""
        return self.wrong if action == "boost" else self.prompts - self.wrong


# ---- statistics


def _records(field: str, flips: Flips, config: QueriesConfig) -> list[dict[str, Any]]:
    records = []
    for method, action in flips.wanted:
        could = flips.candidates(action)
        wanted = flips.wanted[method, action]
        with_some = could > 0
        record: dict[str, Any] = {
            "field": field,
            "method": method,
            "action": action,
            "queries": len(could),
            "prompts": int(flips.prompts.sum()),
            "n": int(with_some.sum()),
            "groups": len(set(flips.groups[with_some])),
            "query_groups": len(set(flips.groups)),
            "candidates": int(could.sum()),
            "flips": int(wanted.sum()),
            "against": float(flips.against[method, action].sum() / flips.prompts.sum()),
            **dict.fromkeys(("rate", "rate_low", "rate_high")),
            **spread("share", estimate_share(wanted, flips.prompts, config, groups=flips.groups)),
        }
        if with_some.any():
            groups = flips.groups[with_some]
            rate = estimate_share(wanted[with_some], could[with_some], config, groups=groups)
            record |= spread("rate", rate)
        records.append(record | _against_matched(flips, method, action, config))
    return records


def estimate_share(
    flips: np.ndarray,
    prompts: np.ndarray,
    config: QueriesConfig,
    level: float = 0.95,
    groups: np.ndarray | None = None,
) -> Estimate:
    """Flips / prompts over queries, with an interval that is open to what was not seen (step 3).

    Args:
        flips: [query].
        prompts: Prompts of each query, at least one, [query].
        config: Seed and number of resamples.
        level: Coverage the interval aims at.
        groups: Label of each query's group, drawn as a whole; every query for itself if None.
    """
    found = bootstrap(
        _ratio,
        flips,
        prompts,
        groups=groups,
        seed=config.seed,
        n_resamples=config.n_resamples,
        level=level,
    )
    if np.isnan(found.low):
        return found
    unseen = 1 - ((1 - level) / 2) ** (1 / found.n)
    if found.value == 0:
        return replace(found, low=0.0, high=unseen)
    if found.value == 1:
        return replace(found, low=1 - unseen, high=1.0)
    return found


def _against_matched(
    flips: Flips, method: str, action: str, config: QueriesConfig
) -> dict[str, float]:
    """Rate of matched random sets, and the test of the own ones against them."""
    could, matched = flips.candidates(action), flips.matched[method, action]
    drawn = np.isfinite(matched) & (could > 0)  # an empty set has no matched ones
    if not drawn.any():
        return {}
    beyond = (flips.wanted[method, action] - matched)[drawn]
    gap = bootstrap(
        lambda flipped, prompts: flipped / prompts,
        beyond,
        could[drawn],
        groups=flips.groups[drawn],
        seed=config.seed,
        n_resamples=config.n_resamples,
    )
    return {
        "matched": float(matched[drawn].sum() / could[drawn].sum()),
        **spread("beyond", gap),
        "p_matched": sign_flip_test(
            group_sums(beyond, flips.groups[drawn]),
            seed=config.seed,
            n_permutations=config.n_permutations,
        ),
    }


def _paired(flips: Flips, config: QueriesConfig) -> list[dict[str, Any]]:
    """NA-ICA against every method, every other one against random."""
    pairs = [("na-ica", method) for method in config.methods if method != "na-ica"]
    if CONTROL in config.methods:
        others = [method for method in config.methods if method not in ("na-ica", CONTROL)]
        pairs += [(method, CONTROL) for method in others]
    records = []
    for action in config.actions:
        could = flips.candidates(action)
        some = could > 0
        if not some.any():
            continue
        here = [_pair(flips, action, *pair, some, config) for pair in pairs]
        for record, p in zip(here, holm([record["p"] for record in here]), strict=True):
            record["p_holm"] = float(p)
        records += here
    return records


def _pair(
    flips: Flips, action: str, first: str, other: str, some: np.ndarray, config: QueriesConfig
) -> dict[str, Any]:
    beyond = flips.wanted[first, action] - flips.wanted[other, action]
    groups = flips.groups[some]
    options: dict[str, Any] = {"seed": config.seed, "n_resamples": config.n_resamples}
    options["groups"] = groups
    gap = bootstrap(_ratio, beyond[some], flips.candidates(action)[some], **options)
    return {
        "action": action,
        "method": first,
        "other": other,
        "n": int(some.sum()),
        "groups": len(set(groups)),
        **spread("gap", gap),
        "p": sign_flip_test(
            group_sums(beyond[some], groups),
            seed=config.seed,
            n_permutations=config.n_permutations,
            alternative="two-sided",
        ),
    }


def _ratio(flips: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    return flips / prompts


def _figures(tables: Mapping[str, Sequence[Mapping[str, Any]]], prefix: str) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for record in tables["flips"]:
        field = [] if record["field"] == ALL else ["fields", record["field"]]
        start = f"{prefix}.{summary_key(*field, record['method'], record['action'])}"
        for name in ("rate", "share"):
            for end in ("", "_low", "_high"):
                figures[f"{start}.{name}{end.replace('_', '.')}"] = record[f"{name}{end}"]
        figures[f"{start}.candidates"] = record["candidates"]
        for name in ("matched", "p_matched"):
            if name in record:
                figures[f"{start}.{name}"] = record[name]
    for record in tables["paired"]:
        pair = summary_key(record["method"], record["action"], f"beyond_{record['other']}")
        for end in ("", "_low", "_high"):
            figures[f"{prefix}.{pair}{end.replace('_', '.')}"] = record[f"gap{end}"]
        figures[f"{prefix}.{pair}.p_holm"] = record["p_holm"]
    return figures


STUDIES = (
    QueryFlips("queries.flips", "field", "queries.flips"),
    QueryFlips("queries.flips.languages", "language", "queries.flips.languages"),
)
