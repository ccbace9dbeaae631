"""Write `prose.jsonl` (neutral sentences about subjects of the facts) and `carriers.jsonl`.

    python -m atlas.build_prose

Prose serves to find the neurons of a concept (person, company, place, product, star) with
predicates that say nothing about the relations: every predicate occurs equally often with every
concept. Carriers are unrelated sentences for the objects, in which the perplexity of an object
can be measured.
"""

import argparse
import json
import random
import tomllib
from pathlib import Path

from atlas.build_facts import SHIPPED, TABLES

CONCEPTS = ("person", "company", "place", "product", "star")


def build_prose(
    subjects: dict[str, list[str]], seed: int, per_concept: int
) -> list[dict[str, str]]:
    """Each chosen subject with eight of the twelve predicates, turning from one to the next."""
    predicates = tomllib.loads((TABLES / "prose.toml").read_text(encoding="utf-8"))["predicates"]
    names = list(predicates)
    rng = random.Random(seed)
    records = []
    for concept in CONCEPTS:
        for number, subject in enumerate(rng.sample(subjects[concept], per_concept)):
            for step in range(8):
                predicate = names[(number + step) % len(names)]
                text = predicates[predicate][(number // len(names) + step) % 2].format(subject)
                records.append(
                    {
                        "concept": concept,
                        "subject": subject,
                        "predicate": predicate,
                        "text": text,
                        "language": "en",
                    }
                )
    return records


def build_carriers() -> list[dict[str, str]]:
    carriers = tomllib.loads((TABLES / "prose.toml").read_text(encoding="utf-8"))["carriers"]
    return [{"kind": kind, "text": text} for kind, texts in carriers.items() for text in texts]


def write_lines(path: Path, records: list[dict[str, str]]) -> None:
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--per-concept", type=int, default=60)
    options = parser.parse_args()
    templates = tomllib.loads((SHIPPED / "templates.toml").read_text(encoding="utf-8"))
    subjects: dict[str, list[str]] = {concept: [] for concept in CONCEPTS}
    for line in (SHIPPED / "facts.jsonl").read_text(encoding="utf-8").splitlines():
        fact = json.loads(line)
        members = subjects[templates[fact["relation"]]["concept"]]
        if fact["subject"] not in members:
            members.append(fact["subject"])
    prose = build_prose(subjects, options.seed, options.per_concept)
    write_lines(SHIPPED / "prose.jsonl", prose)
    write_lines(SHIPPED / "carriers.jsonl", build_carriers())
    print(f"{len(prose)} sentences, {len(build_carriers())} carriers")


if __name__ == "__main__":
    main()
