"""GGUF files that people use: tokens by the file's own rules, answers as by transformers."""

from __future__ import annotations

import json
import re
from functools import cache
from itertools import pairwise

import pytest
import torch
import transformers
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.integrations.gguf.reader import read_gguf_metadata

from broca.interventions import Deactivate, intervene
from broca.model import LanguageModel
from broca.neurons import NeuronIndex, uniform_random
from conftest import REAL

TEXTS = [
    "The capital of France is",
    "Question: When was Marie Curie born? Answer: 1867",
    "  two  spaces, a\ttab\nand a line",
    "été naïve €5 日本の首都は東京です 🙂",
    "don't, they've 3.14159 x=y**2",
    "a  1879   b",
    "Москва – столица России",
]


@cache
def metadata(name: str) -> dict:
    """What the file says of its tokenizer."""
    lists = ("tokenizer.ggml.tokens", "tokenizer.ggml.merges")
    return read_gguf_metadata(str(REAL[name]), lists)[0]


def field(name: str, key: str):
    return metadata(name)[f"tokenizer.ggml.{key}"]


def merged(pieces: list[str], rank) -> list[str]:
    """Merge neighbours, the best first, until nothing can be merged: the rule itself."""
    while True:
        ranked = [(rank(a, b), -i) for i, (a, b) in enumerate(pairwise(pieces))]
        known = [each for each in ranked if each[0] is not None]
        if not known:
            return pieces
        place = -max(known)[1]
        pieces = [*pieces[:place], pieces[place] + pieces[place + 1], *pieces[place + 2 :]]


@pytest.mark.real
def test_tokens_of_smollm2_are_merged_as_its_file_says(smollm2):
    """Byte-level merging by hand, words cut by GPT-2's pattern after every digit is cut off."""
    import regex

    rule = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    order = {tuple(m.split(" ")): -i for i, m in enumerate(field("smollm2", "merges"))}
    ids = {token: i for i, token in enumerate(field("smollm2", "tokens"))}
    spelling = bytes_to_unicode()
    for text in TEXTS:
        words = [w for part in regex.split(r"(\p{N})", text) for w in regex.findall(rule, part)]
        expected = []
        for word in words:
            letters = [spelling[byte] for byte in word.encode()]
            expected += [ids[piece] for piece in merged(letters, lambda *p: order.get(p))]
        assert smollm2.encode([text])[0] == expected, text


@pytest.mark.real("gemma3")
def test_tokens_of_gemma_are_merged_as_its_file_says(gemma3):
    """Its own words whole, then pieces of highest score first; bytes where a letter is unknown."""
    tokens, scores = field("gemma3", "tokens"), field("gemma3", "scores")
    kinds = field("gemma3", "token_type")
    ids = {token: i for i, token in enumerate(tokens)}
    own = [t for t, kind in zip(tokens, kinds, strict=True) if kind == 4]  # user-defined
    whole = re.compile(f"({'|'.join(re.escape(t) for t in sorted(own, key=len, reverse=True))})")

    def score(a: str, b: str) -> float | None:
        return scores[ids[a + b]] if a + b in ids else None

    for text in TEXTS:
        expected = [2]
        for part in whole.split(text):
            pieces = [part] if part in own else merged(list(part.replace(" ", "▁")), score)
            for piece in pieces:
                known = [ids[piece]] if piece in ids else None
                expected += known or [ids[f"<0x{byte:02X}>"] for byte in piece.encode()]
        assert gemma3.encode([text])[0] == expected, text


@pytest.mark.real
def test_special_tokens_of_smollm2(smollm2):
    tokenizer = smollm2.tokenizer
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert smollm2.encode(["a"]) == [tokenizer("a", add_special_tokens=False).input_ids]
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert chat.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert smollm2.encode(["<|im_start|>user\n"])[0][0] == 1
    assert "<|im_end|>" not in tokenizer.decode([2], skip_special_tokens=True)


@pytest.mark.real("gemma3")
def test_special_tokens_of_gemma(gemma3):
    tokenizer = gemma3.tokenizer
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 1, 0)
    assert gemma3.encode(["a"])[0][:1] == [2]
    assert tokenizer.chat_template is None
    assert gemma3.module.config.sliding_window == 512


@pytest.mark.real
def test_plain_transformers_says_the_same(smollm2):
    """The model loaded without broca: equal logits, equal greedy text."""
    options = {
        "pretrained_model_name_or_path": str(REAL["smollm2"].parent),
        "gguf_file": REAL["smollm2"].name,
    }
    plain = transformers.AutoModelForCausalLM.from_pretrained(**options).eval()
    text = "The largest planet is"
    ids = torch.tensor([smollm2.encode([text])[0]])
    with torch.no_grad():
        assert torch.equal(plain(ids).logits, smollm2.module(ids).logits)
        said = plain.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False
        )
    assert smollm2.answer(text, 8) == smollm2.tokenizer.decode(said[0, ids.shape[1] :])
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, smollm2.module.state_dict()[name]), name


@pytest.mark.real
def test_self_check_of_smollm2(smollm2):
    check = smollm2.self_check()
    assert check.untouched_bit_equal
    assert check.padding_holds
    assert check.resumes


@pytest.mark.real
def test_file_folder_and_edited_copy_are_one_model(smollm2, tmp_path):
    """Equal logits of file and folder; the edited copy equals the intervention."""
    from broca.edits import save_edited

    smollm2.module.save_pretrained(tmp_path / "folder")
    smollm2.tokenizer.save_pretrained(tmp_path / "folder")
    folder = LanguageModel.from_pretrained(str(tmp_path / "folder"))
    batch = smollm2.pad(smollm2.encode(TEXTS))
    assert torch.equal(folder.logits(batch), smollm2.logits(batch))
    assert folder.encode(TEXTS) == smollm2.encode(TEXTS)
    assert folder.identity.fingerprint == smollm2.identity.fingerprint
    off = Deactivate(uniform_random(NeuronIndex(smollm2.identity, ("hidden",)), 500, 0))
    save_edited(smollm2, off, tmp_path / "copy")
    copy = LanguageModel.from_pretrained(str(tmp_path / "copy"))
    with intervene(smollm2, off):
        expected = smollm2.logits(batch)
    assert float((copy.logits(batch) - expected).abs().max()) < 1e-3
    assert float((copy.logits(batch) - smollm2.logits(batch)).abs().max()) > 0.1
    assert "gguf" not in json.loads((tmp_path / "copy" / "config.json").read_text())
