"""No file and no option ends in a traceback: every mistake is a sentence, exit code 2 (or 1).

Each file kind starts from a valid file, which is mutated; files of pure noise are tried as well.
Models are never loaded: a run that gets so far ends there. The long versions, about
ten minutes of one idle core together, are marked slow.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broca.cli import run_cli
from broca.errors import BrocaError, ModelError
from broca.model import LanguageModel
from broca.store import RunFolder

FACTS = [
    {"subject": f"{r}{i}", "relation": r, "object": f"o{i}", "band": 1, "exposure": 0.5}
    for r in ("a", "b")
    for i in range(30)
]
TEMPLATES = '[a]\ntemplates = ["{} a"]\nfield = "f"\n[b]\ntemplates = ["{} b"]\n'
LRE = {
    "name": "a",
    "prompt_templates": ["{} is"],
    "prompt_templates_zs": ["{} is"],
    "properties": {"domain_name": "x", "range_name": "y"},
    "samples": [{"subject": f"s{i}", "object": f"o{i}"} for i in range(30)],
}
QUESTIONS = [
    {"id": f"q{i}", "question": f"{i}?", "options": ["x", "y"], "answer": "x", "field": "fg"[i % 2]}
    for i in range(6)
]
ASKED = {
    f"q{i}": {
        "sentences": [f"{i}?\n A. x\n B. y\nAnswer:"],
        "obj_label": ["A"],
        "relation_name": "fg"[i % 2],
    }
    for i in range(4)
}
SET = {
    "format": "broca.neuron-set",
    "version": 1,
    "name": "a",
    "model": {"id": "m", "fingerprint": "f", "n_layers": 2, "widths": {"hidden": 4}},
    "method": "expertise",
    "settings": {"k": 3},
    "data_hash": "d",
    "site": ["hidden", "hidden"],
    "layer": [0, 1],
    "index": [1, 2],
    "score": [0.5, None],
}
RECIPE = (
    'studies = ["relations.intra"]\nmodel = "atlas"\nfacts = "facts.jsonl"\nk = 3\nalpha = 0.1\n'
)


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def table(rows: list[dict[str, Any]], separator: str = ",") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=separator)
    writer.writeheader()
    for row in rows:
        writer.writerow({k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()})
    return text.getvalue().encode()


def parquet(rows: list[dict[str, Any]], metadata: dict[bytes, bytes] | None = None) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(metadata), sink)
    return sink.getvalue()


def run_of(family: str, *options: str) -> list[str]:
    study = "relations.intra" if family == "relations" else "queries.find"
    Path("recipe.toml").write_text(f'studies = ["{study}"]\n')
    sets = [word for option in options for word in ("--set", option)]
    return ["run", "recipe.toml", "--out", "out", *sets]


BUILD = 'mapping = "map.toml"\nsource = "data"\n'
MAP = 'kind = "choice"\nanswer_kind = "auto"\n[columns]\nquestion = "question"\n'
FILES: dict[str, tuple[bytes, Callable[[], list[str]]]] = {
    "facts.jsonl": (lines(FACTS), lambda: run_of("relations", "facts=facts.jsonl")),
    "facts.csv": (table(FACTS), lambda: run_of("relations", "facts=facts.csv")),
    "facts.tsv": (table(FACTS, "\t"), lambda: run_of("relations", "facts=facts.tsv")),
    "lre/a.json": (json.dumps(LRE).encode(), lambda: run_of("relations", "facts=lre")),
    "templates.toml": (
        TEMPLATES.encode(),
        lambda: run_of("relations", "facts=kept.jsonl", "templates=templates.toml"),
    ),
    "q.jsonl": (lines(QUESTIONS), lambda: run_of("queries", "questions=q.jsonl")),
    "q.csv": (table(QUESTIONS), lambda: run_of("queries", "questions=q.csv")),
    "q.tsv": (table(QUESTIONS, "\t"), lambda: run_of("queries", "questions=q.tsv")),
    "q.json": (json.dumps(ASKED).encode(), lambda: run_of("queries", "questions=q.json")),
    "recipe.toml": (RECIPE.encode(), lambda: ["run", "recipe.toml", "--out", "out"]),
    "build.toml": (BUILD.encode(), lambda: ["build", "questions", "build.toml"]),
    "map.toml": (MAP.encode(), lambda: ["build", "questions", "build.toml"]),
    "data/q.parquet": (parquet(QUESTIONS), lambda: ["build", "questions", "build.toml"]),
    "data/q.json": (json.dumps(QUESTIONS).encode(), lambda: ["build", "questions", "build.toml"]),
    "set.json": (json.dumps(SET).encode(), lambda: ["ask", "hello", "--off", "set.json"]),
    "carriers.txt": (
        lines([{"kind": "city", "text": "In {} it rains"}, {"kind": "city", "text": "To {}"}]),
        lambda: ["run", "general.toml", "--out", "out", "--set", "carriers=carriers.txt"],
    ),
    "frequencies.csv": (
        b"id,count\na:a1,3\n",
        lambda: ["run", "often.toml", "--out", "out", "--set", "frequencies=frequencies.csv"],
    ),
}  # fmt: skip

NASTY = (
    b"\x00", b"\xff\xfe", b"NaN", b"1e999", b"-1", b"null", b"true", b'"', b"{", b"[", b"]", b"}",
    b",", b"\n", b"=", b"1" * 5000, b"[" * 10_000, b"{" * 3000, b'{"a":' * 3000,
    b"a." * 3000 + b"a = 1\n", b"\\ud800", b"{}", b"\r", b"\xe2\x80\xa8", b"x" * 140_000, b"''",
    b'"""', b"[[", b"1979-05-27",
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid file with up to four places changed, or noise."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        data[start:end] = draw(st.sampled_from(NASTY) | st.binary(max_size=4))
    return bytes(data)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every valid file stands."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "data").mkdir()
    (folder / "lre").mkdir()
    (folder / "lre" / "b.json").write_text(json.dumps(LRE))
    for name, (valid, _) in FILES.items():
        (folder / name).write_bytes(valid)
    (folder / "kept.jsonl").write_bytes(lines(FACTS))
    for name, study in (("general", "general"), ("often", "resilience")):
        recipe = f'studies = ["relations.{study}"]\nfacts = "kept.jsonl"\ntemplates = "t.toml"\n'
        (folder / f"{name}.toml").write_text(recipe)
    (folder / "t.toml").write_text(TEMPLATES)
    return folder


