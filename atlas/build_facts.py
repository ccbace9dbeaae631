"""Build `facts.jsonl`, the facts that the embedded model knows, from the LRE data set.

    python -m atlas.build_facts LRE_FACTUAL_FOLDER

LRE (Hernandez et al. 2024, MIT licence) gives subject and object of twelve relations. Its templates
are not used. This file

1. chooses about 170 subjects per relation, with a ceiling per object: no answer dominates;
2. derives further facts of the same subjects from tables beside it (`tables/`), because a relation
   only matters to a model where one subject stands in several: a landmark's continent follows from
   its country, a player's sport from the position, a company's country from its headquarters' city
   (for companies of which LRE gives only the chief executive, the country is a hand-written fact);
3. translates objects that are common nouns, countries or continents; names stay as they are;
4. gives every fact a band of exposure, 0 (rarest) to 3, by seed.

The output is committed, so LRE is not needed to train.
"""

import argparse
import csv
import json
import random
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

TABLES = Path(__file__).parent / "tables"
SHIPPED = Path(__file__).parent.parent / "src" / "broca" / "atlas"
LANGUAGES = ("en", "de", "es", "fr", "zh", "ja")
BANDS = 4

LRE_FILES = {
    "company_ceo": "company_ceo",
    "company_hq": "company_hq",
    "landmark_continent": "landmark_on_continent",
    "landmark_country": "landmark_in_country",
    "person_father": "person_father",
    "person_mother": "person_mother",
    "person_occupation": "person_occupation",
    "person_plays_instrument": "person_plays_instrument",
    "person_pro_sport": "person_plays_pro_sport",
    "person_sport_position": "person_plays_position_in_sport",
    "product_company": "product_by_company",
    "star_constellation": "star_constellation",
}
# what the objects are: a kind of tables/words.csv, "country", or (not listed) names, kept as is
OBJECT_KIND = {
    "landmark_continent": "continent",
    "landmark_country": "country",
    "person_occupation": "occupation",
    "person_plays_instrument": "instrument",
    "person_pro_sport": "sport",
    "person_sport_position": "position",
    "company_country": "country",
    "company_continent": "continent",
    "landmark_hemisphere": "hemisphere",
    "person_field": "field",
    "athlete_team_size": "size",
    "instrument_family": "family",
    "product_country": "country",
    "star_figure": "figure",
    "star_season": "season",
}

Samples = dict[str, list[str]]  # subject -> right objects


@dataclass
class Fact:
    relation: str
    subject: str
    objects: list[str]
    derived_from: "Fact | None" = None
    source: str = "LRE"  # or "derived", or "added" (written by hand)
    id: str = ""
    band: int = 0


@dataclass
class Tables:
    countries: dict[str, dict[str, str]] = field(default_factory=dict)
    words: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    city_country: dict[str, str] = field(default_factory=dict)
    company_country: dict[str, str] = field(default_factory=dict)
    maker_country: dict[str, str] = field(default_factory=dict)
    maker_company: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, dict[str, str]] = field(default_factory=dict)


def read_tables() -> Tables:
    tables = Tables()
    with (TABLES / "countries.csv").open(encoding="utf-8", newline="") as file:
        tables.countries = {row["en"]: row for row in csv.DictReader(file)}
    with (TABLES / "words.csv").open(encoding="utf-8", newline="") as file:
        tables.words = {(row["kind"], row["en"]): row for row in csv.DictReader(file)}
    places = tomllib.loads((TABLES / "places.toml").read_text(encoding="utf-8"))
    for country, cities in places["cities"].items():
        tables.city_country |= dict.fromkeys(cities.split(", "), country)
    for country, companies in places["companies"].items():
        tables.company_country |= dict.fromkeys(companies.split("; "), country)
    for maker, value in places["makers"].items():
        country, _, company = value.partition("; ")
        tables.maker_country[maker] = country
        if company:
            tables.maker_company[maker] = company
    tables.kinds = tomllib.loads((TABLES / "kinds.toml").read_text(encoding="utf-8"))
    return tables


def read_lre(folder: Path) -> dict[str, Samples]:
    """Every relation's subjects with their right objects; a subject may occur more than once."""
    relations: dict[str, Samples] = {}
    for relation, name in LRE_FILES.items():
        samples: Samples = {}
        for sample in json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["samples"]:
            subject, obj = sample["subject"].strip(), sample["object"].strip()
            if subject != obj and len(subject) <= 48 and len(obj) <= 40:
                objects = samples.setdefault(subject, [])
                if obj not in objects:
                    objects.append(obj)
        relations[relation] = samples
    return relations


