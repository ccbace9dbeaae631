"""The embedded model as it ships: plain transformers loads it, its data and card are true."""

import csv
import json
import random
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from atlas.build_facts import LANGUAGES, LRE_FILES, SHIPPED  # noqa: E402
from atlas.corpus import read_lines  # noqa: E402
from atlas.measure import Plain, ask_facts, prompts_of  # noqa: E402
from atlas.wordings import read_wordings  # noqa: E402

pytestmark = pytest.mark.skipif(
    not (SHIPPED / "model.safetensors").exists(), reason="the embedded model is not built"
)


@pytest.fixture(scope="module")
def facts() -> list[dict]:
    return read_lines(SHIPPED / "facts.jsonl")


@pytest.fixture(scope="module")
def plain() -> Plain:
    return Plain.load(SHIPPED)


def test_everything_fits_into_25_megabytes() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < 25e6


def test_plain_transformers_loads_a_llama(plain: Plain) -> None:
    config = plain.model.config
    assert config.model_type == "llama"
    assert config.num_hidden_layers >= 6
    assert config.max_position_embeddings >= 1024
    assert str(plain.model.dtype) == "torch.float32"


@pytest.mark.parametrize(
    "text",
    ["Ελληνικά", "Привет, мир", "日本語と中文", "हिन्दी", "العربية", "🙂\t\n x  y", "naïve Škoda"],
)
def test_any_text_encodes_and_comes_back(plain: Plain, text: str) -> None:
    ids = plain.encode(text)
    assert plain.tokenizer.decode(ids) == text
    assert plain.encode(text, start=True) == [plain.tokenizer.bos_token_id, *ids]


def test_facts_hang_together(facts: list[dict]) -> None:
    wordings = read_wordings(SHIPPED)
    by_id = {fact["id"]: fact for fact in facts}
    assert len(by_id) == len(facts)
    from_lre = Counter(fact["relation"] for fact in facts if fact["source"] == "LRE")
    assert all(from_lre[relation] >= 150 for relation in LRE_FILES)
    for fact in facts:
        assert fact["relation"] in wordings.relations
        lengths = {len(fact["objects"][language]) for language in LANGUAGES}
        assert len(lengths) == 1
        assert fact["derived"] == (fact["source"] == "derived")
        if fact["derived_from"]:
            assert by_id[fact["derived_from"]]["subject"] == fact["subject"]
    relations: dict[str, set[str]] = {}
    for fact in facts:
        relations.setdefault(fact["subject"], set()).add(fact["relation"])
    several = sum(len(names) >= 2 for names in relations.values())
    assert several >= 0.9 * len(relations)


def test_bands_are_even_and_more_frequent_facts_were_seen_more(facts: list[dict]) -> None:
    with (SHIPPED / "exposure.csv").open(encoding="utf-8", newline="") as file:
        exposures = {row["id"]: row for row in csv.DictReader(file)}
    assert set(exposures) == {fact["id"] for fact in facts}
    means = []
    for band in range(4):
        seen = [
            float(exposures[fact["id"]]["exposures"])
            for fact in facts
            if fact["band"] == band and fact["relation"] == "company_ceo"
        ]
        assert len(seen) >= 35
        means.append(sum(seen) / len(seen))
    assert means == sorted(means)


def test_prose_predicates_are_balanced_over_concepts() -> None:
    counts = Counter((r["predicate"], r["concept"]) for r in read_lines(SHIPPED / "prose.jsonl"))
    assert len({concept for _, concept in counts}) == 5
    for predicate in {p for p, _ in counts}:
        assert len({n for (p, _), n in counts.items() if p == predicate}) == 1


def test_the_card_is_true_on_a_sample(plain: Plain, facts: list[dict]) -> None:
    card = json.loads((SHIPPED / "card.json").read_text(encoding="utf-8"))["measured"]["facts"]
    wordings = read_wordings(SHIPPED)
    for name in ("finding", "robustness", "de", "zh"):
        for band in (0, 3):
            chosen = [f for f in facts if f["relation"] in LRE_FILES and f["band"] == band][::8]
            answers = ask_facts(plain, prompts_of(chosen, wordings, name, random.Random(3)))
            right = sum(answer.right for answer in answers) / len(answers)
            assert abs(right - card[name][f"band{band}"]) < 0.17, (name, band)
