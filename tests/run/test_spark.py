"""Laws of the engine `spark`, on a cluster of two executors that runs here: the same rows as here, whatever dies."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyspark", reason="the extra `spark` is not installed")

import pyarrow.parquet as pq
from spark_faults import Faulty

import imagelake
from imagelake.errors import InputError, LakeFullError
from imagelake.lake.staging import runs
from imagelake.lake.tables import open_tables
from imagelake.run.extract import extract
from imagelake.run.extract_to import extract_to
from imagelake.run.pipeline_options import SparkOptions
from imagelake.run.progress import Silent
from imagelake.run.receipts import new_run
from imagelake.run.spark import extract_spark, extract_spark_to, run_on_spark
from imagelake.run.spark_ingest import ingest_spark
from imagelake.run.spark_jobs import make_work
from imagelake.run.spark_session import session_for, slots_of
from imagelake.sources.folder import Folder
from imagelake.steps.pipeline import Crop, Detect, Pipeline
from pictures import encode, make_image
from tiny_models import brighter_half, mean_color

pytestmark = [
    pytest.mark.slow,
    # Py4J closes its sockets when the JVM is gone, not when we stop.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

TESTS = Path(__file__).parents[1]
CONF = {
    "spark.executorEnv.PYTHONPATH": str(TESTS),
    "spark.executor.memory": "700m",
    "spark.task.maxFailures": "3",
}
PICTURES = 60


class Told(Silent):
    """Remembers what a person would see."""

    def __init__(self):
        self.expected, self.done, self.rejected, self.said = None, 0, 0, []

    def start(self, task, total):  # noqa: ARG002  (as the protocol says)
        self.expected = total

    def advance(self, count):
        self.done += count

    def reject(self, count):
        self.rejected += count

    def say(self, message):
        self.said.append(message)


@pytest.fixture(scope="module")
def spark():
    with session_for(None, "local-cluster[2,1,1024]", CONF, Silent()) as session:
        yield session


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return brighter_half(folder, throws_when_dark=True), mean_color(folder)


@pytest.fixture(scope="module")
def regions(models):
    return Pipeline(detect=Detect(model=models[0], keep="all"), crop=Crop(), embed=models[1])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Thumbnails, one picture that the detector throws on, and one of 24 megapixels."""
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(PICTURES - 2):
        (folder / f"{seed:03}.jpg").write_bytes(encode(make_image(seed), quality=85))
    (folder / "black.png").write_bytes(encode(np.zeros((64, 64, 3), np.uint8), "PNG"))
    (folder / "large.jpg").write_bytes(encode(make_image(7, 6000, 4000), quality=40))
    return folder


@pytest.fixture(scope="module")
def expected(tmp_path_factory, pictures, regions):
    """What the local engine writes."""
    lake = imagelake.open(tmp_path_factory.mktemp("expected") / "lake", create=True)
    lake.ingest(pictures)
    report = extract(lake.tables, regions)
    assert (report.added, report.rejected) == (PICTURES - 1, 1)
    return contents(lake)


@pytest.fixture
def filled(lake, pictures):
    lake.ingest(pictures)
    return lake


def contents(lake):
    """All that an extraction writes, as sets, without times; no row is there twice."""
    found = {}
    for name, table in lake.tables.all().items():
        if name != "receipts":
            columns = [column for column in table.schema.names if column not in {"bytes", "rejected_at", "added_at"}]
            rows = table.read(columns).to_pylist()
            found[name] = sorted(json.dumps(row, sort_keys=True, default=str) for row in rows)
            assert len(set(found[name])) == len(found[name])
    return found


def run_faulty(spark, lake, pipeline, folder, how, at):
    """Like `extract_spark`, with a step that goes wrong."""
    folder.mkdir(exist_ok=True)
    run = new_run("spark")
    work = make_work(spark, pipeline, lake.tables.root, run)
    work = replace(work, step=Faulty(work.step, str(folder), how, at), models_travel=False)
    return run_on_spark(spark, lake.tables, work, pipeline.subject, run, Silent())


