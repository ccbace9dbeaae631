"""Sections on where the neurons of fields lie: localisation, overlap, embedding, common neurons."""

from __future__ import annotations

from typing import Any

from broca.estimates import Estimate
from broca.report.charts import dot_intervals, layer_lines, scatter_embedding
from broca.report.figure import Figure
from broca.report.heatmaps import annotated_heatmap, layer_index_map
from broca.report.page import Answer, Section
from broca.report.queries.figures import ALL
from broca.report.queries.verdicts import NEAR_CHANCE, is_near_chance
from broca.report.runs import StoredRun
from broca.report.tables import Column, Table

LOCALISATION, OVERLAP, EMBEDDING = "queries.localisation", "queries.overlap", "queries.embedding"
COMMON = "queries.common"
BY: dict[str, str] = dict.fromkeys((LOCALISATION, OVERLAP, EMBEDDING), "field")
BY |= {f"{name}.languages": "language" for name in (LOCALISATION, OVERLAP, EMBEDDING)}

MOST_SHAPES = 6  # that can be told apart
SHUFFLED_HELP = "median of shuffled fields; 95 % of them lie between the ends"
P_HELP = "permutation p-value after Holm's correction"


def region_sections(run: StoredRun) -> list[Section]:
    """All sections of these studies that a run has."""
    makers = {LOCALISATION: localisation_section, OVERLAP: overlap_section}
    makers |= {EMBEDDING: embedding_section}
    sections = [
        make(run, study)
        for kind, make in makers.items()
        for study in (kind, f"{kind}.languages")
        if study in run.findings
    ]
    return sections + ([common_section(run)] if COMMON in run.findings else [])


def region_answers(run: StoredRun) -> list[Answer]:
    """For the first screen: whether fields have places of their own."""
    whole = run.table(LOCALISATION, "shares")[:1]
    if not whole:
        return []
    record, fields = whole[0], run.table(LOCALISATION, "shares")[1:]
    alpha = run.setting("queries", "alpha", 0.05)
    shared = sum(each["p_holm"] < alpha for each in fields)
    regions = sum(each["p_index_holm"] < alpha for each in fields)
    found = record["p"] < alpha
    question = "Do fields have places of their own?"
    detail = (
        f"The fullest 1 % of the cells hold {record['share']:.0%} of a field's score, of a "
        f"shuffled field's {record['shuffled']:.0%} (p = {record['p']:.2g})."
    )
    if is_near_chance(run, LOCALISATION):
        return [Answer(question, NEAR_CHANCE, detail)]
    answer = f"{shared} of {len(fields)} fields; as regions of neighbours {regions}"
    tone = "mixed" if found or shared or regions else "no"
    return [Answer(question, answer, detail, "yes" if found and regions == len(fields) else tone)]


def _kind(study: str) -> str:
    """Short name of a study, for files."""
    return study.removeprefix("queries.").replace(".", "-")


def _published_table(run: StoredRun, study: str) -> Table:
    rows = [(r["figure"], r["ours"], r["published"]) for r in run.table(study, "published")]
    columns = ["figure", "this run", "Llama-2-7B-chat (published)"]
    return Table(columns, rows, "Beside the paper", sortable=False, name=f"{_kind(study)}-paper")


# ---- localisation


def localisation_section(run: StoredRun, study: str) -> Section:
    """Maps, profiles, and both tests."""
    by = BY[study]
    shown = bool(run.table(study, "shares"))
    return Section(
        f"Where the neurons of a {by} lie",
        f"The neurons that carry the answers of a {by} lie in a region of their own.",
        run.words(study),
        figures=[_shares_figure(run, study), _maps_figure(run, study), _profile_figure(run, study)]
        if shown
        else [],
        tables=[_shares_table(run, study), _published_table(run, study)] if shown else [],
        notes=[
            f"Shuffled: the names of the {by}s dealt anew to the queries, so many to each as "
            "before. Moved: every neuron at a random index of its layer. Only the second test is "
            "about regions; the first also finds queries that share single neurons.",
        ],
    )


def _shares_figure(run: StoredRun, study: str) -> Figure:
    rows: list[dict[str, Any]] = []
    for record in run.table(study, "shares"):
        rows += _found_and_shuffled(record, "share")
        if "scattered" in record:
            value, low, high = (record[f"scattered{end}"] for end in ("", "_low", "_high"))
            rows.append(
                {
                    "group": record["field"],
                    "condition": "moved",
                    "value": value,
                    "low": low,
                    "high": high,
                    "n": record["n"],
                }
            )
    return dot_intervals(
        rows,
        title="How localised",
        caption="Share of the score in the fullest 1 % of the map's cells. Shuffled and moved: "
        f"median, and where 95 % of the draws lie. {ALL}: mean over {BY[study]}s.",
        value_title="share of the score",
        percent=True,
        reference=None,
        name=_kind(study),
    )


