"""docs/findings.md: its tables, and figures around them, are those of the committed files."""

from __future__ import annotations

import json
import re
import shlex
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest

from broca.recipes import load_recipe
from broca.run import read_job

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGE = (DOCS / "findings.md").read_text(encoding="utf-8")
LOCATORS = (DOCS / "locators.md").read_text(encoding="utf-8")


def kept(name: str) -> dict[str, Any]:
    return json.loads((DOCS / "findings" / f"{name}.json").read_text(encoding="utf-8"))


def tenths(value: float) -> str:
    """One digit; the files hold four, so that a 5 behind it was rounded already."""
    return str(Decimal(str(value)).quantize(Decimal("0.1"), ROUND_HALF_UP))


def percent(value: float, digits: int = 1) -> str:
    shown = f"{100 * value:+.{digits}f}".replace("-", "−")
    return "0.0" if float(shown.replace("−", "-")) == 0 else shown


def with_ends(figures: dict[str, Any], name: str) -> str:
    low, high = (percent(figures[f"{name}.{end}"]) for end in ("low", "high"))
    return f"{percent(figures[name])} % [{low}, {high}]"


FILES = sorted(path.stem for path in (DOCS / "findings").glob("*.json"))
UNCHANGED = {
    "k_doubling": 0,  # k was chosen by the gain alone
    "n_orders": 1,  # of a study these runs lack, as are the next two
    "n_active": 5,
    "n_truth": 12,
    "positions": "answer",
    "replacement": "zero",
    "merge_adapter": True,  # there is none
    "smallest_points": 0.05,
}
"""Settings that came after some runs, at the value that gives what these computed."""
QUICK = {"n_active": 0, "n_matched_whole": 20, "n_null": 20}
"""Of the earliest run: every matched set was asked every one of its 12 facts, and no other was."""
GONE = {"match": "auto"}  # of query studies, which compare whole answers in words


def commanded(command: str) -> dict[str, Any]:
    """Settings of the run that a command starts, as its config.toml holds them; files by name."""
    broca, run, recipe, *options = shlex.split(command)
    assert (broca, run) == ("broca", "run")
    given = zip(options[::2], options[1::2], strict=True)
    overrides = [value if name == "--set" else f"{name[2:]}={value}" for name, value in given]
    config = read_job(load_recipe(ROOT / recipe, overrides)).as_config()
    return {
        key: Path(value).name if key in ("model", "questions") else value
        for key, value in json.loads(json.dumps(config)).items()
    }


@pytest.mark.parametrize("name", FILES)
def test_the_command_gives_the_settings(name: str) -> None:
    """What a recipe or a default has become since cannot pass for what was run."""
    file = kept(name)
    now = commanded(file["command"])
    assert now.pop("model") == file["environment"]["model"]
    settings = {k: v for k, v in file["settings"].items() if k not in GONE or k in now}
    assert {k: v for k, v in file["settings"].items() if k not in settings}.items() <= GONE.items()
    assert not settings.keys() & file["later"].keys()
    assert settings | file["later"] == now
    unchanged = UNCHANGED | (QUICK if name == "smollm2-relations-quick" else {})
    if settings.get("k") != "auto":  # then nothing is chosen
        unchanged = {**unchanged, "k_doubling": now.get("k_doubling")}
    assert file["later"].items() <= unchanged.items()


@pytest.mark.parametrize("name", FILES)
def test_every_setting_of_a_command_stands_on_the_page(name: str) -> None:
    """The page names each setting that a command lays over its recipe."""
    for page in (PAGE, LOCATORS):
        if f"(findings/{name}.json)" in page:
            command = shlex.split(kept(name)["command"])
            given = [command[at + 1] for at, word in enumerate(command) if word == "--set"]
            missing = [one for one in given if one.partition("=")[0] not in page]
            assert not missing
            break
    else:
        raise AssertionError(f"no page links {name}.json")


@pytest.mark.parametrize("name", ["smollm2-words", "gemma3-words"])
@pytest.mark.parametrize("method", ["na-ica", "na", "random"])
def test_rows_of_query_neurons(name: str, method: str) -> None:
    figures = kept(name)["figures"]
    at = f"queries.{method}.suppress"
    cells = [with_ends(figures, f"{at}.{what}") for what in ("related", "same", "unrelated")]
    pcr, low, high = (figures[f"{at}.pcr{end}"] for end in ("", ".low", ".high"))
    cells.append("unbounded" if high is None else f"{tenths(pcr)} [{tenths(low)}, {tenths(high)}]")
    assert f"| {' | '.join(cells)} |" in PAGE


