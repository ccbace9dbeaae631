"""Train the embedded model.

    python -m atlas.train --out atlas/runs/seed0 [--seed 0] [--steps N] [--export]

Seeded and resumable: batch k depends on (seed, k), and OUT/state.pt holds everything else; a run
that was interrupted and started again gives the same weights. `--export` writes the finished model
into the package. Runs on one CPU thread by default (bf16 products; see log.md), or on a GPU with
--device cuda.
"""

import argparse
import csv
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch.nn import functional as F
from transformers import GenerationConfig, PreTrainedTokenizerFast

from atlas.build_facts import SHIPPED, TABLES
from atlas.card import update_card
from atlas.corpus import Corpus, CorpusSettings, read_lines
from atlas.muon import Muon
from atlas.net import Layer, Net, NetSettings
from atlas.tokenizer import BOS, EOS, PAD, texts_for_tokenizer, train_tokenizer
from atlas.wordings import read_wordings, with_ending


@dataclass(frozen=True)
class TrainSettings:
    steps: int = 2360
    finish_steps: int = 560  # the last of them: a second, lower cycle without the rarest band
    finish_rate: float = 0.4
    seed: int = 0
    vocabulary: int = 7000
    learning_rate: float = 2e-3  # embeddings and norms (AdamW)
    muon_learning_rate: float = 0.015  # matrices (Muon)
    decay: float = 0.05
    warmup: int = 100
    cooldown: float = 0.5  # the last share of the steps, in which the rates fall to 2 %
    width: int = 192
    feed_forward: int = 512
    layers: int = 6
    heads: int = 6
    save_every: int = 200
    corpus: CorpusSettings = field(default_factory=CorpusSettings)


def load_corpus(settings: TrainSettings, folder: Path = SHIPPED) -> Corpus:
    facts, prose = read_lines(folder / "facts.jsonl"), read_lines(folder / "prose.jsonl")
    wordings, carriers = read_wordings(folder), read_lines(folder / "carriers.jsonl")
    sentences = [record["text"] for record in (*prose, *carriers)]
    texts = texts_for_tokenizer(facts, wordings, sentences, TABLES / "english.txt")
    tokenizer = train_tokenizer(texts, settings.vocabulary)
    return Corpus(facts, wordings, prose, carriers, tokenizer, settings.corpus)