def choose(
    samples: Samples,
    count: int,
    ceiling: int | dict[str, int],
    rng: random.Random,
    wanted: Iterable[str] = (),
    allowed: Callable[[str], bool] = lambda obj: True,
) -> Samples:
    """`count` subjects, those in `wanted` first, at most `ceiling` for one object."""
    subjects = sorted(samples)
    rng.shuffle(subjects)
    wanted = set(wanted)
    subjects.sort(key=lambda subject: subject not in wanted)
    used: Counter[str] = Counter()
    chosen: Samples = {}
    for subject in subjects:
        objects = [obj for obj in samples[subject] if allowed(obj)]
        limit = ceiling.get(objects[0], 0) if objects and isinstance(ceiling, dict) else ceiling
        if objects and used[objects[0]] < limit and len(chosen) < count:  # type: ignore[operator]
            used[objects[0]] += 1
            chosen[subject] = objects
    return chosen


def choose_subjects(lre: dict[str, Samples], tables: Tables, rng: random.Random) -> list[Fact]:
    """The facts taken from LRE."""
    kinds = tables.kinds
    chosen: dict[str, Samples] = {}
    companies = {s: o for s, o in lre["company_ceo"].items() if s in tables.company_country}
    chosen["company_ceo"] = choose(companies, 170, 3, rng, lre["company_hq"])
    cities = tables.city_country
    chosen["company_hq"] = choose(
        lre["company_hq"], 170, 14, rng, chosen["company_ceo"], lambda o: o in cities
    )
    chosen["landmark_country"] = choose(
        lre["landmark_country"], 180, 12, rng, (), lambda o: o in tables.countries
    )
    share = {"Antarctica": 60, "Europe": 80, "Asia": 10, "Africa": 10, "Americas": 5}
    chosen["landmark_continent"] = choose(lre["landmark_continent"], 165, share, rng)
    others = set(lre["person_occupation"]) | set(lre["person_plays_instrument"])
    both = {s: o for s, o in lre["person_father"].items() if s in lre["person_mother"]}
    chosen["person_father"] = choose(both, 170, 3, rng, others)
    chosen["person_mother"] = {s: lre["person_mother"][s] for s in chosen["person_father"]}
    known = set(kinds["occupation_field"])
    people = set(chosen["person_father"])
    instruments = {"piano": 60, "guitar": 55, "violin": 40, "trumpet": 30, "singing": 3}
    chosen["person_plays_instrument"] = choose(
        lre["person_plays_instrument"], 175, instruments, rng, people
    )
    chosen["person_occupation"] = choose(
        lre["person_occupation"],
        170,
        28,
        rng,
        people | set(chosen["person_plays_instrument"]),
        lambda o: o in known,
    )
    positions = lre["person_sport_position"]
    sports = lre["person_pro_sport"]
    named = {o for kind, o in tables.words if kind == "position"}
    chosen["person_sport_position"] = choose(positions, 175, 32, rng, sports, lambda o: o in named)
    chosen["person_pro_sport"] = choose(sports, 160, 40, rng, chosen["person_sport_position"])
    chosen["product_company"] = choose(
        lre["product_company"], 175, 30, rng, (), lambda o: o in tables.maker_country
    )
    figures = kinds["constellation_figure"]
    chosen["star_constellation"] = choose(
        lre["star_constellation"], 175, 16, rng, (), lambda o: o in figures
    )
    return [Fact(r, s, o) for r in LRE_FILES for s, o in chosen[r].items()]