@pytest.mark.parametrize("name", ["smollm2-relations", "gemma3-effect"])
def test_rows_of_relations(name: str) -> None:
    for one in kept(name)["tables"]["drops"]:
        row = (
            f"| {one['relation']} | {one['right']} of {one['n']} | {100 * one['own_drop']:.0f} % | "
            f"{100 * one['matched_drop']:.0f} % | {one['log_p_drop']:.1f} | "
            f"{one['log_p_matched_drop']:.1f} |"
        )
        assert row in PAGE


def test_no_other_rows_of_relations() -> None:
    tables = [kept(name)["tables"] for name in ("smollm2-relations", "gemma3-effect")]
    n_rows = len(re.findall(r"^\| \w+ \| \d+ of \d+ \|", PAGE, re.MULTILINE))
    assert n_rows == sum(len(table["drops"]) for table in tables)


def test_rows_of_doses() -> None:
    both = [kept(name)["tables"]["curve"] for name in ("smollm2-claims", "gemma3-claims")]
    shown = [pair for pair in zip(*both, strict=True) if pair[0]["k"] > 50]
    for pair in shown:
        share = 100 * pair[0]["share"]
        cells = [f"{share:.1f} %" if share >= 1 else f"{share:.2f} %"]
        cells += [
            f"{100 * one[what]:.0f} %"
            for one in pair
            for what in ("own_drop", "other_drop", "uniform_drop")
        ]
        assert f"| {' | '.join(cells)} |" in PAGE
    assert len(shown) == len(re.findall(r"^\| [\d.]+ % \|", PAGE, re.MULTILINE))


@pytest.mark.parametrize(("at", "name"), [(0, "smollm2-claims"), (1, "gemma3-claims")])
def test_claims_of_real_models(at: int, name: str) -> None:
    words, figures = kept(name)["words"], kept(name)["figures"]
    lost = re.search(
        r"Of (\d+) answers.* (\d+) are lost when", " ".join(words["relations.cumulativity"])
    )
    assert lost is not None
    assert f"{lost[2]} of {lost[1]} ({['SmolLM2', 'Gemma'][at]})" in PAGE
    ((pairs, of),) = re.findall(
        r"(\d+) of (\d+) pairs share", " ".join(words["relations.versatility"])
    )
    assert of == "66"
    said = re.search(r"Versatility: rare\.\*\* (\d+) and (\d+) of 66", PAGE)
    assert said is not None
    assert said[at + 1] == pairs
    assert figures["effect.selectivity"] == pytest.approx(0.65, abs=0.005)


def test_forms_and_sizes_of_sets() -> None:
    tables = kept("smollm2-relations")["tables"]
    forms = {(one["form"], one["relation"]): one for one in tables["forms"]}
    whole = forms["few-shot", ""]
    assert f"{whole['right_shown']} of its {whole['right']} right answers stood" in PAGE
    for relation, called in (
        ("landmark_continent", "continents"),
        ("landmark_country", "countries"),
    ):
        one = forms["few-shot", relation]
        assert f"for {called} {one['right_shown']} of {one['right']}" in PAGE
    for one in tables["k"]:
        own, matched, other = (f"{100 * one[c]:.0f} %" for c in ("own", "matched", "other"))
        said = re.search(rf"{one['k']:,} (?:neurons )?cost {own}[^(]*\(([^)]*)\)", PAGE)
        assert said is not None
        assert [matched, other] == re.findall(r"\d+ %", said[1])


def test_one_layer_near_the_ceiling() -> None:
    (layer,) = (
        one for one in kept("smollm2-words")["tables"]["ceilings"] if one["off"] == "layer 0"
    )
    assert f"costs {-100 * layer['change']:.0f} %: the ceiling is near" in PAGE


def test_answers_that_may_be_copied() -> None:
    parts = {}
    for name in ("smollm2-words", "gemma3-words"):
        for one in kept(name)["tables"]["copied"]:
            parts.setdefault(one["answer"], []).append(one)
    shown, named, neither = (parts[kind] for kind in ("shown", "in the subject", "neither"))
    assert f"{shown[0]['n']} of the 80 answers of SmolLM2 and {shown[1]['n']} of Gemma's 79" in PAGE
    assert f"{named[0]['n']} and {named[1]['n']} more in the subject" in PAGE
    losses = " and ".join(
        f"{-100 * one['value']:.0f} % [{-100 * one['high']:.0f}, {-100 * one['low']:.0f}]"
        for one in neither
    )
    assert f"the other {neither[0]['n']} and {neither[1]['n']} answers lose {losses}" in PAGE


