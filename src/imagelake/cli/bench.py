"""`imagelake bench`: benchmarks that people can run on their own vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

import imagelake
from imagelake.cli.output import JsonOption, write_json, write_line, write_note, write_table

if TYPE_CHECKING:
    from imagelake.run.bench_knn import KnnReport, KnnRun


def register(app: typer.Typer) -> None:
    """Add the verb."""
    bench = typer.Typer(name="bench", no_args_is_help=True, rich_markup_mode=None)
    bench.callback()(_about)
    bench.command()(knn)
    app.add_typer(bench)


def _about() -> None:
    """Measure imagelake against what people use.

    \b
    Example:
      imagelake bench knn --lake photos.lake
    """


def knn(
    lake: Annotated[
        str | None, typer.Option("--lake", "-l", help="A lake whose vectors are split 9:1.", show_default=False)
    ] = None,
    embedding_set: Annotated[str | None, typer.Option("--set", help="Which embedding set.", show_default=False)] = None,
    base: Annotated[
        str | None, typer.Option(metavar="B.npy", help="What is searched, (n, d).", show_default=False)
    ] = None,
    queries: Annotated[
        str | None, typer.Option(metavar="Q.npy", help="The queries, (m, d).", show_default=False)
    ] = None,
    synthetic: Annotated[
        str | None,
        typer.Option(
            metavar="N,M,D",
            help="N vectors and M queries of D dimensions from a seeded mixture that resembles embeddings.",
            show_default=False,
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many neighbors.")] = 3,
    metric: Annotated[str, typer.Option(metavar="NAME", help="l2 or cosine.")] = "l2",
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Out of sklearn,faiss,usearch,numpy,torch,cuvs.  [default: all that are installed]",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICES",
            help="Where ours runs, out of cpu,cuda; torch and cuvs run on CUDA where ours does.  "
            "[default: cpu, and cuda where torch has it]",
            show_default=False,
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(metavar="N", help="How many timed searches each.")] = 3,
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="For each of them.  [default: as many as the process may use]", show_default=False
        ),
    ] = None,
    max_memory_fraction: Annotated[
        float, typer.Option(metavar="SHARE", help="How much of a GPU's free memory ours may use.")
    ] = 0.8,
    check: Annotated[
        int | None,
        typer.Option(metavar="N", help="Check only N random queries.  [default: all]", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same vectors, split and sample again.")] = 0,
    grid: Annotated[
        str | None,
        typer.Option(metavar="OUT.png", help="Draw 5 queries of the lake with their 3 nearest.", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Find nearest neighbors by brute force and by imagelake: time both, check both.

    Each library gets the same vectors and threads. All search once to warm up, then in turns; times are medians, and
    without building the index. Every neighbor is checked in float64: it is wrong if it is farther than the true k-th.
    The published demo has 90,000 vectors of 2,048 dimensions, 10,000 queries and k 3, and accepts distances that differ
    by less than 1.

    \b
    Examples:
      imagelake bench knn --lake photos.lake --grid neighbors.png
      imagelake bench knn --base features.npy --queries others.npy --against sklearn,faiss
      imagelake bench knn --synthetic 90000,10000,2048 --check 1000 --json
    """
    from imagelake.cli.bar import progress_bar  # late: --help needs none of these
    from imagelake.run.bench_knn import KnnOptions, bench_knn, check_options
    from imagelake.run.knn_data import Source, load_knn_data
    from imagelake.run.knn_grid import check_grid, save_knn_grid

    options = KnnOptions(
        k=k,
        metric=metric,  # type: ignore[arg-type]  # `check_options` refuses what is no metric
        against=_names(against),
        devices=_names(device),
        repeats=repeats,
        threads=threads,
        max_memory_fraction=max_memory_fraction,
        check=check,
        seed=seed,
    )
    check_options(options)
    tables = None if lake is None else imagelake.open(lake).tables
    if grid:
        check_grid(tables, grid)
    data = load_knn_data(Source(tables, embedding_set, base, queries, synthetic), seed)
    with progress_bar() as bar:
        measured = bench_knn(data, options, bar)
    if grid:
        save_knn_grid(data, measured.answer, grid, seed)
    if json:
        write_json(measured.report)
    else:
        _write_report(measured.report)
    for note in measured.report.notes:
        write_note(note)
    if grid and not json:
        write_note(f"Grid: {grid}")


def _names(given: str | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(name.strip() for name in given.split(",") if name.strip())


def _write_report(report: KnnReport) -> None:
    rows, dimensions = report.base
    threads = f"{report.threads} thread{'' if report.threads == 1 else 's'}"
    write_line(f"The {report.k} nearest ({report.metric}) of {rows:,} vectors of {dimensions:,} dimensions for")
    write_line(f"{report.queries:,} queries, {threads}, {report.machine.gpu or report.machine.processor}.")
    write_line(f"Vectors: {report.source}.\n")
    columns = ["name", "seconds", "speed-up", "largest difference", "wrong neighbors", "build s"]
    write_table(columns, [_row(run) for run in report.runs], right=columns[1:])
    write_line("\n" + _conclusion(report))


def _row(run: KnnRun) -> tuple[object, ...]:
    return (
        run.name,
        f"{run.seconds:.4f}",
        f"{run.ratio:.2f}x",
        f"{run.max_distance_difference:.2g}",
        f"{run.wrong_neighbors:,}",
        f"{run.build_seconds:.3f}",
    )


def _conclusion(report: KnnReport) -> str:
    """One sentence: how fast ours is, and whether all agree."""
    first, others = report.runs[0], report.runs[1:]
    speeds = ", ".join(f"{run.ratio:,.2f} times as fast as {run.name}" for run in others)
    distances = report.checked_queries * report.k
    beyond = sum(run.above_tolerance for run in report.runs)
    agree = "all distances agree" if not beyond else f"{beyond:,} distances do not agree"
    fine = ", ".join(f"{run.name} {run.above_thousandth:,}" for run in report.runs if run.above_thousandth) or "none"
    wrong = ", ".join(f"{run.name} {run.wrong_neighbors:,}" for run in report.runs if run.wrong_neighbors) or "none"
    largest = max(run.max_distance_difference for run in report.runs)
    return (
        f"{first.name} is {speeds or 'alone'}; of {distances:,} distances each ({report.checked_queries:,} of "
        f"{report.queries:,} queries checked), {agree} within the demo's tolerance of 1 (largest difference "
        f"{largest:.2g}; more than 0.001 off: {fine}); wrong neighbors: {wrong}."
    )
