"""A published k-NN demo once more: brute force over embeddings, ours against the libraries that people use.

The demo finds the 3 nearest of 90,000 vectors of 2,048 numbers for 10,000 queries and accepts distances that differ by
less than 1. Here every library gets the same arrays and the same threads in one process; each searches once to warm up,
then they take turns, so that a busy moment of the machine hits all. Times are medians. Answers are checked against
float64 arithmetic, neighbor by neighbor.
"""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from imagelake.errors import InputError
from imagelake.run.knn_check import Answer, Verdict, check_answers
from imagelake.run.knn_contenders import Search, Setting, build_ours, choose_contenders, limited_threads
from imagelake.run.knn_data import KnnData
from imagelake.run.machine import Machine, describe_machine
from imagelake.run.progress import Progress, Silent
from imagelake.search.exact import Metric
from imagelake.search.gpu import choose_device
from imagelake.search.segment import Floats
from imagelake.search.threads import thread_count

_OURS = "imagelake.search.index"
_PACKAGES = (
    *("imagelake", "numpy", "scikit-learn", "threadpoolctl", "faiss-cpu", "faiss-gpu", "usearch", "torch"),
    *("cuvs-cu12", "cuvs-cu13"),
)


@dataclass(frozen=True)
class KnnOptions:
    """What to measure.

    Attributes:
        k: how many neighbors.
        metric: `"l2"` or `"cosine"`.
        against: names of `CONTENDERS`; None for all that are installed.
        devices: where ours runs, one after the other: `"cpu"`, `"cuda"`, `"cuda:1"`. None for the CPU and, where torch
            has it, CUDA. Contenders for GPUs run on the first CUDA device of these.
        repeats: how many timed searches each.
        threads: for each of them; None for as many as the process may use.
        max_memory_fraction: how much of a CUDA device's free memory ours may use.
        check: how many queries to check, a seeded sample; None for all.
        seed: of the sample and of the grid's queries.
    """

    k: int = 3
    metric: Metric = "l2"
    against: Sequence[str] | None = None
    devices: Sequence[str] | None = None
    repeats: int = 3
    threads: int | None = None
    max_memory_fraction: float = 0.8
    check: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class KnnRun:
    """What one search took and how right it is.

    Attributes:
        name: `imagelake-cpu`, `imagelake-cuda`, or the contender's.
        device: where it ran.
        seconds: the median of `times`, for all queries.
        ratio: how many times as long as our first device took.
        max_distance_difference, above_tolerance, above_thousandth, wrong_neighbors: see `knn_check.Verdict`.
        build_seconds: to make the index, once.
        times: of each timed search, in seconds.
    """

    name: str
    device: str
    seconds: float
    ratio: float
    max_distance_difference: float
    above_tolerance: int
    above_thousandth: int
    wrong_neighbors: int
    build_seconds: float
    times: list[float]


@dataclass(frozen=True)
class KnnReport:
    """A benchmark's result.

    Attributes:
        runs: ours first.
        base: rows and dimensions.
        queries: how many were searched; `checked_queries` of them were checked.
        source: where the vectors come from.
        notes: what a reader should know: who is not installed, who failed, whose vectors were rounded.
    """

    runs: list[KnnRun]
    k: int
    metric: Metric
    base: tuple[int, int]
    queries: int
    threads: int
    checked_queries: int
    source: str
    machine: Machine
    notes: list[str]


@dataclass(frozen=True, eq=False)
class Measured:
    """The report, and the neighbors that ours found on its first device."""

    report: KnnReport
    answer: Answer