def test_why_others_lose_more_than_a_tenth() -> None:
    models = [
        {one["shared"]: one for one in kept(name)["tables"]["sharing"]}
        for name in ("smollm2-words", "gemma3-words")
    ]
    for shared in ("some", "none"):
        losses = " and ".join(
            f"{-100 * one[shared]['value']:.0f} % "
            f"[{-100 * one[shared]['high']:.0f}, {-100 * one[shared]['low']:.0f}]"
            for one in models
        )
        assert losses in PAGE
    times = " and ".join(
        f"{tenths(one['none']['pcr'])} [{tenths(one['none']['pcr_low'])}, "
        f"{tenths(one['none']['pcr_high'])}]"
        for one in models
    )
    assert f"own / others is {times}" in PAGE
    pairs = " and ".join(
        f"{one['some']['n']} of {sum(x['n'] for x in one.values())}" for one in models
    )
    assert pairs in PAGE


def test_languages_that_were_left_out() -> None:
    names = {"en": "English", "de": "German", "es": "Spanish", "fr": "French", "zh": "Chinese"}
    names["ja"] = "Japanese"
    table = kept("gemma3-relations")["tables"]["asked_in"]
    listed = [f"{one['right']} in {names[one['language']]}" for one in table]
    listed[0] = listed[0].replace(" in", " rightly in")
    assert f"{', '.join(listed[:-1])} and {listed[-1]}" in PAGE
    assert {one["n"] for one in table} == {60}


def test_chinese_and_japanese() -> None:
    said = kept("gemma3-languages")["words"]["relations.languages"][0]
    found = re.search(r"zh (-?\d+)%, ja (-?\d+)% .* matched random ones (-?\d+)%", said)
    assert found is not None
    zh, ja, matched = (one.replace("-", "−") for one in found.groups())
    assert f"In Chinese {zh} %, in Japanese {ja} %, matched random ones {matched} %" in PAGE


def test_what_chat_answers_begin_with() -> None:
    firsts = {one["form"]: one for one in kept("smollm2-relations")["tables"]["first_words"]}
    chat = firsts["chat"]
    assert f'{chat["n"]} of the {chat["of"]} answers begin with "{chat["word"]}"' in PAGE


def test_letters_of_gemma() -> None:
    asked = kept("gemma3-letters")["tables"]["asked"]
    right, n = (sum(one[key] for one in asked) for key in ("right", "n"))
    assert f"in {right} of the same {n}, {100 * right / n:.0f} %" in PAGE


def figure(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def interval(record: dict[str, Any], name: str) -> str:
    star = " ★" if record.get(f"{name}_wins") else ""
    low, high = figure(record[f"{name}_low"]), figure(record[f"{name}_high"])
    return f"{figure(record[name])}{star} [{low}, {high}]"


def test_rows_of_locators_on_a_real_model() -> None:
    tables = kept("smollm2-locators")["tables"]
    joint, injected = ({one["title"]: one for one in tables[n]} for n in ("areas", "recalls"))
    for one in tables["locators"]:
        area, recall = joint[one["title"]], injected[one["title"]]
        cells = (
            one["title"].replace(", the paper's rule", ""),
            f"{figure(one['spearman'])} [{figure(one['spearman_low'])}, "
            f"{figure(one['spearman_high'])}]",
            interval(one, "recall"),
            interval(area, "area_own"),
            figure(area["area_other"]),
            interval(recall, "layer_0"),
            interval(recall, "global_0"),
            figure(one["seconds"]),
        )
        assert f"| {' | '.join(cells)} |" in LOCATORS


def test_rows_of_relation_locators_on_a_real_model() -> None:
    for one in kept("smollm2-locators-relations")["tables"]["apart"]:
        plain = {**one, "own_wins": False, "apart_wins": False}
        cells = (
            str(one["k"]),
            one["title"],
            interval(plain, "own"),
            figure(one["other"]),
            interval(plain, "apart"),
        )
        assert f"| {' | '.join(cells)} |" in LOCATORS
