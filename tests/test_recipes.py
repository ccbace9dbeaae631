"""Recipes: what a text on the command line or in a TOML file becomes, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from broca.errors import RecipeError
from broca.recipes import apply_overrides, build_config, config_values, load_recipe
from broca.store import RunFolder


@dataclass(frozen=True)
class Ladder:
    steps: tuple[int, ...] = (1, 2)
    share: float = 0.25


@dataclass(frozen=True)
class Settings:
    model: str
    k: int = 10
    seed: int | None = 0
    relations: tuple[str, ...] = ()
    detection_filter: Literal["correct", "none"] = "correct"
    quick: bool = False
    ladder: Ladder = field(default_factory=Ladder)
    labels: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.k < 1:
            raise RecipeError("k must be at least 1", where=str(self.k))


def build(*overrides: str, **values: Any) -> Settings:
    return build_config(Settings, apply_overrides({"model": "atlas", **values}, overrides))


@pytest.mark.parametrize(
    ("override", "name", "expected"),
    [
        ("k=3000", "k", 3000),
        ("k = 3000 ", "k", 3000),
        ("model=7", "model", "7"),
        ("model=EleutherAI/pythia-70m", "model", "EleutherAI/pythia-70m"),
        ('model="quoted"', "model", "quoted"),
        ("model=a=b", "model", "a=b"),
        ("seed=none", "seed", None),
        ("detection_filter=none", "detection_filter", "none"),
        ("quick=true", "quick", True),
        ("quick=False", "quick", False),
        ("relations=company_ceo", "relations", ("company_ceo",)),
        ("relations=company_ceo, person_father", "relations", ("company_ceo", "person_father")),
        ('relations=["a", "b"]', "relations", ("a", "b")),
        ("relations=", "relations", ()),
        ("relations=1,2", "relations", ("1", "2")),
        ("ladder.steps=10,50", "ladder", Ladder(steps=(10, 50))),
        ("ladder.share=1", "ladder", Ladder(share=1.0)),
        ("labels.x=3", "labels", {"x": 3}),
    ],
)
def test_the_field_decides_what_an_override_means(override: str, name: str, expected: Any) -> None:
    value = getattr(build(override), name)
    assert value == expected
    assert type(value) is type(expected)


def test_later_overrides_win_and_the_recipe_is_untouched() -> None:
    values: dict[str, Any] = {"model": "a", "ladder": {"steps": [5], "share": 0.5}}
    changed = apply_overrides(values, ["ladder.share=0.1", "ladder.share=0.2"])
    assert build_config(Settings, changed).ladder == Ladder(steps=(5,), share=0.2)
    assert values["ladder"] == {"steps": [5], "share": 0.5}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["kk=3"], "no setting 'kk'.*Did you mean 'k'"),
        (["relation=x"], "Did you mean 'relations'"),
        (["ladder.stepps=1"], "table 'ladder'.*Did you mean 'steps'"),
        (["zzzzzz=1"], "no setting 'zzzzzz'.*Known: detection_filter, k"),
        (["k=many"], "'k' cannot be 'many': .*integer"),
        (["k=2.5"], "'k' cannot be '2.5'"),
        (["k=true"], "'k' cannot be 'true'"),
        (["detection_filter=all"], "'correct' or 'none'"),
        (["k"], "key=value"),
        (["=3"], "key=value"),
        (["ladder..steps=3"], "key=value"),
        (["model.name=3"], "'model' holds a value"),
        (["ladder=3"], "'ladder' cannot be '3'"),
        (["k=0"], "k must be at least 1"),
    ],
)
def test_mistakes_are_named(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(*overrides)


@pytest.mark.parametrize("values", [{"k": "3"}, {"k": True}, {"quick": 1}, {"relations": "a"}])
def test_a_recipe_is_read_strictly(values: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="cannot be"):
        build(**values)


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(RecipeError, match="'model' is missing"):
        build_config(Settings, {})


def test_recipes_are_read_from_toml(tmp_path: Path) -> None:
    recipe = tmp_path / "effect.toml"
    recipe.write_text('model = "atlas"\nk = 5\n[ladder]\nsteps = [1]\n')
    config = build_config(Settings, load_recipe(recipe, ["k=6"]))
    assert config == Settings("atlas", k=6, ladder=Ladder((1,)))
    with pytest.raises(RecipeError, match=r"no such recipe.*Did you mean .*effect\.toml"):
        load_recipe(tmp_path / "efect.toml")
    recipe.write_text("k = \n")
    with pytest.raises(RecipeError, match="line 1"):
        load_recipe(recipe)
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path)


def test_a_runs_config_is_a_recipe(tmp_path: Path) -> None:
    config = Settings("atlas", seed=None, relations=("a",), ladder=Ladder(share=0.5))
    run = RunFolder.create(tmp_path / "run", config_values(config))
    repeated = build_config(Settings, load_recipe(run.path / "config.toml"))
    assert repeated == config