@dataclass
class _Runner:
    """A search that takes part, and what was measured of it."""

    name: str
    device: str
    module: str
    build: Callable[[Floats, Setting], Search]
    must_run: bool
    search: Search | None = None
    build_seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    answer: Answer | None = None
    failure: str | None = None

    def attempt(self, work: Callable[[], object]) -> None:
        """Do some of the work, unless some failed before. What a library that nobody asked for raises is a note."""
        if self.failure is not None:
            return
        if self.module == _OURS:
            work()
            return
        try:
            work()
        except Exception as error:  # another library may raise anything
            reason = f"{self.name} failed: {type(error).__name__}: {' '.join(str(error).split()) or 'no reason given'}"
            if self.must_run:
                raise InputError(f"{reason}. Leave it out of --against, or mend it.") from error
            self.failure, self.search, self.answer = reason, None, None


def bench_knn(data: KnnData, options: KnnOptions, progress: Progress | None = None) -> Measured:
    """Search for all queries with ours and the others, time them, and check all answers.

    Raises:
        InputError: k is more than there are rows, or a library that was asked for fails.
        ImagelakeError: as `check_options`.
    """
    progress = progress or Silent()
    check_options(options)
    if options.k > len(data.base):
        raise InputError(f"-k is {options.k}; the base has {len(data.base):,} vectors, so give 1 to {len(data.base)}.")
    runners, notes = _runners(options)
    threads = thread_count(options.threads)
    for runner in runners:
        runner.attempt(partial(importlib.import_module, runner.module))
    with limited_threads(threads):
        _measure(runners, data, options, threads, progress)
        runners, failed = [r for r in runners if r.failure is None], [r for r in runners if r.failure is not None]
        verdicts, checked = _verdicts(runners, data, options, progress)
    notes += [str(runner.failure) for runner in failed] + _remarks(data, options)
    reference = statistics.median(runners[0].times)
    report = KnnReport(
        runs=[_run(runner, reference, verdicts[runner.name]) for runner in runners],
        k=options.k,
        metric=options.metric,
        base=(data.base.shape[0], data.base.shape[1]),
        queries=len(data.queries),
        threads=threads,
        checked_queries=checked,
        source=data.source,
        machine=describe_machine(_PACKAGES, threads, _gpu_name(runners)),
        notes=notes,
    )
    return Measured(report, _answer_of(runners[0]))


def check_options(options: KnnOptions) -> None:
    """Refuse what cannot be measured on any vectors.

    Raises:
        InputError: an option that is out of range, or a library that was asked for and is not installed.
        SearchError: a device or a number of threads that is not there.
        MissingExtraError: a CUDA device was asked for, and torch is not installed.
    """
    if options.k < 1:
        raise InputError(f"-k is {options.k}; it must be 1 or more.")
    if options.metric not in ("l2", "cosine"):
        raise InputError(f"--metric {options.metric!r} is not known; give l2 or cosine.")
    if options.repeats < 1:
        raise InputError(f"--repeats is {options.repeats}; it must be 1 or more.")
    if options.check is not None and options.check < 1:
        raise InputError(f"--check is {options.check}; it must be 1 or more. Leave it out to check all queries.")
    if options.seed < 0:
        raise InputError(f"--seed is {options.seed}; it must be 0 or more.")
    if not 0 < options.max_memory_fraction <= 1:
        raise InputError(f"--max-memory-fraction is {options.max_memory_fraction}; it must be above 0, at most 1.")
    thread_count(options.threads)
    choose_contenders(options.against)
    if options.devices is not None:  # to look for the default ones loads torch
        _devices(options)


def _devices(options: KnnOptions) -> list[str]:
    if options.devices is None:
        return list(dict.fromkeys(("cpu", choose_device("auto"))))
    if not options.devices:
        raise InputError("--device names nothing; give cpu, cuda, or cpu,cuda.")
    return list(dict.fromkeys(choose_device(device) for device in options.devices))


