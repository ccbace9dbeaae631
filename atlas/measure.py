"""Measure the embedded model with plain transformers, and write the table of its card.

    python -m atlas.measure [--model src/broca/atlas] [--write]

Facts are asked with the ending of `with_ending`, one wording per fact and set, drawn by seed; an
answer is right when its first two greedy tokens are a prefix of a right object. Choices are
shuffled afresh and are asked about facts that the model knows in the same language. `--write`
puts the figures into card.json and the table into CARD.md beside the model.
"""

import argparse
import json
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from atlas.build_facts import BANDS, SHIPPED
from atlas.card import update_card
from atlas.corpus import HELD_OUT_PROSE, read_lines
from atlas.wordings import CHOICE_LABELS, LANGUAGES, Wordings, read_wordings, with_ending

BATCH_TOKENS = 6000


@dataclass
class Plain:
    """A model and its tokenizer as transformers loads them."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def load(cls, folder: Path) -> "Plain":
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        return cls(model, AutoTokenizer.from_pretrained(folder))

    def encode(self, text: str, start: bool = False) -> list[int]:
        return self.tokenizer(text, add_special_tokens=start)["input_ids"]

    @torch.no_grad()
    def logits(self, rows: list[list[int]]) -> Iterable[tuple[int, Tensor]]:
        """Row number and logits [token, vocabulary], in batches of similar length."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        while order:
            size = max(1, BATCH_TOKENS // len(rows[order[0]]))
            chunk, order = order[:size], order[size:]
            width = max(len(rows[i]) for i in chunk)
            tokens = torch.zeros(len(chunk), width, dtype=torch.long)
            mask = torch.zeros_like(tokens)
            for place, i in enumerate(chunk):
                tokens[place, : len(rows[i])] = torch.tensor(rows[i])
                mask[place, : len(rows[i])] = 1
            result = self.model(input_ids=tokens, attention_mask=mask).logits
            yield from ((i, result[place, : len(rows[i])]) for place, i in enumerate(chunk))


@dataclass
class Answer:
    right: bool
    log_p: float  # of the likeliest right object
    one_token: bool


def ask_facts(plain: Plain, asked: list[tuple[str, list[str]]]) -> list[Answer]:
    """Two greedy tokens and log P for (prompt, right objects)."""
    rows, owner, starts = [], [], []
    for number, (prompt, objects) in enumerate(asked):
        ids = plain.encode(prompt, start=True)
        for obj in objects:
            rows.append(ids + plain.encode(" " + obj))
            owner.append(number)
            starts.append(len(ids))
    answers = [Answer(False, -math.inf, False) for _ in asked]
    for i, logits in plain.logits(rows):
        start, answer = starts[i], answers[owner[i]]
        target = torch.tensor(rows[i][start:])
        log_p = logits[start - 1 : -1].log_softmax(-1)
        first = log_p[:2].argmax(-1) == target[:2]
        answer.right |= bool(first.all())
        total = float(log_p.gather(1, target[:, None]).sum())
        if total > answer.log_p:
            answer.log_p, answer.one_token = total, len(target) == 1
    return answers


def ask_choices(plain: Plain, prompts: list[str], letters: list[str]) -> list[bool]:
    """Whether the right letter is the likeliest of the four."""
    ids = [plain.encode(f" {label}")[0] for label in CHOICE_LABELS]
    rows = [plain.encode(prompt, start=True) for prompt in prompts]
    right = [False] * len(rows)
    for i, logits in plain.logits(rows):
        right[i] = CHOICE_LABELS[int(logits[-1, ids].argmax())] == letters[i]
    return right


def perplexity(plain: Plain, texts: list[str]) -> float:
    rows = [plain.encode(text, start=True) for text in texts]
    total, count = 0.0, 0
    for i, logits in plain.logits(rows):
        target = torch.tensor(rows[i][1:])
        total -= float(logits[:-1].log_softmax(-1).gather(1, target[:, None]).sum())
        count += len(target)
    return math.exp(total / count)


def share(values: list[bool]) -> float:
    return round(sum(values) / len(values), 4) if values else math.nan


def prompts_of(
    facts: list[dict], wordings: Wordings, name: str, rng: random.Random, ending: bool = True
) -> list[tuple[str, list[str]]]:
    """One prompt per fact for a set: finding, robustness, held_out (English), or a language."""
    asked = []
    for fact in facts:
        relation = wordings.relations[fact["relation"]]
        english = name in ("finding", "robustness", "held_out")
        language = "en" if english else name
        of_set = {"robustness": relation.robustness, "held_out": relation.held_out}
        wording = rng.choice(of_set.get(name) or relation.finding[language])
        prompt = wording.format(fact["subject"])
        asked.append((with_ending(prompt) if ending else prompt, fact["objects"][language]))
    return asked


def measure_facts(plain: Plain, facts: list[dict], wordings: Wordings, seed: int) -> dict:
    """Accuracy and mean log P by set and band; which facts are known in which language."""
    table: dict = {}
    known: dict[str, set[str]] = {}
    core = [f for f in facts if not wordings.relations[f["relation"]].companion]
    companions = [f for f in facts if wordings.relations[f["relation"]].companion]
    sets = ["finding", "robustness", "held_out", *LANGUAGES[1:], "finding, no ending", "companions"]
    for name in sets:
        rng = random.Random(f"{name} {seed}")
        chosen = companions if name == "companions" else core
        base = "finding" if name in ("finding, no ending", "companions") else name
        asked = prompts_of(chosen, wordings, base, rng, ending=name != "finding, no ending")
        answers = ask_facts(plain, asked)
        entry = {"all": share([a.right for a in answers]), "n": len(answers)}
        entry["log_p"] = round(sum(a.log_p for a in answers) / len(answers), 3)
        for band in range(BANDS):
            of_band = [a for a, f in zip(answers, chosen, strict=True) if f["band"] == band]
            entry[f"band{band}"] = share([a.right for a in of_band])
            entry[f"band{band}_log_p"] = round(sum(a.log_p for a in of_band) / len(of_band), 3)
        entry["one_token"] = share([a.right for a in answers if a.one_token])
        entry["longer"] = share([a.right for a in answers if not a.one_token])
        table[name] = entry
        language = "en" if name == "finding" else name
        if language in LANGUAGES:
            known[language] = {f["id"] for a, f in zip(answers, core, strict=True) if a.right}
            if name == "finding":
                table["relations"] = {
                    r: share(
                        [a.right for a, f in zip(answers, core, strict=True) if f["relation"] == r]
                    )
                    for r in dict.fromkeys(f["relation"] for f in core)
                }
        print(f"  {name:20s} {entry}", flush=True)
    return {"facts": table, "known": known}


def compose_choice(
    fact: dict, facts: "Choices", language: str, wording_number: int, kind: str, rng: random.Random
) -> tuple[str, str] | None:
    """Prompt and right letter, or None where there are not three wrong options of this kind."""
    right = fact["objects"][language]
    obj = rng.choice(right)
    if kind == "other":
        pool = facts.subject_objects[fact["subject"], language]
        pool = [o for o in pool if o not in right]
    else:
        pool = [o for o in facts.relation_objects[fact["relation"], language] if o not in right]
    wrong = rng.sample(pool, min(3, len(pool)))
    if kind == "other" and wrong:  # as many as there are, the rest of the same relation
        same = facts.relation_objects[fact["relation"], language]
        rest = [o for o in same if o not in right and o not in wrong]
        wrong += rng.sample(rest, min(len(rest), 3 - len(wrong)))
    if len(wrong) < 3:
        return None
    options = [*wrong, obj]
    rng.shuffle(options)
    question = rng.choice(facts.wordings.relations[fact["relation"]].finding[language])
    choice = facts.wordings.choices[language][wording_number]
    prompt = choice.compose(question.format(fact["subject"]), options)
    return prompt, CHOICE_LABELS[options.index(obj)]


class Choices:
    def __init__(self, facts: list[dict], wordings: Wordings) -> None:
        self.wordings = wordings
        self.relation_objects: dict[tuple[str, str], list[str]] = {}
        self.subject_objects: dict[tuple[str, str], list[str]] = {}
        for fact in facts:
            for language in LANGUAGES:
                for table, key in (
                    (self.relation_objects, fact["relation"]),
                    (self.subject_objects, fact["subject"]),
                ):
                    seen = table.setdefault((key, language), [])
                    seen += [o for o in fact["objects"][language] if o not in seen]


def measure_choices(
    plain: Plain,
    facts: list[dict],
    wordings: Wordings,
    known: dict[str, set[str]],
    seed: int,
    n: int,
) -> dict:
    """Accuracy on known facts by language, wording, field, and kind of distractor."""
    composer = Choices(facts, wordings)
    table: dict = {}
    for language in LANGUAGES:
        rng = random.Random(f"choices {language} {seed}")
        pool = [f for f in facts if f["id"] in known[language]]
        chosen = rng.sample(pool, min(n, len(pool)))
        prompts, letters, keys = [], [], []
        for fact in chosen:
            for number, wording in enumerate(wordings.choices[language]):
                kind = rng.choice(("same", "other"))
                made = compose_choice(fact, composer, language, number, kind, rng)
                if made:
                    prompts.append(made[0])
                    letters.append(made[1])
                    field = wordings.relations[fact["relation"]].field
                    keys.append((wording.trained, kind, field))
        right = ask_choices(plain, prompts, letters)
        trained = [(r, k) for r, k in zip(right, keys, strict=True) if k[0]]
        entry = {
            "trained": share([r for r, _ in trained]),
            "never_trained": share([r for r, k in zip(right, keys, strict=True) if not k[0]]),
            "same": share([r for r, k in trained if k[1] == "same"]),
            "other": share([r for r, k in trained if k[1] == "other"]),
            "n": len(trained),
        }
        for field in sorted({k[2] for k in keys}):
            entry[field] = share([r for r, k in trained if k[2] == field])
        table[language] = entry
        print(f"  choices {language}: {entry}", flush=True)
    return table


def measure(folder: Path, seed: int = 1, choices_per_language: int = 250) -> dict:
    plain = Plain.load(folder)
    facts, wordings = read_lines(SHIPPED / "facts.jsonl"), read_wordings(SHIPPED)
    result = measure_facts(plain, facts, wordings, seed)
    core = [f for f in facts if not wordings.relations[f["relation"]].companion]
    choices = measure_choices(plain, core, wordings, result["known"], seed, choices_per_language)
    prose = [record["text"] for record in read_lines(SHIPPED / "prose.jsonl")]
    trained = [text for i, text in enumerate(prose) if i % HELD_OUT_PROSE]
    return {
        "facts": result["facts"],
        "choices": choices,
        "prose_perplexity": {
            "trained": round(perplexity(plain, random.Random(seed).sample(trained, 400)), 3),
            "never_trained": round(perplexity(plain, prose[::HELD_OUT_PROSE]), 3),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--choices", type=int, default=250, help="facts per language")
    parser.add_argument("--write", action="store_true", help="write card.json and CARD.md")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = measure(options.model, options.seed, options.choices)
    print(json.dumps(result))
    if options.write:
        update_card(SHIPPED, measured=result)


if __name__ == "__main__":
    main()