def test_an_empty_lake(spark, lake, regions):
    """Nothing is done, and no job is started."""
    report = extract_spark(lake.tables, regions, spark=spark)
    assert (report.found, report.added, report.engine) == (0, 0, "spark")


def test_the_same_rows_as_here(spark, filled, regions, expected, models, tmp_path):
    """Also where models travel, as their folder is on the driver alone; and once it is done, nothing is left to do."""
    told = Told()
    make_work(spark, regions, filled.tables.root, new_run("spark"))  # sends the models
    moved = models[0].folder.rename(tmp_path / "away")
    try:
        report = extract_spark(filled.tables, regions, progress=told, spark=spark)
    finally:
        moved.rename(models[0].folder)
    assert (report.found, report.added, report.known, report.rejected) == (PICTURES, PICTURES - 1, 0, 1)
    assert contents(filled) == expected
    assert (told.expected, told.done, told.rejected) == (PICTURES, PICTURES, 1)
    assert set(report.stages) == {"read", "decode", "detect", "embed", "write"}
    assert runs(filled.tables.root) == []
    again = extract_spark(filled.tables, regions, spark=spark)
    assert (again.found, again.added, again.known, again.rejected) == (PICTURES, 0, PICTURES - 1, 1)
    (run, *_) = [run for run in filled.runs() if run.run == report.run]
    assert (run.engine, run.added, run.rejected) == ("spark", PICTURES - 1, 1)


def test_ingest_on_workers(spark, lake, pictures, tmp_path):
    """The images that ingesting here makes, a content under two names once; a second run finds all of it known."""
    here = imagelake.open(tmp_path / "here.lake", create=True)
    here.ingest(pictures)
    (tmp_path / "twice").mkdir()
    for name in ("one.jpg", "other.jpg"):
        (tmp_path / "twice" / name).write_bytes((pictures / "000.jpg").read_bytes())
    (tmp_path / "twice" / "broken.jpg").write_bytes(b"no picture")
    report = ingest_spark(lake.tables, Folder(pictures), spark=spark)
    assert (report.found, report.added, report.known, report.rejected) == (PICTURES, PICTURES, 0, 0)
    assert contents(lake) == contents(here)
    more = ingest_spark(lake.tables, Folder(tmp_path / "twice"), spark=spark)
    assert (more.found, more.added, more.known, more.rejected) == (3, 0, 2, 1)
    again = ingest_spark(lake.tables, Folder(pictures), spark=spark)
    assert (again.added, again.known) == (0, PICTURES)
    (seen,) = lake.sql(
        "SELECT len(uris) AS names FROM images WHERE list_contains(uris, uris[1]) AND len(uris) > 1"
    ).to_pylist()
    assert seen["names"] == 3


