"""Condense finished runs into the small files behind docs/findings.md.

    python docs/findings/collect.py NAME RUN "COMMAND"

writes docs/findings/NAME.json: the command that repeats the run, its settings, those that broca has
had since ("later", with what the command gives them), what it was computed with, its figures to
four digits (those of pairs of fields left out), its sentences, and the tables that the page reads
from.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from broca.estimates import bootstrap_mean, ratio
from broca.recipes import load_recipe
from broca.run import read_job
from broca.store import RunFolder

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
KEPT = ("model", "architecture", "parameters", "fingerprint", "dtype", "device", "versions")
TABLES = {
    "relations.forms": {"forms": ("form", "relation", "n", "right", "right_shown", "reason")},
    "relations.intra": {
        "k": ("k", "share", "own", "matched", "other", "gain", "chosen"),
        "drops": (
            "relation", "n", "right", "own_drop", "matched_drop", "matched_drop_worst",
            "log_p_drop", "log_p_matched_drop", "matched_accuracy_p", "p_holm",
        ),
    },
    "relations.cumulativity": {
        "curve": (
            "k", "share", "before", "own", "own_low", "own_high", "own_drop", "other_drop",
            "uniform_drop", "log_p_drop", "other_log_p_drop",
        ),
        "sizes": ("relation", "k", "share", "own_drop", "other_drop", "largest_loss"),
    },
    "relations.versatility": {
        "membership": ("sets", "neurons", "expected"),
        "pairs": ("a", "b", "count", "expected", "p_holm", "log_p_drop", "shared_subjects"),
    },
    "locators.agreement": {
        "locators": (
            "title", "n", "spearman", "spearman_low", "spearman_high", "recall", "recall_low",
            "recall_high", "recall_wins", "seconds",
        ),
    },
    "locators.joint": {
        "areas": ("title", "area_own", "area_own_low", "area_own_high", "area_other", "seconds"),
    },
    "locators.injection": {
        "recalls": (
            "title", "n", "layer_0", "layer_0_low", "layer_0_high", "layer_0_wins", "global_0",
            "global_0_low", "global_0_high", "global_0_wins", "seconds",
        ),
    },
    "locators.relations": {
        "apart": (
            "title", "k", "n", "own", "own_low", "own_high", "other", "apart", "apart_low",
            "apart_high", "apart_wins",
        ),
        "halves": ("title", "reached", "n", "median", "smallest", "other"),
    },
    "queries.effect": {
        "ceilings": ("off", "change", "change_low", "change_high", "n"),
        "accuracy": ("field", "accuracy", "accuracy_low", "accuracy_high", "chance", "n", "kept"),
    },
}  # fmt: skip
"""Study -> its tables that are kept -> their columns."""

STORED = dict.fromkeys(("areas", "recalls", "apart"), "locators")
"""Kept under another name than in the run, where several studies have one of that name."""


def condense(run: RunFolder, command: str) -> dict[str, Any]:
    """The parts of a run that a reader of the page may want to check."""
    findings = run.read_json("findings.json")
    environment = {key: run.environment[key] for key in KEPT}
    environment["model"] = Path(environment["model"]).name
    settings = {key: _named(value) for key, value in run.config.items() if key != "model"}
    figures = {k: rounded(v) for k, v in run.summary.items() if ".pairs." not in k}
    words = {study: found["words"] for study, found in findings.items()}
    tables = {
        name: [{c: rounded(record[c]) for c in columns if c in record} for record in records]
        for study, kept in TABLES.items()
        for name, columns in kept.items()
        if (records := findings.get(study, {}).get("tables", {}).get(STORED.get(name, name)))
    }
    if tables.get("ceilings") and run.config.get("answer") == "words":
        tables["copied"] = copied(run, findings["queries.effect"]["tables"]["queries"])
        tables["layers"] = layers(findings["queries.effect"]["tables"]["layers"])
        tables["sharing"] = sharing(run, findings["queries.effect"]["tables"]["queries"])
    if "accuracy" not in tables and run.config.get("answer") == "letters":
        tables["asked"] = asked(run)
    if "forms" in tables:
        tables["first_words"] = first_words(run)
    return {
        "command": command,
        "settings": settings,
        "later": {k: v for k, v in commanded(command).items() if k not in (*settings, "model")},
        "environment": environment,
        "figures": figures,
        "words": words,
        "tables": tables,
    }


def commanded(command: str) -> dict[str, Any]:
    """Every setting that a `broca run` gives today, as its `config.toml` would hold it."""
    words = iter(shlex.split(command.removeprefix("broca run ")))
    recipe, overrides = next(words), []
    for option in words:
        value = next(words)
        overrides.append({"--set": value}.get(option, f"{option.removeprefix('--')}={value}"))
    config = read_job(load_recipe(ROOT / recipe, overrides), where=recipe).as_config()
    plain = json.loads(json.dumps(config, default=list))
    return {key: _named(value) for key, value in plain.items()}


def asked(run: RunFolder) -> list[dict[str, Any]]:
    """Right letters of the untouched model, field by field."""
    rows = run.rows.read(columns=["field", "intervention", "correct"]).to_pylist()
    right: dict[str, list[bool]] = {}
    for row in rows:
        if row["intervention"] == "none":
            right.setdefault(row["field"], []).append(row["correct"])
    return [{"field": f, "n": len(some), "right": sum(some)} for f, some in right.items()]


def first_words(run: RunFolder) -> list[dict[str, Any]]:
    """The word that most answers begin with, form by form, where forms were tried."""
    prompts, rows = run.prompts(), run.rows.read(columns=["prompt", "role", "intervention", "text"])
    words: dict[str, Counter[str]] = {}
    for row in rows.to_pylist():
        if row["role"] == "form" and row["intervention"] == "none":
            first = (row["text"].split() or [""])[0]
            words.setdefault(prompts[row["prompt"]]["form"], Counter())[first] += 1
    return [
        {"form": form, "word": word, "n": n, "of": counts.total()}
        for form, counts in words.items()
        for word, n in counts.most_common(1)
    ]


def copied(run: RunFolder, queries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What suppressed neurons cost answers that stood in the prompt, and those that did not."""
    prompts: dict[str, Any] = {one["fact"]: one for one in run.prompts().values()}
    changes: dict[str, list[float]] = {"shown": [], "in the subject": [], "neither": []}
    for query in queries:
        prompt, subject = prompts[query["query"]], prompts[query["query"]]["subject"].casefold()
        shown = set(prompt["shown"]) & set(prompt["answers"])
        named = any(answer.casefold() in subject for answer in prompt["answers"])
        if query["suppress"] is not None:
            where = "shown" if shown else "in the subject" if named else "neither"
            changes[where].append(query["suppress"])
    found = []
    for where, listed in changes.items():
        mean = bootstrap_mean(listed, seed=0)
        ends = {end: rounded(getattr(mean, end)) for end in ("value", "low", "high")}
        ends = {end: None if value != value else value for end, value in ends.items()}
        found.append({"answer": where, "n": len(listed), **ends})
    return found