def _found_and_shuffled(record: dict[str, Any], name: str) -> list[dict[str, Any]]:
    about = {"group": record["field"], "n": record["n"]}
    ends = {"low": record["shuffled_low"], "high": record["shuffled_high"]}
    return [
        {**about, "condition": "own", "value": record[name], "low": None, "high": None},
        {**about, "condition": "shuffled", "value": record["shuffled"], **ends},
    ]


def _maps_figure(run: StoredRun, study: str) -> Figure:
    grid = run.table(study, "grid")[0]
    fields = [record["field"] for record in run.table(study, "shares")[1:]]
    maps = {field: [[0.0] * grid["bins"] for _ in range(grid["layers"])] for field in fields}
    for cell in run.table(study, "maps"):
        maps[cell["field"]][cell["layer"]][cell["bin"]] = cell["score"]
    return layer_index_map(
        maps,
        title=f"Maps of the {BY[study]}s",
        caption=f"Sum of NA-ICA over the queries of a {BY[study]}; the darker, the more (square "
        f"root). The index is cut into {grid['bins']} bins.",
        n_neurons=grid["neurons"],
        name=f"{_kind(study)}-maps",
    )


def _profile_figure(run: StoredRun, study: str) -> Figure:
    rows = [
        {"series": r["field"], "layer": r["layer"], "value": r["share"]}
        for r in run.table(study, "profiles")
    ]
    return layer_lines(
        rows,
        title="Layers",
        caption=f"Share of each {BY[study]}'s score by layer.",
        value_title="share of the score",
        name=f"{_kind(study)}-layers",
    )


def _shares_table(run: StoredRun, study: str) -> Table:
    columns = [
        BY[study],
        Column("queries", "d"),
        Column("in the top 1 %", "percent", "share of the score in the fullest 1 % of the cells"),
        Column("shuffled", "percent", SHUFFLED_HELP),
        Column("p", "p"),
        Column("p (Holm)", "p", P_HELP),
        Column("moved", "percent", "the same neurons at random places of their layers"),
        Column("p, moved (Holm)", "p", P_HELP),
        "layers",
    ]
    rows = [
        (
            *(record["field"], record["n"], record["share"], _spread(record, "shuffled")),
            *(record["p"], record.get("p_holm"), _spread(record, "scattered")),
            record.get("p_index_holm"),
            f"{record['first_layer']} to {record['last_layer']}" if "p_holm" in record else None,
        )
        for record in run.table(study, "shares")
    ]
    return Table(
        columns,
        rows,
        "How localised; layers: where the middle half of the score lies",
        name=_kind(study),
    )


def _spread(record: dict[str, Any], name: str) -> Estimate | None:
    """A median with the ends of 95 % of its draws, as tables show intervals."""
    if name not in record:
        return None
    value, low, high = (record[f"{name}{end}"] for end in ("", "_low", "_high"))
    return Estimate(value, low, high, record["n"])


# ---- overlap


def overlap_section(run: StoredRun, study: str) -> Section:
    """The matrix with its chance level."""
    by = BY[study]
    shown = bool(run.table(study, "pairs"))
    return Section(
        f"What {by}s share",
        f"The neurons of a {by} are its own: two {by}s share few of them.",
        run.words(study),
        figures=[_overlap_figure(run, study)] if shown else [],
        tables=[
            _pairs_table(run, study),
            _sets_table(run, study),
            _published_table(run, study),
        ]
        if shown
        else [],
        notes=[
            "How much two sets share depends on how many queries they come from: the published "
            "range stands for scale, the shuffled one is the comparison.",
        ],
    )


def _overlap_figure(run: StoredRun, study: str) -> Figure:
    names = [record["field"] for record in run.table(study, "sets")]
    place = {name: i for i, name in enumerate(names)}
    values: list[list[float | None]] = [[None] * len(names) for _ in names]
    tips = [[name for _ in names] for name in names]
    outline = []
    alpha = run.setting("queries", "alpha", 0.05)
    for pair in run.table(study, "pairs"):
        a, b = place[pair["a"]], place[pair["b"]]
        values[b][a], values[a][b] = pair["overlap"], pair["shuffled"]
        found = f"{pair['a']} · {pair['b']}: {pair['shared']} shared, {pair['overlap']:.1%}"
        tips[b][a] = f"{found} (p = {pair['p_holm']:.2g}, Holm)"
        tips[a][b] = f"{pair['a']} · {pair['b']}, shuffled: {pair['shuffled']:.1%}"
        outline += [(b, a)] if pair["p_holm"] < alpha else []
    return annotated_heatmap(
        values,
        names,
        names,
        title=f"Shared neurons of two {BY[study]}s",
        caption="Share of the smaller set. Below the diagonal as found, framed where it differs "
        f"from shuffled {BY[study]}s (Holm); above it the median of the shuffled ones.",
        centre=None,
        limit=1.0,
        text="{:.0%}".format,
        tips=tips,
        outline=outline,
        name=_kind(study),
    )


