"""The embedded model's training repeats itself: same losses, same weights after an interruption."""

import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from atlas.build_facts import SHIPPED  # noqa: E402
from atlas.corpus import Corpus, CorpusSettings, Schedule, read_lines  # noqa: E402
from atlas.muon import orthogonalise  # noqa: E402
from atlas.train import Training, TrainSettings, export, load_corpus  # noqa: E402
from atlas.wordings import cross, read_wordings, with_ending  # noqa: E402

SMALL = CorpusSettings(fact_batch_size=8, choice_batch_size=4, prose_batch_size=4)
SETTINGS = TrainSettings(
    steps=8,
    finish_steps=2,
    vocabulary=2000,
    width=32,
    feed_forward=64,
    layers=2,
    heads=2,
    warmup=2,
    corpus=SMALL,
)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Every tenth fact, in the tokens of the model that ships."""
    facts, prose = read_lines(SHIPPED / "facts.jsonl")[::10], read_lines(SHIPPED / "prose.jsonl")
    tokenizer = Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))
    carriers = read_lines(SHIPPED / "carriers.jsonl")
    return Corpus(facts, read_wordings(SHIPPED), prose, carriers, tokenizer, SMALL)


@pytest.mark.slow
def test_the_tokenizer_that_ships_is_made_again() -> None:
    made = load_corpus(TrainSettings()).tokenizer
    assert made.get_vocab() == Tokenizer.from_file(str(SHIPPED / "tokenizer.json")).get_vocab()


def test_two_runs_give_the_same_losses(corpus: Corpus) -> None:
    first, second = (Training(SETTINGS, corpus) for _ in range(2))
    losses = [first.advance() for _ in range(4)]
    assert losses == [second.advance() for _ in range(4)]
    assert losses[-1] < losses[0]


def test_interrupted_and_resumed_gives_the_same_weights(corpus: Corpus, tmp_path: Path) -> None:
    unbroken, broken = Training(SETTINGS, corpus), Training(SETTINGS, corpus)
    for _ in range(6):
        unbroken.advance()
    for _ in range(3):
        broken.advance()
    broken.save(tmp_path / "state.pt")
    resumed = Training(replace(SETTINGS), corpus)
    resumed.load(tmp_path / "state.pt")
    for _ in range(3):
        resumed.advance()
    for (name, a), b in zip(unbroken.net.named_parameters(), resumed.net.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_the_exported_model_computes_the_same(corpus: Corpus, tmp_path: Path) -> None:
    training = Training(SETTINGS, corpus)
    training.advance()
    export(training, tmp_path)
    model = training.net.to_llama()
    tokens = corpus.batch(0).tokens[:2]
    with torch.no_grad():
        expected = model(tokens).logits
        flat = torch.arange(tokens.numel())
        ours = training.net(tokens, flat, torch.float32).view(expected.shape)
    assert torch.allclose(expected, ours, atol=1e-5)


def test_training_text_encodes_as_plain_text(corpus: Corpus) -> None:
    """Examples are put together from pieces; the whole text gives the same ids."""
    for batch in corpus.draw_group(3):
        for row in batch.tokens.tolist():
            ids = [token for token in row if token > 2]
            text = corpus.tokenizer.decode(ids)
            assert corpus.tokenizer.encode(text, add_special_tokens=False).ids == ids, text


def test_held_out_wordings_and_choices_are_never_trained(corpus: Corpus) -> None:
    rng = random.Random(0)
    wordings = read_wordings(SHIPPED)
    for relation in wordings.relations.values():
        trained = [w for language in relation.finding for w in relation.trained(language)]
        assert not set(relation.held_out) & set(trained)
        crossed = {cross(relation, rng) for _ in range(300)}
        assert not set(relation.held_out) & crossed
        assert not set(relation.finding["en"]) & set(relation.robustness)
        for wording in [*trained, *relation.held_out]:
            assert wording.count("{}") == 1
            assert not wording.endswith(" ")
    for choices in wordings.choices.values():
        assert sum(not choice.trained for choice in choices) == 1
        assert len(choices) >= 4
    assert with_ending("Who runs {}?") == "Who runs {}? Answer:"
    assert with_ending("{} is led by") == "{} is led by? Answer:"


def test_schedule_spreads_exposures_exactly() -> None:
    schedule = Schedule([1.0, 3.0], per_group=10, seed=0)
    drawn = [fact for group in range(40) for fact in schedule.draw(group)]
    assert abs(drawn.count(0) - 100) <= 1
    assert abs(drawn.count(1) - 300) <= 1


def test_orthogonalised_updates_have_singular_values_near_one() -> None:
    values = torch.linalg.svdvals(orthogonalise(torch.randn(2, 16, 40)))
    assert values.min() > 0.5
    assert values.max() < 1.5
