"""The card of the embedded model: card.json (figures) and CARD.md (text and tables)."""

import json
from pathlib import Path

TEXT = Path(__file__).parent / "card_text.md"

SET_NAMES = {
    "finding": "English, finding",
    "robustness": "English, robustness",
    "held_out": "English, never trained",
    "de": "German",
    "es": "Spanish",
    "fr": "French",
    "zh": "Chinese",
    "ja": "Japanese",
    "finding, no ending": "finding, without the ending",
    "companions": "companion relations, finding",
}
LANGUAGE_NAMES = {"en": "English"} | {k: v for k, v in SET_NAMES.items() if len(k) == 2}


def row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def table(header: list[str], rows: list[list[object]]) -> str:
    lines = [row(*header), row("---", *["---:"] * (len(header) - 1))]
    return "\n".join([*lines, *(row(*cells) for cells in rows)])


def percent(value: float | None) -> str:
    return "–" if value is None or value != value else f"{100 * value:.1f}"


def facts_tables(facts: dict) -> str:
    rows: list[list[object]] = []
    for name, label in SET_NAMES.items():
        entry = facts[name]
        bands = [f"{percent(entry[f'band{b}'])} ({entry[f'band{b}_log_p']:.2f})" for b in range(4)]
        rows.append([label, percent(entry["all"]), f"{entry['log_p']:.2f}", *bands, entry["n"]])
    header = ["asked in", "all", "log P", "rarest", "band 1", "band 2", "most frequent", "facts"]
    relations = table(
        ["relation", "finding"], [[r, percent(v)] for r, v in facts["relations"].items()]
    )
    one, longer = facts["finding"]["one_token"], facts["finding"]["longer"]
    return (
        "Accuracy of two greedy tokens in percent (mean log P of the object in brackets), with "
        f'the ending "? Answer:".\n\n{table(header, rows)}\n\n'
        f"Objects of one token {percent(one)}, of several {percent(longer)} (finding wordings).\n\n"
        f"{relations}"
    )


def choices_table(choices: dict) -> str:
    fields = sorted({k for entry in choices.values() for k in entry} - {"n"})
    order = ["trained", "never_trained", "same", "other"]
    columns = [*order, *(f for f in fields if f not in order)]
    header = ["language", *(c.replace("_", " ") for c in columns), "asked"]
    rows: list[list[object]] = [
        [LANGUAGE_NAMES[language], *(percent(entry.get(c)) for c in columns), entry["n"]]
        for language, entry in choices.items()
    ]
    return (
        "Right letters in percent on facts known in the language, fresh shuffles (chance 25). "
        "`same`: distractors of the same relation; `other`: from the subject's other relations as "
        f"far as there are.\n\n{table(header, rows)}"
    )


def spread(result: dict, key: str) -> str:
    """A median over relations with the interval of the mean."""
    low, high = result[f"{key}_interval"]
    return f"{percent(result[f'{key}_median'])} ({percent(low)} to {percent(high)})"


def probe_table(probe: dict) -> str:
    summary: list[list[object]] = []
    parts = []
    for name, result in probe.items():
        summary.append(
            [
                name,
                f"{result['k']} of {result['neurons']}",
                *(spread(result, key) for key in ("own_drop", "other_drop", "matched_drop")),
                f"{result['significant']} of {len(result['relations'])}",
            ]
        )
        rows: list[list[object]] = []
        for relation, entry in result["relations"].items():
            own = " to ".join(percent(x) for x in entry["own_interval"])
            matched = " to ".join(percent(x) for x in entry["matched_interval"])
            rows.append(
                [
                    relation,
                    percent(entry["untouched"]),
                    f"{percent(entry['own_drop'])} ({own})",
                    percent(entry["other_drop"]),
                    f"{percent(entry['matched_drop'])} ({matched})",
                    f"{entry['p_holm']:.4f}",
                ]
            )
        header = ["relation", "untouched", "own drop", "others", "matched random", "p (Holm)"]
        parts.append(f"### {name}\n\n{table(header, rows)}")
    header = ["run", "k", "own drop", "others", "matched random", "p < .05"]
    return (
        "Relative drop of accuracy, in percent, on 50 facts per relation not used for finding, k "
        "chosen on detection facts: medians over relations (95 % interval of the mean). The "
        "first run is the model that ships; the others are the same training with other seeds. "
        "Sizes offered: 1, 2, 4, 8 and 12 % of the neurons.\n\n"
        + table(header, summary)
        + "\n\n"
        + "\n\n".join(parts)
    )


def update_card(
    folder: Path,
    measured: dict | None = None,
    probe: dict | None = None,
    training: dict | None = None,
) -> None:
    """Put new figures into card.json and write CARD.md anew."""
    path = folder / "card.json"
    card = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for key, value in (("measured", measured), ("training", training)):
        if value is not None:
            card[key] = value
    if probe is not None:  # runs are probed one after the other
        card["probe"] = card.get("probe", {}) | probe
    path.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    parts = [TEXT.read_text(encoding="utf-8").strip()]
    if "training" in card:
        t = card["training"]
        parts.append(
            f"**Training run.** Seed {t['seed']}, {t['steps']:,} steps, {t['minutes']:.0f} minutes "
            f"of one CPU core shared with other work, final loss {t['loss']:.3f}."
        )
    if "measured" in card:
        m = card["measured"]
        parts += ["## What it knows", facts_tables(m["facts"])]
        parts += ["## Multiple choice", choices_table(m["choices"])]
        prose = m["prose_perplexity"]
        parts.append(
            f"## Prose\n\nPerplexity {prose['trained']:.2f} on trained sentences, "
            f"{prose['never_trained']:.2f} on sentences never trained (same predicates, new pairs)."
        )
    if "probe" in card:
        parts += ["## Relation neurons", probe_table(card["probe"])]
    (folder / "CARD.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