def test_each_engine_goes_on_from_the_other(spark, filled, regions, expected, pictures, tmp_path):
    """Half of the pictures here, the rest on Spark."""
    half = imagelake.open(tmp_path / "half.lake", create=True)
    for path in sorted(pictures.iterdir())[: PICTURES // 2]:
        half.ingest(path)
    extract(half.tables, regions)
    half.ingest(pictures)
    report = extract_spark(half.tables, regions, spark=spark)
    assert report.found == report.added + report.known + report.rejected == PICTURES
    assert report.known == PICTURES // 2
    assert contents(half) == expected


@pytest.mark.parametrize("how", ["raise", "kill", "kill-executor"])
def test_whatever_goes_wrong_on_a_worker(spark, filled, regions, expected, tmp_path, how):
    """A task that fails, a Python process and an executor that are killed: no row is lost or doubled."""
    total = run_faulty(spark, filled, regions, tmp_path / "noted", how, "05" if how != "kill-executor" else "5")
    assert total.counts.found == PICTURES
    assert list((tmp_path / "noted").glob("wrong-*"))
    assert contents(filled) == expected
    assert runs(filled.tables.root) == []


def test_an_error_that_stays(spark, filled, regions, expected, tmp_path):
    """It is raised as what it is, what was done until then is kept, and the next run does the rest."""
    with pytest.raises(LakeFullError, match="No space is left for the test"):
        run_faulty(spark, filled, regions, tmp_path / "noted", "full", "0")
    report = extract_spark(filled.tables, regions, spark=spark)
    assert report.found == report.added + report.known + report.rejected == PICTURES
    assert contents(filled) == expected


def test_a_model_is_opened_once_a_process(spark, filled, regions, tmp_path):
    """Not once a task or a piece."""
    run_faulty(spark, filled, regions, tmp_path / "noted", "none", "")
    opened = [path.name.split("-")[1] for path in (tmp_path / "noted").glob("opened-*")]
    assert len(opened) == len(set(opened)) <= slots_of(spark) + 1


def test_a_killed_driver(spark, filled, regions, expected, tmp_path, models):
    """The next run takes over what was staged, does only the rest, and says so."""
    import pickle

    (tmp_path / "pipeline").write_bytes(pickle.dumps(regions))
    noted = tmp_path / "noted"
    noted.mkdir()
    program = textwrap.dedent("""
        import pickle, sys
        from dataclasses import replace
        from pathlib import Path
        from spark_faults import Faulty
        import imagelake
        from imagelake.run.progress import Silent
        from imagelake.run.receipts import new_run
        from imagelake.run.spark import run_on_spark
        from imagelake.run.spark_jobs import make_work
        from imagelake.run.spark_session import session_for

        lake, pipeline = imagelake.open(sys.argv[1]), pickle.loads(Path(sys.argv[2]).read_bytes())
        with session_for(None, "local[2]", {}, Silent()) as session:
            run = new_run("spark")
            work = make_work(session, pipeline, lake.tables.root, run)
            work = replace(work, step=Faulty(work.step, sys.argv[3], "slow"))
            run_on_spark(session, lake.tables, work, pipeline.subject, run, Silent())
    """)
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-c", program, filled.tables.root, str(tmp_path / "pipeline"), str(noted)]
    driver = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        staging = Path(filled.tables.root) / "staging"
        until = time.monotonic() + 300
        while len(list(staging.glob("*/*.json"))) < 2:
            assert driver.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    assert runs(filled.tables.root)
    told = Told()
    report = extract_spark(filled.tables, regions, progress=told, spark=spark)
    assert report.found == report.added + report.known + report.rejected == PICTURES
    assert told.done < PICTURES
    assert contents(filled) == expected
    assert runs(filled.tables.root) == []


def rows_of(folder):
    """The rows of Parquet files as a set, without times."""
    table = pq.read_table(folder)
    columns = [name for name in table.schema.names if not name.endswith("_s")]
    return sorted(json.dumps(row, sort_keys=True, default=str) for row in table.select(columns).to_pylist())


@pytest.mark.parametrize("of", ["lake", "folder"])
def test_results_in_parquet_files(spark, filled, regions, pictures, tmp_path, of):
    """The same rows as here, from a lake or from a folder that workers read; what is there is left out next time."""
    (pictures / "broken.jpg").write_bytes(b"broken")
    given = filled.tables if of == "lake" else Folder(str(pictures))
    here, there = tmp_path / "here", tmp_path / "there"
    told = Told()
    try:
        local = extract_to(given, regions, str(here))
        report = extract_spark_to(given, regions, str(there), progress=told, spark=spark)
        again = extract_spark_to(given, regions, f"file://{there}", spark=spark)
    finally:
        (pictures / "broken.jpg").unlink()
    assert rows_of(there) == rows_of(here)
    counts = ("found", "added", "known", "rejected", "regions", "fallbacks")
    assert [getattr(report, name) for name in counts] == [getattr(local, name) for name in counts]
    assert (again.found, again.added, again.known) == (report.found, 0, report.added)
    assert again.rejected == report.rejected > 0
    assert told.done == report.found
    listed = [(each.run, each.subject) for each in filled.runs() if each.engine == "spark"]
    assert listed == ([(report.run, str(there))] if of == "lake" else [])
    with pytest.raises(InputError, match=r"holds pictures by their .* and this run has them by their"):
        extract_spark_to(Folder(str(pictures)) if of == "lake" else filled.tables, regions, str(there), spark=spark)
    beside = replace(regions, crop=None)  # whose vectors are those of the embedder alone
    extract_spark_to(Folder(str(pictures)), Pipeline(embed=regions.embed), str(tmp_path / "whole"), spark=spark)
    with pytest.raises(InputError, match="other steps"):
        extract_spark_to(Folder(str(pictures)), beside, str(tmp_path / "whole"), spark=spark)
    with pytest.raises(InputError, match="other steps"):
        extract_spark_to(given, Pipeline(embed=regions.embed), str(there), spark=spark)


def test_masters_that_are_none(spark, lake, regions):
    """What was given, what is allowed, what to do."""
    with pytest.raises(InputError, match="is active at local-cluster"):
        extract_spark(lake.tables, regions, SparkOptions(master="spark://elsewhere:7077"))
    # `spark` is active: so these are asked of another process
    program = "import sys; from imagelake.run.spark_session import *; from imagelake.run.progress import Silent\n"
    program += "with session_for(None, (sys.argv[1:] or [None])[0], {}, Silent()): pass"
    for words, reason in (["mesos://x"], "is no master of Spark"), ([], "Nobody says where Spark is"):
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYSPARK", "SPARK"))}
        done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, env=clean)
        assert reason in done.stderr


