"""`imagelake codes`: learn short binary codes, and give every vector its code."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

import imagelake
from imagelake.cli.models_add import FolderOption, registry_of
from imagelake.cli.output import JsonOption, LakeOption, write_json, write_line, write_note

codes_app = typer.Typer(
    help="Learn short binary codes, and give every vector its code.", no_args_is_help=True, rich_markup_mode=None
)


class Method(StrEnum):
    """How a code is learned."""

    neighbors = "neighbors"
    itq = "itq"
    pca = "pca"
    bihalf = "bihalf"
    deepbit = "deepbit"


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    for verb in (fit, write):
        codes_app.command()(verb)
    app.add_typer(codes_app, name="codes")


def fit(
    lake: LakeOption,
    bits: Annotated[int, typer.Option(help="The length of a code: a multiple of 8, 16 to 512.")] = 64,
    method: Annotated[Method, typer.Option(help="How to learn it.")] = Method.neighbors,
    embedding_set: Annotated[
        str | None, typer.Option("--set", help="Which embedding set.  [default: the only one]", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What to call it.  [default: method, bits, fingerprint]", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Another gives another code of the same kind.", min=0)] = 0,
    pictures: Annotated[int, typer.Option(help="How many pictures deepbit turns.")] = 1000,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a model of this name.")] = False,
    models: FolderOption = None,
    json: JsonOption = False,
) -> None:
    """Learn binary codes on a lake's vectors: the coder becomes a model like any other.

    \b
    Examples:
      imagelake codes fit --lake photos.lake
      imagelake codes fit --lake photos.lake --bits 128 --method itq --name photos-itq
    """
    from imagelake.cli.bar import progress_bar  # late: --help needs none of these
    from imagelake.run.codes import FitOptions, fit_codes

    options = FitOptions(bits, method.value, embedding_set, name, seed, pictures, replace)
    with progress_bar() as bar:
        report = fit_codes(imagelake.open(lake).tables, options, registry=registry_of(models), progress=bar)
    if json:
        write_json(report)
        return
    write_line(
        f"{report.coder}: {report.bits} bits by {report.method}, learned from {report.vectors:,} vectors of "
        f"{report.embedding_set} ({report.seconds:,.1f} s)"
    )
    write_note(f"Now give every vector its code: imagelake codes write --coder {report.coder} --lake {lake}")


def write(
    lake: LakeOption,
    coder: Annotated[str, typer.Option(help="What `imagelake codes fit` made.", show_default=False)],
    models: FolderOption = None,
    json: JsonOption = False,
) -> None:
    """Give every vector its code, where it has none yet.

    \b
    Example:
      imagelake codes write --coder photos-itq --lake photos.lake
    """
    from imagelake.cli.bar import progress_bar  # late: --help needs none of these
    from imagelake.models.choice import choose_coder
    from imagelake.run.codes import write_codes

    model = choose_coder(coder, registry=registry_of(models))
    with progress_bar() as bar:
        report = write_codes(imagelake.open(lake).tables, model, bar)
    if json:
        write_json(report)
    else:
        write_line(
            f"{report.found:,} vectors of {report.embedding_set}: {report.added:,} coded, {report.known:,} known, "
            f"{report.removed:,} codes removed ({report.seconds:,.1f} s)"
        )
