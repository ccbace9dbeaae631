"""`broca inspect`: what broca sees of a model, and whether it may be relied on."""

from __future__ import annotations

from typing import Annotated

import typer

from broca.cli.output import show


def inspect(
    model: Annotated[str, typer.Option(help="Hub name, folder, .gguf file, or 'atlas'.")] = "atlas",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    dtype: Annotated[str, typer.Option(help="As in transformers.")] = "auto",
    device_map: Annotated[str | None, typer.Option(help="As in transformers.")] = None,
) -> None:
    """Print a model's sites, neurons, parameters and memory, and check it by arithmetic.

    The exit code is 1 where the check fails.
    """
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
    _draw_sites(loaded)
    if not _draw_check(loaded):
        raise typer.Exit(1)


def _draw_sites(model) -> None:
    from rich import box
    from rich.table import Table

    table = Table("site", "per layer", "neurons", box=box.SIMPLE_HEAD)
    for site, width in model.widths.items():
        table.add_row(site, f"{width:,}", f"{width * model.n_layers:,}")
    found = sum(model.widths[site] for site in ("gate", "up", "down") if site in model.widths)
    table.add_row("gate + up + down", f"{found:,}", f"{found * model.n_layers:,}")
    show(table)


def _draw_check(model) -> bool:
    """Show what was measured; whether the model may be relied on."""
    check = model.self_check()
    lines = [
        (check.untouched_bit_equal, "logits are bit-equal after hooks were set and removed"),
        (check.padding_holds, f"padded batch equals single rows ({check.padding_error:.1e})"),
        (check.mlp_error < 1e-2, f"sites compute what their names say ({check.mlp_error:.1e})"),
        (True, f"special tokens: {check.special_tokens}"),
        (True, "primitive 1: touch a site"),
        (check.resumes, f"primitive 2: run layers from a given one ({check.resume_error:.1e})"),
    ]
    for holds, words in lines:
        show(f"{'✓' if holds else '✗'} {words}")
    attributes = _draw_forms(model)
    return attributes and all(holds for holds, _ in lines)


def _draw_forms(model) -> bool:
    """Which forms of the branches pass their check; attribution takes the first that does."""
    from broca.attributions import Path, check_form

    path = Path("hidden", "frozen-norm", "log-probability")
    checks = [check_form(model, path, form) for form in ("wavefront", "packed", "rows")]
    for checked in checks:
        show(f"{'✓' if checked.passed else '✗'} attribution, {checked}")
    return any(checked.passed for checked in checks)
