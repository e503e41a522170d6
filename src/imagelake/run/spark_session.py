"""How to reach Spark: a session that is there already, or one of our own that fits this work."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyspark import find_spark_home
from pyspark.sql import SparkSession

from imagelake.errors import InputError
from imagelake.run.progress import Progress

_MASTER = re.compile(r"local(\[.*\])?|local-cluster\[\d+, *\d+, *\d+\]|spark://.+|yarn|k8s://.+")
_ON_THIS_MACHINE = re.compile(r"local(\[.*\])?|local-cluster\[.*\]")
_ONLY_LOCAL = re.compile(r"local(\[.*\])?")

# What our tasks are: few, long, and safe to run twice.
_SETTINGS = {
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
    "spark.python.worker.reuse": "true",
    "spark.task.maxFailures": "4",
}
_SETTINGS_HERE = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
}


@contextmanager
def session_for(
    spark: SparkSession | None, master: str | None, conf: Mapping[str, str], progress: Progress
) -> Iterator[SparkSession]:
    """The session to use: the one given, else the active one, else a new one that is stopped at the end.

    Args:
        spark: the caller's.
        master: of a new one; None: what `spark-submit` says.
        conf: settings of a new one.
        progress: told how long it took to start.

    Raises:
        InputError: the master is none that Spark knows, another session is active, or there is none to join.
    """
    active = spark or SparkSession.getActiveSession()
    if active is not None:
        _refuse_other(active, master)
        yield active
        return
    if master is not None and not _MASTER.fullmatch(master):
        raise InputError(
            f"{master!r} is no master of Spark. Give local[4], local-cluster[2,1,2048] (workers, cores and MiB of "
            "each), spark://host:7077, yarn or k8s://https://host:port."
        )
    if master is None and "spark.master" not in conf and not _submitted():
        raise InputError(
            "Nobody says where Spark is. Give --master local-cluster[2,1,2048], or start with spark-submit."
        )
    began = time.monotonic()
    session = _start(master, conf)
    progress.say(f"Spark started in {time.monotonic() - began:.1f} s")
    where, application = (str(session.conf.get(name, "")) for name in ("spark.master", "spark.app.id"))
    try:
        yield session
    finally:
        session.stop()
    if where.startswith("local-cluster") and application:  # its workers leave what was unpacked for them
        shutil.rmtree(Path(find_spark_home._find_spark_home()) / "work" / application, ignore_errors=True)  # noqa: SLF001


def _start(master: str | None, conf: Mapping[str, str]) -> SparkSession:
    where = master or conf.get("spark.master", "")
    settings = dict(_SETTINGS)
    if _ON_THIS_MACHINE.fullmatch(where):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        settings |= _SETTINGS_HERE
    builder = SparkSession.builder.appName("imagelake")
    if master is not None:
        builder = builder.master(master)
    for name, value in {**settings, **conf}.items():
        builder = builder.config(name, value)
    try:
        with warnings.catch_warnings():  # the JVM is started by a fork that becomes another program at once
            warnings.filterwarnings("ignore", "lance is not fork-safe")
            return builder.getOrCreate()
    except Exception as error:
        raise InputError(f"Spark does not start at {where or 'its own master'}: {_first_line(error)}") from error


def _submitted() -> bool:
    """Whether `spark-submit` started this program, or a cluster did."""
    return "PYSPARK_GATEWAY_PORT" in os.environ or "SPARK_REMOTE" in os.environ


def _refuse_other(active: SparkSession, master: str | None) -> None:
    there = active.conf.get("spark.master", "")
    if master is not None and there and master != there:
        raise InputError(f"A Spark session is active at {there}; stop it, or leave {master!r} out to use it.")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def slots_of(spark: SparkSession) -> int:
    """How many of our tasks run at a time, as far as the driver can know."""
    cpus = int(spark.conf.get("spark.task.cpus", "1") or 1)
    try:
        cores = int(spark.sparkContext.defaultParallelism)
    except Exception:  # noqa: BLE001  (Spark Connect has no context)
        cores = 16
    return max(1, cores // cpus)


def is_on_this_machine(spark: SparkSession) -> bool:
    """Whether workers see the driver's files."""
    return bool(_ONLY_LOCAL.fullmatch(str(spark.conf.get("spark.master", ""))))


_sent: set[tuple[str, str]] = set()  # (application, folder): an archive is sent once


def send_folders(spark: SparkSession, folders: Sequence[Path]) -> None:
    """Send folders to every worker, where they lie by their names below `SparkFiles.getRootDirectory()`."""
    for folder in folders:
        key = (str(spark.conf.get("spark.app.id", "")), str(folder))
        if key in _sent:
            continue
        below = tempfile.mkdtemp(prefix="imagelake-")
        atexit.register(shutil.rmtree, below, ignore_errors=True)  # workers fetch it whenever one starts
        archive = shutil.make_archive(str(Path(below) / folder.name), "zip", folder)
        spark.addArtifacts(f"{archive}#{folder.name}", archive=True)
        _sent.add(key)