@pytest.fixture
def no_model(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gets as far as loading a model is done."""

    def stop(*_: object, **__: object) -> None:
        raise ModelError("no model here")

    monkeypatch.setattr(LanguageModel, "from_pretrained", stop)
    monkeypatch.chdir(place)


def try_command(arguments: list[str]) -> int:
    """Run a command; whatever it raises beside the words it says is a failure of the test."""
    try:
        return run_cli(arguments)
    finally:
        shutil.rmtree("out", ignore_errors=True)
        Path("build.jsonl").unlink(missing_ok=True)


def fuzz_file(name: str, data: bytes) -> None:
    valid, command = FILES[name]
    arguments = command()
    Path(name).write_bytes(data)
    try:
        assert try_command(arguments) in (0, 2)
    finally:
        Path(name).write_bytes(valid)


def short(examples: int) -> Any:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("name", FILES)
def test_valid_files_reach_the_model(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    valid, command = FILES[name]
    arguments = command()
    Path(name).write_bytes(valid)
    code = try_command(arguments)
    said = capsys.readouterr().err
    assert (code == 0) if arguments[0] == "build" else ("no model here" in said), said


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("name", FILES)
@short(4)
@given(data=st.data())
def test_no_file_ends_in_a_traceback(name: str, data: st.DataObject) -> None:
    fuzz_file(name, data.draw(mutated(FILES[name][0])))


@pytest.mark.slow
@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("name", FILES)
@short(200)
@given(data=st.data())
def test_no_file_ends_in_a_traceback_long(name: str, data: st.DataObject) -> None:
    fuzz_file(name, data.draw(mutated(FILES[name][0])))


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("nasty", [b"[" * 10_000, b"{" * 10_000, b"a=" + b"[" * 10_000, b"\xff"])
@pytest.mark.parametrize("name", FILES)
def test_deep_and_foreign_files(name: str, nasty: bytes) -> None:
    fuzz_file(name, nasty)


# --- options -----------------------------------------------------------------------------------

VALUES = (
    "", "-1", "0", "nan", "inf", "-inf", "1e999", "2", "true", "none", "x" * 5000, "\u2028", "a\0b",
    "[", "{}", "[1,", "../..", "/", ".", "1" * 5000, "\udcff", "=", ",", "a=b", "[" * 5000, "💥",
)  # fmt: skip
OPTIONS: dict[str, tuple[str, ...]] = {
    "run": ("RECIPE", "--model", "--facts", "--set", "--out", "--dry-run"),
    "find relations": ("--model", "--facts", "--relation", "--top", "--sites", "--set", "--out"),
    "find queries": ("--model", "--questions", "--column", "--top", "--set", "--out"),
    "ask": ("PROMPT", "--model", "--off", "--scale", "--factor", "--top", "--tokens", "--dtype"),
    "neuron": ("NEURON", "--model", "--run", "--facts", "--questions", "--prompts", "--top"),
    "edit": ("--save", "--model", "--fact", "--facts", "--off", "--scale", "--factor", "--set"),
    "inspect": ("--model", "--revision", "--dtype", "--device_map"),
    "report": ("RUN", "--out"),
    "check": ("RUN",),
    "ls": ("ROOT",),
    "build questions": ("RECIPE", "--out"),
    "demo": ("--out",),
}
FLAGS = ("--dry-run", "--accept", "--again", "--chat-template", "--version", "--help")


def command_of(words: str, options: list[tuple[str, str]]) -> list[str]:
    arguments = words.split()
    for name, value in options:
        arguments += [value] if name.isupper() else [name] if name in FLAGS else [name, value]
    return arguments


def commands(known: dict[str, tuple[str, ...]]) -> st.SearchStrategy[list[str]]:
    settings_names = st.sampled_from(
        ["k", "alpha", "seed", "negatives", "sites", "facts", "questions", "columns", "ladder", "v"]
    )
    plain = st.sampled_from(VALUES) | st.text(max_size=6) | st.sampled_from(list(FILES))
    values = plain | st.builds("{}={}".format, settings_names, plain)
    return st.sampled_from(list(known)).flatmap(
        lambda words: st.lists(st.tuples(st.sampled_from(known[words]), values), max_size=4).map(
            lambda options: command_of(words, options)
        )
    )


@pytest.mark.usefixtures("no_model")
@short(60)
@given(arguments=commands(OPTIONS))
def test_no_option_ends_in_a_traceback(arguments: list[str]) -> None:
    assert try_command(arguments) in (0, 1, 2)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("words", ["build questions", "run", "report", "check"])
def test_an_empty_path_is_no_file(words: str) -> None:
    assert try_command([*words.split(), ""]) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("no_model")
@short(1500)
@given(arguments=commands(OPTIONS))
def test_no_option_ends_in_a_traceback_long(arguments: list[str]) -> None:
    assert try_command(arguments) in (0, 1, 2)


# --- what runs leave ---------------------------------------------------------------------------


def make_run(folder: Path) -> RunFolder:
    with RunFolder.begin(folder, {"studies": ["relations.intra"], "model": "atlas"}) as run:
        run.write_environment({"model": "atlas", "fingerprint": "f", "versions": {"broca": "1"}})
        run.rows.append([{"condition": "c", "prompt": "p", "log_p": -1.0}])
        run.write_json("prompts.json", {"p": {"text": "x", "answers": ["y"], "fact": "f"}})
        run.write_json("findings.json", {"relations.intra": {"words": [], "tables": {}}})
        run.write_summary({"seconds": 1.0})
        (run.path / "sets").mkdir(exist_ok=True)
        (run.path / "sets" / "a.json").write_text(json.dumps(SET))
        run.finish()
    return run


def fuzz_run(data: st.DataObject) -> None:
    place = Path("damaged")
    shutil.rmtree(place, ignore_errors=True)
    run = make_run(place)
    files = sorted(file for file in place.rglob("*") if file.is_file())
    for file in data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=3)):
        if file.exists():
            valid = file.read_bytes()
            noise = data.draw(st.none() | mutated(valid))
            file.unlink() if noise is None else file.write_bytes(noise)
    for words in (["ls", "."], ["check", "damaged"], ["report", "damaged", "--out", "page.html"]):
        assert run_cli(words) in (0, 1, 2)
    assert run_cli(["neuron", "hidden:0:1", "--run", "damaged"]) == 2
    assert run_cli(["run", "damaged/config.toml", "--out", "damaged"]) == 2
    settings_then = {"studies": ["relations.intra"], "model": "atlas"}
    with suppress(BrocaError), RunFolder.begin(place, settings_then) as again:
        again.rows.finished()
        again.write_environment({"model": "atlas", "fingerprint": "f"})
    assert run.path == place


@pytest.mark.usefixtures("no_model")
@short(15)
@given(data=st.data())
def test_no_damaged_run_ends_in_a_traceback(data: st.DataObject) -> None:
    fuzz_run(data)


@pytest.mark.usefixtures("no_model")
def test_a_run_that_does_not_name_its_model(capsys: pytest.CaptureFixture[str]) -> None:
    make_run(Path("nameless"))
    assert run_cli(["report", "nameless", "--out", "page.html"]) == 2
    said = capsys.readouterr().err
    assert "architecture, n_layers, parameters missing" in said, said


@pytest.mark.slow
@pytest.mark.usefixtures("no_model")
@short(300)
@given(data=st.data())
def test_no_damaged_run_ends_in_a_traceback_long(data: st.DataObject) -> None:
    fuzz_run(data)
