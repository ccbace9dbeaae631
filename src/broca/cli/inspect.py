"""`broca inspect`: what broca sees of a model, and whether it may be relied on."""

from __future__ import annotations

from typing import Annotated

import typer

from broca.cli.output import show
from broca.cli.run import MODEL_HELP


def inspect(
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "atlas",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    dtype: Annotated[str, typer.Option(help="As in transformers.")] = "auto",
    device_map: Annotated[str | None, typer.Option(help="As in transformers.")] = None,
    table: Annotated[
        bool, typer.Option("--table", help="Build every known family tiny and measure it instead.")
    ] = False,
) -> None:
    """Print a model's sites, neurons, parameters and memory, and check it by arithmetic.

    The exit code is 1 where the check fails.
    """
    if table:
        from broca.cli.families import models_page

        show(models_page())
        return
    from broca.model import LanguageModel

    loaded = LanguageModel.from_pretrained(
        model, revision=revision, dtype=dtype, device_map=device_map
    )
    parameters = list(loaded.module.parameters())
    n_bytes = sum(p.numel() * p.element_size() for p in parameters)
    show(f"{loaded.name}: {loaded.config.model_type}, {loaded.n_layers} layers")
    show(
        f"parameters {sum(p.numel() for p in parameters):,}, memory {n_bytes / 2**20:,.1f} MiB, "
        f"{str(loaded.dtype).removeprefix('torch.')} on {loaded.device}, "
        f"fingerprint {loaded.identity.fingerprint}"
    )
    for note in loaded.notes:
        show(note)
    show(f"{'✓' if loaded.coverage.complete else '!'} {loaded.coverage}")
    _draw_sites(loaded)
    if not _draw_check(loaded):
        raise typer.Exit(1)


def _draw_sites(model) -> None:
    from rich import box
    from rich.table import Table

    table = Table("site", "per layer", "neurons", box=box.SIMPLE_HEAD)
    identity = model.identity
    for site in model.sites:
        widths = sorted(set(identity.layer_widths(site)))
        shown = f"{widths[0]:,}" if len(widths) == 1 else f"{widths[0]:,} to {widths[-1]:,}"
        table.add_row(site, shown, f"{identity.total(site):,}")
    found = sum(identity.total(site) for site in ("gate", "up", "down") if site in model.sites)
    table.add_row("gate + up + down", "", f"{found:,}")
    show(table)
    if identity.experts:
        kinds = sorted({one for one in identity.experts if one.number})
        listed = ", ".join(f"{number} of {width:,} neurons" for number, width in kinds)
        show(f"experts per layer: {listed}, in front of the layer's ordinary neurons")


def _draw_check(model) -> bool:
    """Show what was measured; whether the model may be relied on."""
    check = model.self_check()
    lines = [
        (check.untouched_bit_equal, "logits are bit-equal after hooks were set and removed"),
        (True, _padding_words(check)),
        (check.mlp_error < 1e-2, f"sites compute what their names say ({check.mlp_error:.1e})"),
        (True, f"special tokens: {check.special_tokens}"),
        (True, "primitive 1: touch a site"),
        (True, _resume_words(check)),
    ]
    for holds, words in lines:
        show(f"{'✓' if holds else '✗'} {words}")
    attributes = _draw_forms(model)
    return attributes and all(holds for holds, _ in lines)


def _padding_words(check) -> str:
    if check.padding_holds:
        return f"padded batch equals single rows ({check.padding_error:.1e})"
    return f"padding does not hold ({check.drive.padding_error:.1e}): batches are of one length"


def _resume_words(check) -> str:
    if check.resumes:
        return f"primitive 2: run layers from a given one ({check.resume_error:.1e})"
    return "layers cannot be run from a given one: whole passes instead"


def _draw_forms(model) -> bool:
    """Which forms of the branches pass their check; attribution takes the first that does."""
    from broca.attributions import Path, check_form
    from broca.attributions.branching import FORMS

    path = Path("hidden", "frozen-norm", "log-probability")
    checks = [check_form(model, path, form) for form in FORMS]
    for checked in checks:
        show(f"{'✓' if checked.passed else '✗'} attribution, {checked}")
    return any(checked.passed for checked in checks)