def test_a_standalone_cluster_and_the_command_line(filled, regions, expected, models, tmp_path):
    """A master and two workers on this machine, one processor each; the words that a user types."""
    import pyspark

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    run = [str(Path(pyspark.__file__).parent / "bin" / "spark-class")]
    deploy = "org.apache.spark.deploy"
    here = ["--host", "127.0.0.1", "--webui-port", "0"]
    cluster = [[*run, f"{deploy}.master.Master", *here, "--port", str(port)]]
    for name in ("one", "two"):
        work = ["--cores", "1", "--memory", "1g", "--work-dir", str(tmp_path / name)]
        cluster.append([*run, f"{deploy}.worker.Worker", *here, *work, f"spark://127.0.0.1:{port}"])
    toml = tmp_path / "regions.toml"
    toml.write_text(
        '[detect]\nmodel = "brighter-half"\nkeep = "all"\n[embed]\nmodel = "mean-color"\n'
        '[spark.conf]\n"spark.driver.host" = "127.0.0.1"\n"spark.driver.bindAddress" = "127.0.0.1"\n'
        '"spark.executor.memory" = "700m"\n"spark.ui.enabled" = "false"\n'
    )
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    environment["XDG_DATA_HOME"] = str(tmp_path / "data")
    registry = tmp_path / "data" / "imagelake" / "models"
    registry.parent.mkdir(parents=True)
    registry.symlink_to(models[0].folder.parent)
    with ExitStack() as stack:
        for command in cluster:
            process = subprocess.Popen(
                command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
        words = ["extract", "--lake", filled.tables.root, "--pipeline", str(toml), "--engine", "spark", "--json"]
        master = ["--master", f"spark://127.0.0.1:{port}"]
        done = subprocess.run(
            [sys.executable, "-m", "imagelake", *words, *master], capture_output=True, text=True, env=environment
        )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["engine"], report["added"], report["rejected"]) == ("spark", PICTURES - 1, 1)
    assert contents(imagelake.Lake(open_tables(filled.tables.root))) == expected
