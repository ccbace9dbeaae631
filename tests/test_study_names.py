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


def rooms(study: str) -> tuple[Path, Path]:
    """Where a study and its report stand."""
    family, _, rest = study.partition(".")
    file = f"{rest.partition('.')[0].replace('-', '_')}.py"
    return tuple(ROOT / "src/broca" / place / family / file for place in ("studies", "report"))


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_stands_in_files_of_its_name(study: str) -> None:
    for file in rooms(study):
        assert file.is_file(), file
    assert find_report(study) is not None


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_has_a_recipe_of_its_name(study: str) -> None:
    family, _, rest = study.partition(".")
    recipe = load_recipe(ROOT / "recipes" / family / f"{rest.partition('.')[0]}.toml")
    beginning = f"{family}.{rest.partition('.')[0]}"
    assert any(name.startswith(beginning) for name in recipe["studies"])
    assert read_job(recipe).studies


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