def _runners(options: KnnOptions) -> tuple[list[_Runner], list[str]]:
    """Who takes part, ours first, and notes on who does not."""
    chosen, missing = choose_contenders(options.against)
    devices = _devices(options)
    gpu = next((device for device in devices if device != "cpu"), "cpu")
    ours = [_Runner(f"imagelake-{device}", device, _OURS, build_ours, must_run=True) for device in devices]
    others = [
        _Runner(
            contender.name,
            gpu if contender.on_gpu else "cpu",
            contender.module,
            contender.build,
            must_run=options.against is not None,
        )
        for contender in chosen
    ]
    if not missing:
        return ours + others, []
    names, packages = (" ".join(getattr(each, what) for each in missing) for what in ("name", "package"))
    return ours + others, [f"Not installed, so not measured: {names}. To have them: pip install {packages}"]


def _measure(runners: list[_Runner], data: KnnData, options: KnnOptions, threads: int, progress: Progress) -> None:
    """Build all, let each search once, then in turns."""
    progress.start("Searching", len(runners) * (1 + options.repeats))
    for runner in runners:
        setting = Setting(options.metric, runner.device, threads, options.max_memory_fraction)
        runner.attempt(partial(_build, runner, data, setting))
    for repeat in range(1 + options.repeats):
        for runner in runners:
            runner.attempt(partial(_search, runner, data, options.k))
            if repeat == 0:
                runner.times.clear()  # that was to warm up
            progress.advance(1)


def _build(runner: _Runner, data: KnnData, setting: Setting) -> None:
    start = time.perf_counter()
    runner.search = runner.build(data.base, setting)
    runner.build_seconds = time.perf_counter() - start


def _search(runner: _Runner, data: KnnData, k: int) -> None:
    if runner.search is None:
        raise AssertionError("it was built")
    start = time.perf_counter()
    runner.answer = runner.search(data.queries, k)
    runner.times.append(time.perf_counter() - start)


def _verdicts(
    runners: list[_Runner], data: KnnData, options: KnnOptions, progress: Progress
) -> tuple[dict[str, Verdict], int]:
    """What is right of each answer, and how many queries were looked at."""
    count = len(data.queries)
    sample = np.arange(count)
    if options.check is not None:
        sample = np.sort(np.random.default_rng(options.seed).permutation(count)[: options.check])
    progress.start("Checking", len(sample))
    answers = {}
    for runner in runners:
        answer = _answer_of(runner)
        answers[runner.name] = Answer(answer.distances[sample], answer.rows[sample])
    verdicts = check_answers(data.base, data.queries[sample], answers, options.k, options.metric, progress)
    return verdicts, len(sample)


def _answer_of(runner: _Runner) -> Answer:
    if runner.answer is None:
        raise AssertionError("it has searched")
    return runner.answer


def _run(runner: _Runner, reference: float, verdict: Verdict) -> KnnRun:
    seconds = statistics.median(runner.times)
    return KnnRun(
        name=runner.name,
        device=runner.device,
        seconds=seconds,
        ratio=seconds / reference,
        max_distance_difference=verdict.max_distance_difference,
        above_tolerance=verdict.above_tolerance,
        above_thousandth=verdict.above_thousandth,
        wrong_neighbors=verdict.wrong_neighbors,
        build_seconds=runner.build_seconds,
        times=runner.times,
    )


def _remarks(data: KnnData, options: KnnOptions) -> list[str]:
    """What explains differences that are no fault of a search."""
    remarks = []
    if data.base.dtype == np.float64:
        remarks.append("The vectors are float64: faiss, numpy, torch and cuvs search float32 copies of them.")
    if options.metric == "cosine" and not (data.base.any(axis=1).all() and data.queries.any(axis=1).all()):
        remarks.append(
            "Some vectors are zero and have no angle. Here they are at 1 from all others and at 0 from each other; "
            "other libraries have other rules."
        )
    return remarks


def _gpu_name(runners: Sequence[_Runner]) -> str | None:
    device = next((runner.device for runner in runners if runner.device != "cpu"), None)
    if device is None:
        return None
    torch: Any = importlib.import_module("torch")
    return str(torch.cuda.get_device_name(device))