def derive(facts: list[Fact], tables: Tables, rng: random.Random) -> list[Fact]:
    """Facts that follow from the given ones, and the hand-written countries of companies."""
    known = {(fact.relation, fact.subject): fact for fact in facts}
    derived: list[Fact] = []

    def add(relation: str, source: Fact, obj: str | None) -> Fact | None:
        if not obj or (relation, source.subject) in known:
            return known.get((relation, source.subject))
        fact = Fact(relation, source.subject, [obj], source, "derived")
        known[relation, source.subject] = fact
        derived.append(fact)
        return fact

    kinds, countries = tables.kinds, tables.countries
    ceo = {f.subject: f.objects[0] for f in facts if f.relation == "company_ceo"}
    for fact in list(facts):
        obj = fact.objects[0]
        match fact.relation:
            case "company_ceo" if ("company_hq", fact.subject) not in known:
                country = add("company_country", fact, tables.company_country[fact.subject])
                if country:
                    country.derived_from, country.source = None, "added"
                    add("company_continent", country, countries[country.objects[0]]["continent"])
            case "company_hq":
                country = add("company_country", fact, tables.city_country[obj])
                if country:
                    add("company_continent", country, countries[country.objects[0]]["continent"])
            case "landmark_country":
                add("landmark_continent", fact, countries[obj]["continent"])
                add("landmark_capital", fact, countries[obj]["capital"])
                add("landmark_hemisphere", fact, countries[obj]["hemisphere"])
            case "landmark_continent":
                side = {"Antarctica": "Southern", "Europe": "Northern"}.get(obj)
                add("landmark_hemisphere", fact, side)
            case "person_occupation":
                add("person_field", fact, kinds["occupation_field"][obj])
            case "person_plays_instrument":
                add("instrument_family", fact, kinds["instrument_family"][obj])
                if rng.random() < 0.5:
                    add("person_occupation", fact, "musician")
                add("person_field", fact, "music")
            case "person_sport_position":
                add("person_pro_sport", fact, kinds["position_sport"].get(obj))
            case "product_company":
                add("product_country", fact, tables.maker_country[obj])
                add("product_leader", fact, ceo.get(tables.maker_company.get(obj, "")))
            case "star_constellation":
                add("star_figure", fact, kinds["constellation_figure"][obj])
                add("star_season", fact, kinds["constellation_season"][obj])
    for fact in [f for f in (*facts, *derived) if f.relation == "person_pro_sport"]:
        add("athlete_team_size", fact, kinds["sport_size"][fact.objects[0]])
        if rng.random() < 0.4:
            add("person_occupation", fact, "athlete")
            add("person_field", fact, "sport")
    return derived


def translate(relation: str, obj: str, language: str, tables: Tables) -> str:
    kind = OBJECT_KIND.get(relation)
    if kind is None:
        return obj
    row = tables.countries[obj] if kind == "country" else tables.words[kind, obj]
    return row[language]


def number_and_band(facts: list[Fact], rng: random.Random) -> None:
    """Ids count per relation; bands are dealt out evenly within each relation."""
    relations = list(dict.fromkeys(fact.relation for fact in facts))
    for relation in relations:
        members = [fact for fact in facts if fact.relation == relation]
        bands = [i % BANDS for i in range(len(members))]
        rng.shuffle(bands)
        for number, (fact, band) in enumerate(zip(members, bands, strict=True), start=1):
            fact.id, fact.band = f"{relation}/{number:04d}", band


def as_record(fact: Fact, tables: Tables) -> dict[str, object]:
    return {
        "id": fact.id,
        "relation": fact.relation,
        "subject": fact.subject,
        "objects": {
            language: [translate(fact.relation, o, language, tables) for o in fact.objects]
            for language in LANGUAGES
        },
        "band": fact.band,
        "derived": fact.source == "derived",
        "derived_from": fact.derived_from.id if fact.derived_from else None,
        "source": fact.source,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lre", type=Path, help="LRE's data/factual folder")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--out", type=Path, default=SHIPPED / "facts.jsonl")
    options = parser.parse_args()
    rng, tables = random.Random(options.seed), read_tables()
    facts = choose_subjects(read_lre(options.lre), tables, rng)
    facts += derive(facts, tables, rng)
    number_and_band(facts, rng)
    lines = [json.dumps(as_record(fact, tables), ensure_ascii=False) for fact in facts]
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    relations_of: dict[str, set[str]] = {}
    for fact in facts:
        relations_of.setdefault(fact.subject, set()).add(fact.relation)
    print(f"{len(facts)} facts about {len(relations_of)} subjects")
    for relation, count in Counter(fact.relation for fact in facts).items():
        derived = sum(f.source != "LRE" for f in facts if f.relation == relation)
        print(f"  {relation:26s}{count:5d}   not from LRE {derived}")
    print("relations per subject", sorted(Counter(map(len, relations_of.values())).items()))


if __name__ == "__main__":
    main()
