"""The byte-level BPE tokenizer: any text of any script encodes, frequent names are one token.

Words are split so that runs of capitalised words (names) may merge into one token, while words that
open a sentence stay apart, and option labels ("A" in "A.", "A)", "A:") are always the same token.
"""

import random
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from atlas.wordings import CHOICE_LABELS, LANGUAGES, Wordings

SPECIAL = ["<pad>", "<bos>", "<eos>", "<yes>", "<no>"]
PAD, BOS, EOS, YES, NO = range(len(SPECIAL))

OPENERS = (
    "The|In|On|At|As|By|To|Who|What|Which|Where|When|How|From|With|After|Seen|Old|Question|Fact|Quiz"
    "|Answer|Options|Letter|Tell|Please|CEO|A|B|C|D"
)
NAME_PART = r"[\p{L}\p{M}\p{N}.'’&\-]*"
PATTERN = "|".join(
    [
        r"\n",
        r" ?[ABCD](?=[.):]|$)",  # option labels and answers
        r"[\u3040-\u30ff\u4e00-\u9fff]+",  # Chinese and Japanese runs
        rf" ?(?:{OPENERS})(?![\p{{L}}\p{{M}}'’\-])",
        rf" ?\p{{Lu}}{NAME_PART}(?: (?:\p{{Lu}}|\p{{N}}){NAME_PART})*(?<![.:])",  # names
        r" ?\p{L}[\p{L}\p{M}’\-]*",
        r"'s",
        r" ?\p{N}+",
        r" ?[^\s\p{L}\p{N}]+",
        r"\s+",
    ]
)


def texts_for_tokenizer(
    facts: Iterable[dict], wordings: Wordings, prose: Iterable[str], english: Path
) -> Iterable[str]:
    """Training text with its weights: answers most, then wordings, subjects, common words."""
    for label in CHOICE_LABELS:
        yield from [f" {label}", f"\n{label}."] * 300
    for fact in facts:
        yield from (fact["subject"], " " + fact["subject"])
        for language in LANGUAGES:
            for obj in fact["objects"][language]:
                yield from [" " + obj] * (20 if language == "en" else 4)
    for relation in wordings.relations.values():
        for language in LANGUAGES:
            for wording in relation.trained(language):
                before, after = wording.split("{}")
                yield from [before, before.rstrip(), after] * 20
    for choices in wordings.choices.values():
        for choice in choices:
            yield from [choice.text.replace("{question}", " ").replace("{options}", " ")] * 60
    yield from list(wordings.prefixes) * 60
    yield from ["? Answer:", " Answer:"] * 300
    yield from prose
    words = english.read_text(encoding="utf-8").split()
    for rank, word in enumerate(words):
        yield from [" " + word] * (20 if rank < 600 else 12)


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    # the trainer breaks ties by order of appearance, so the order is fixed (and mixed) by a seed
    texts = list(texts)
    random.Random(0).shuffle(texts)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", BOS)]
    )
    return tokenizer