def layers(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many of the NA-ICA neurons of all queries lie in each layer, from 0 on."""
    return [{"method": "na-ica", "n": [one["n"] for one in records if one["method"] == "na-ica"]}]


def sharing(run: RunFolder, queries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What suppressed neurons cost answers of other fields, by whether these share any of them.

    Every pair of a query and one of another field that its NA-ICA neurons were tried on; intervals
    over the queries whose neurons they are. "pcr": their own loss over that of these pairs.
    """
    named = {query["query"]: query for query in queries}
    sets = {name: set(filter(None, query["neurons"].split(", "))) for name, query in named.items()}
    columns = ["set", "control", "factor", "query", "p_after", "p_before"]
    losses: dict[str, dict[tuple[str, str], float]] = {"none": {}, "some": {}}
    for row in run.rows.read(columns=columns).to_pylist():
        owner, _, method = row["set"].rpartition("/")
        if method != "na-ica" or row["control"] or row["factor"] != run.config["suppress"]:
            continue
        if named[owner]["field"] != named[row["query"]]["field"]:
            shared = "some" if sets[owner] & sets[row["query"]] else "none"
            losses[shared][owner, row["query"]] = row["p_after"] / row["p_before"] - 1
    found = []
    for shared, pairs in losses.items():
        owners, values = [owner for owner, _ in pairs], list(pairs.values())
        mean = bootstrap_mean(values, groups=owners, seed=0)
        times = ratio([named[owner]["suppress"] for owner in owners], values, groups=owners)
        ends = {end: rounded(getattr(mean, end)) for end in ("value", "low", "high")}
        pcr = {"pcr": times.value, "pcr_low": times.low, "pcr_high": times.high}
        pcr = {name: rounded(value) for name, value in pcr.items()}
        found.append({"shared": shared, "n": len(pairs), **ends, **pcr})
    return found


def _named(value: Any) -> Any:
    """A file by its name alone: where it lay says nothing."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def rounded(value: Any) -> Any:
    """Four significant digits of what is no whole number or text."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    name, path, command = sys.argv[1:]
    text = json.dumps(condense(RunFolder.open(path), command), indent=1, ensure_ascii=False)
    (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