def _pairs_table(run: StoredRun, study: str) -> Table:
    columns = [
        "a",
        "b",
        Column("neurons a", "d"),
        Column("neurons b", "d"),
        Column("shared", "d"),
        Column("of the smaller", "percent"),
        Column("shuffled", "percent", SHUFFLED_HELP),
        Column("p (Holm)", "p", f"{P_HELP}, two-sided"),
        Column("Jaccard", ".3f"),
        Column("Jaccard, shuffled", ".3f", "median"),
        Column("random neurons", "percent", "of the smaller, two random sets of these sizes"),
    ]
    rows = [
        (
            *(pair[key] for key in ("a", "b", "n_a", "n_b", "shared", "overlap")),
            _spread(pair | {"n": pair["shared"]}, "shuffled"),
            *(pair[key] for key in ("p_holm", "jaccard", "jaccard_shuffled", "random")),
        )
        for pair in run.table(study, "pairs")
    ]
    return Table(columns, rows, f"Every two {BY[study]}s", name=_kind(study))


def _sets_table(run: StoredRun, study: str) -> Table:
    columns = [BY[study], Column("queries", "d"), Column("neurons", "d")]
    rows = [(r["field"], r["queries"], r["neurons"]) for r in run.table(study, "sets")]
    caption = f"Neurons of all queries of a {BY[study]} together"
    return Table(columns, rows, caption, folded=True, name=f"{_kind(study)}-sets")


# ---- embedding


def embedding_section(run: StoredRun, study: str) -> Section:
    """The picture, and the separation in the full space."""
    by = BY[study]
    shown = bool(run.table(study, "separation"))
    figures = []
    if shown:
        colours = ("language", "field") if by == "language" else ("field",)
        figures = [_points_figure(run, study, colour) for colour in colours]
        figures.append(_separation_figure(run, study))
    return Section(
        f"Queries by their neurons, by {by}",
        f"Queries of one {by} use similar neurons, and lie apart from those of others.",
        run.words(study),
        figures=figures,
        tables=[_separation_table(run, study)] if shown else [],
        notes=[
            "The picture is t-SNE: near points are similar, far distances and the size of groups "
            "mean nothing. Every figure is computed in the space of all neurons.",
        ],
    )


def _points_figure(run: StoredRun, study: str, colour: str) -> Figure:
    points = run.table(study, "points")
    shaped = colour == "field" and 1 < len({point["language"] for point in points}) <= MOST_SHAPES
    rows = [
        {
            "x": point["x"],
            "y": point["y"],
            "colour": point[colour],
            "shape": point["language"] if shaped else "",
            "label": point["query"],
        }
        for point in points
    ]
    return scatter_embedding(
        rows,
        title=f"Queries, coloured by {colour}",
        caption="Every point is a query, placed by the scores of its neurons (t-SNE of cosine "
        "distances)" + ("; its shape is its language." if shaped else "."),
        name=f"{_kind(study)}-{colour}",
    )


def _separation_figure(run: StoredRun, study: str) -> Figure:
    records = run.table(study, "separation")
    return dot_intervals(
        [row for record in records for row in _found_and_shuffled(record, "silhouette")],
        title="Separation",
        caption="Silhouette in the space of all neurons: 1 is far apart, 0 as near to the next "
        f"{BY[study]} as to the own. Shuffled: median, and where 95 % of the shuffles lie.",
        value_title="silhouette",
        name=f"{_kind(study)}-separation",
    )


def _separation_table(run: StoredRun, study: str) -> Table:
    columns = [
        BY[study],
        Column("queries", "d"),
        Column("silhouette", ".3f"),
        Column("shuffled", ".3f", SHUFFLED_HELP),
        Column("p", "p"),
        Column("p (Holm)", "p", P_HELP),
    ]
    rows = [
        (
            *(record["field"], record["n"], record["silhouette"], _spread(record, "shuffled")),
            *(record["p"], record.get("p_holm")),
        )
        for record in run.table(study, "separation")
    ]
    return Table(columns, rows, "Separation in the space of all neurons", name=_kind(study))


# ---- common neurons


def common_section(run: StoredRun) -> Section:
    """Every common neuron with its tokens."""
    shown = bool(run.table(COMMON, "common"))
    columns = [
        "neuron",
        Column("clusters", "percent", "share of the coarse clusters that it is in"),
        Column("letter first", "", "an option's letter is its first token, at either end"),
        Column("raises", "", "tokens whose logits it raises most when it is positive"),
        Column("lowers", "", "tokens whose logits it lowers most"),
    ]
    keys = ("neuron", "share", "letter", "top", "bottom")
    rows = [tuple(record[key] for key in keys) for record in run.table(COMMON, "common")]
    return Section(
        "What common neurons say",
        "Neurons that serve questions of every field sit in the top layer and write the form of "
        "an answer, not its content.",
        run.words(COMMON),
        tables=[
            Table(columns, rows, f"Common neurons (n = {len(rows)})", name="common-tokens"),
            _published_table(run, COMMON),
        ]
        if shown
        else [],
        notes=["A gated neuron can be negative: then it speaks for the tokens that it lowers."],
    )