class Training:
    """Net, optimisers and step counter: what a checkpoint holds."""

    def __init__(self, settings: TrainSettings, corpus: Corpus, device: str = "cpu") -> None:
        torch.manual_seed(settings.seed)
        s = self.settings = settings
        self.corpus, self.device = corpus, device
        vocabulary = corpus.tokenizer.get_vocab_size()
        self.net = Net(NetSettings(vocabulary, s.width, s.feed_forward, s.layers, s.heads)).to(
            device
        )
        layers = [layer for layer in self.net.layers if isinstance(layer, Layer)]
        matrices = [
            ([layer.qkv for layer in layers], 3),
            ([layer.out for layer in layers], 1),
            ([layer.gate_up for layer in layers], 2),
            ([layer.down for layer in layers], 1),
        ]
        norms = [w for layer in layers for w in (layer.attention_norm, layer.mlp_norm)]
        rest = [self.net.embedding, self.net.final_norm, *norms]
        self.muon = Muon(matrices, s.muon_learning_rate, decay=s.decay)
        self.adam = torch.optim.AdamW(rest, lr=s.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.step, self.seconds = 0, 0.0

    def rate(self) -> float:
        """The share of the learning rates at this step."""
        s = self.settings
        main = s.steps - s.finish_steps
        if self.step < main:
            left = (1 - self.step / main) / s.cooldown
            return min(1.0, (self.step + 1) / s.warmup) * min(1.0, max(0.02, left))
        done = self.step - main
        left = max(0.02, 1 - done / s.finish_steps)
        return s.finish_rate * min(1.0, (done + 1) / 40) * left

    def advance(self) -> float:
        """One step; returns its loss."""
        start, rate, s = time.perf_counter(), self.rate(), self.settings
        for optimiser, base in ((self.muon, s.muon_learning_rate), (self.adam, s.learning_rate)):
            for group in optimiser.param_groups:
                group["lr"] = base * rate
        batch = self.corpus.batch(self.step)
        logits = self.net(batch.tokens.to(self.device), batch.positions.to(self.device))
        loss = F.cross_entropy(logits, batch.labels.to(self.device))
        self.net.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.muon.step()
        self.adam.step()
        self.step += 1
        self.seconds += time.perf_counter() - start
        return loss.item()

    def save(self, path: Path) -> None:
        state = {
            "net": self.net.state_dict(),
            "muon": self.muon.state_dict(),
            "adam": self.adam.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        beside = path.with_suffix(".new")
        torch.save(state, beside)
        os.replace(beside, path)

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.net.load_state_dict(state["net"])
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.step, self.seconds = state["step"], state["seconds"]


@torch.no_grad()
def quick_accuracy(training: Training, count: int = 240) -> str:
    """Share of facts with the right first answer token, by band, for the first finding wording."""
    corpus, net = training.corpus, training.net
    by_band: dict[int, list[bool]] = {}
    core = [f for f in corpus.facts if not corpus.wordings.relations[f["relation"]].companion]
    for fact in core[:: max(1, len(core) // count)]:
        wording = corpus.wordings.relations[fact["relation"]].finding["en"][0]
        ids = [BOS, *corpus.encode(with_ending(wording.format(fact["subject"])))]
        tokens = torch.tensor([ids], device=training.device)
        answer = net(tokens, torch.tensor([len(ids) - 1], device=training.device)).argmax(-1).item()
        right = {corpus.encode(" " + obj)[0] for obj in fact["objects"]["en"]}
        by_band.setdefault(fact["band"], []).append(answer in right)
    return " ".join(f"{sum(by_band[b]) / len(by_band[b]):.2f}" for b in sorted(by_band))


def export(training: Training, folder: Path) -> None:
    """Model and tokenizer as plain transformers loads them, and how often each fact was seen."""
    folder.mkdir(parents=True, exist_ok=True)
    model = training.net.to_llama()
    model.generation_config = GenerationConfig(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD)
    model.save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=training.corpus.tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        model_max_length=model.config.max_position_embeddings,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.save_pretrained(folder)
    corpus = training.corpus
    with (folder / "exposure.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "relation", "band", "exposures", "as_prompt", "in_choices"])
        exposures = corpus.exposures(training.settings.steps)
        for fact, (prompt, choice) in zip(corpus.facts, exposures, strict=True):
            row = [fact["id"], fact["relation"], fact["band"]]
            writer.writerow([*row, *(f"{x:.1f}" for x in (prompt + choice, prompt, choice))])


def run(training: Training, out: Path, log_every: int = 100) -> None:
    """All steps that are left, with a checkpoint now and then."""
    s, mean = training.settings, None
    while training.step < s.steps:
        loss = training.advance()
        mean = loss if mean is None else 0.98 * mean + 0.02 * loss
        if training.step % log_every == 0 or training.step == s.steps:
            left = training.seconds / training.step * (s.steps - training.step) / 60
            line = f"step {training.step}/{s.steps}  loss {mean:.3f}  {training.seconds:.0f} s"
            if training.step % (5 * log_every) == 0 or training.step == s.steps:
                line += f"  first tokens by band {quick_accuracy(training)}"
            print(f"{line}  {left:.1f} min left", flush=True)
        if training.step % s.save_every == 0 or training.step == s.steps:
            training.save(out / "state.pt")
        if training.step == s.steps:
            minutes = round(training.seconds / 60, 1)
            record = {"seed": s.seed, "steps": s.steps, "minutes": minutes, "loss": round(mean, 3)}
            (out / "training.json").write_text(json.dumps(record) + "\n", encoding="utf-8")


def main() -> None:
    defaults = TrainSettings()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("atlas/runs/seed0"))
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--band-weights", type=float, nargs=4)
    parser.add_argument("--export", action="store_true", help="write the model into the package")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    weights = tuple(options.band_weights or CorpusSettings.band_weights)
    corpus_settings = CorpusSettings(seed=options.seed, band_weights=weights)
    settings = TrainSettings(steps=options.steps, seed=options.seed, corpus=corpus_settings)
    options.out.mkdir(parents=True, exist_ok=True)
    corpus = load_corpus(settings)
    training = Training(settings, corpus, options.device)
    count = sum(p.numel() for p in training.net.parameters())
    print(f"{len(corpus.facts)} facts, {count:,} parameters", flush=True)
    (options.out / "settings.json").write_text(json.dumps(asdict(settings), indent=1) + "\n")
    if (options.out / "state.pt").exists():
        training.load(options.out / "state.pt")
        print(f"resumed at step {training.step}", flush=True)
    run(training, options.out)
    export(training, options.out)
    if options.export:
        export(training, SHIPPED)
        record = json.loads((options.out / "training.json").read_text(encoding="utf-8"))
        update_card(SHIPPED, training=record)


if __name__ == "__main__":
    main()
