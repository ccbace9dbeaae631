"""One study, one name, one room: a study is found by its name in all four places."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from broca.recipes import load_recipe
from broca.report.parts.study import find_report
from broca.run import read_job
from broca.studies import FAMILIES, load_family

ROOT = Path(__file__).parent.parent
STUDIES = [name for family in FAMILIES for name in load_family(family).studies]

TOY_STUDY = '''
"""Toy: how many relations are there? Claim: more than none."""

from broca.studies.study import Findings


class Toy:
    name = "relations.toy"

    def plan(self, material, bench):
        return material.plan(material.groups)

    def summarise(self, material, results):
        return Findings({"toy.relations": len(material.names)}, words=["A toy was played with."])


STUDIES = (Toy(),)
'''
TOY_REPORT = '''
"""The toy on the page."""

from broca.report.page import Section
from broca.report.parts.study import StudyReport

REPORT = StudyReport(lambda run, study: [Section("A toy", text=run.words(study))])
'''


def rooms(study: str) -> tuple[Path, Path, Path, Path]:
    """Where a study, its report, its recipe and its tests stand."""
    family, _, rest = study.partition(".")
    name = rest.partition(".")[0]
    file = name.replace("-", "_")
    return (
        ROOT / "src/broca/studies" / family / f"{file}.py",
        ROOT / "src/broca/report" / family / f"{file}.py",
        ROOT / "recipes" / family / f"{name}.toml",
        ROOT / "tests/studies" / f"test_{family}_{file}.py",
    )


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_stands_in_files_of_its_name(study: str) -> None:
    for file in rooms(study):
        assert file.is_file(), file
    assert find_report(study) is not None


@pytest.mark.parametrize("study", STUDIES)
def test_the_recipe_of_a_study_names_it(study: str) -> None:
    recipe = load_recipe(rooms(study)[2])
    beginning = ".".join(study.split(".")[:2])
    assert any(name.startswith(beginning) for name in recipe["studies"])
    assert read_job(recipe).studies


@pytest.mark.parametrize("family", FAMILIES)
def test_every_page_is_of_a_study_or_of_what_its_family_introduces(family: str) -> None:
    pages = {
        path.stem
        for path in (ROOT / "src/broca/report" / family).glob("*.py")
        if "\nREPORT = " in path.read_text(encoding="utf-8")
    }
    named = {rooms(study)[1].stem for study in STUDIES if study.startswith(f"{family}.")}
    assert pages - named <= {"forms"}


def test_a_new_study_is_new_files_and_nothing_else(tmp_path: Path) -> None:
    """A copy of the package gets a toy study by two files; a run of it shows it."""
    import shutil

    package = tmp_path / "src" / "broca"
    shutil.copytree(ROOT / "src/broca", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "studies/relations/toy.py").write_text(TOY_STUDY)
    (package / "report/relations/toy.py").write_text(TOY_REPORT)
    script = f"""
import sys
sys.path[:0] = [{str(tmp_path / "src")!r}, {str(ROOT / "tests")!r}]
from pathlib import Path
import broca
assert broca.__file__.startswith({str(tmp_path)!r}), broca.__file__
from broca.run import execute, read_job
from planted import planted_world
from planted_files import QUICK, write_planted_facts
facts = write_planted_facts(Path({str(tmp_path)!r}) / "facts", ("father", "mother", "ceo"))
job = read_job({{**QUICK, "facts": str(facts), "studies": ["relations.toy"]}})
run = execute(job, Path({str(tmp_path)!r}) / "run", model=planted_world().language_model())
assert run.summary["toy.relations"] == 3
assert "A toy was played with." in (run.path / "report.html").read_text(encoding="utf-8")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert not done.returncode, done.stderr[-2000:]
