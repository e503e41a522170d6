"""Laws of work that is cut into pieces, done on workers and committed by one driver, whatever the engine."""

import contextlib
import hashlib
import itertools
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from spark_faults import Faulty

import imagelake
from imagelake.lake.ids import IdSet
from imagelake.lake.staging import Staging, runs
from imagelake.lake.table import Table
from imagelake.run.extract import extract
from imagelake.run.outcome import Done, Outcome
from imagelake.run.piece_work import Work, do_piece
from imagelake.run.pieces import PieceSize, _bounds, lake_pieces, source_pieces
from imagelake.run.receipts import new_run
from imagelake.run.waves import BEAT, Committer, left_behind, marks_of, suspects_of
from imagelake.sources.folder import Folder
from imagelake.sources.many import Many
from imagelake.steps.extract import ExtractPictures
from imagelake.steps.pipeline import Crop, Detect, Pipeline
from pictures import encode, make_image
from tiny_models import brighter_half, mean_color

NOTHING = Done((IdSet([]),))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return brighter_half(folder, throws_when_dark=True), mean_color(folder)


@pytest.fixture
def regions(models):
    return Pipeline(detect=Detect(model=models[0], keep="all"), crop=Crop(), embed=models[1])


@pytest.fixture
def filled(lake, photos):
    (photos / "black.png").write_bytes(encode(np.zeros((40, 40, 3), np.uint8), "PNG"))
    lake.ingest(photos)
    return lake


def begin(lake, pipeline):
    """What an engine does first: the work, and the one who commits."""
    run, outcome = new_run("test"), Outcome(pipeline)
    targets = outcome.prepare(lake.tables)
    addresses = tuple((name, table.uri) for name, table in targets.items())
    work = Work(lake.tables.root, run.id, pipeline.fingerprint, ExtractPictures(pipeline), outcome, targets=addresses)
    committer = Committer(lake.tables, targets, pipeline.subject, pipeline.fingerprint, run)
    committer.marks = marks_of(targets)
    done = outcome.done(lake.tables)
    committer.suspects = suspects_of(targets, done, outcome)
    pieces = list(lake_pieces(lake.tables, done, pipeline.fingerprint, PieceSize(max_rows=3)))
    return work, committer, pieces


def contents(lake):
    """All that an extraction writes, as sets, without times."""
    found = {}
    for name, table in lake.tables.all().items():
        if name == "receipts":
            continue
        columns = [column for column in table.schema.names if column not in {"bytes", "rejected_at", "added_at"}]
        rows = table.read(columns).to_pylist()
        found[name] = sorted(json.dumps(row, sort_keys=True, default=str) for row in rows)
        assert len(set(found[name])) == len(found[name])
    return found


def run_all(lake, pipeline):
    work, committer, pieces = begin(lake, pipeline)
    for piece in pieces:
        do_piece(work, piece, threads=2)
    committer.look()
    committer.commit()
    committer.close()
    return committer


def test_pieces_have_every_image_once(filled):
    """However large they are; the same images are the same pieces; a done image is in none; no image, no piece."""
    images = set(filled.tables.images.read(["id"]).column("id").to_pylist())
    for rows in (1, 4, 100):
        pieces = list(lake_pieces(filled.tables, NOTHING, "f", PieceSize(max_rows=rows)))
        again = pickle.loads(pickle.dumps(list(lake_pieces(filled.tables, NOTHING, "f", PieceSize(max_rows=rows)))))
        assert again == pieces
        read = [batch.column("id").to_pylist() for piece in pieces for batch in piece.batches()]
        ids = list(itertools.chain.from_iterable(read))
        assert (len(ids), set(ids)) == (13, images)
        assert len({piece.name for piece in pieces}) == len(pieces) == -(-13 // rows)
    half = Done((IdSet([pa.array(sorted(images)[:6])]),))
    left = [batch for piece in lake_pieces(filled.tables, half, "f", PieceSize()) for batch in piece.batches()]
    assert {each for batch in left for each in batch.column("id").to_pylist()} == set(sorted(images)[6:])
    assert list(lake_pieces(filled.tables, Done((IdSet([pa.array(sorted(images))]),)), "f", PieceSize())) == []


def test_a_piece_is_bounded_by_bytes(lake, tmp_path):
    """One huge picture among thumbnails makes a piece of its own or ends one; its batches are small too."""
    folder = tmp_path / "skewed"
    folder.mkdir()
    for seed in range(6):
        (folder / f"{seed}.jpg").write_bytes(encode(make_image(seed, 32, 32), quality=80))
    (folder / "huge.bmp").write_bytes(encode(np.zeros((1500, 2000, 3), np.uint8), "BMP"))
    lake.ingest(folder)
    pieces = list(lake_pieces(lake.tables, NOTHING, "f", PieceSize(max_bytes=1 << 20)))
    assert len(pieces) in {1, 2}
    assert sum(piece.rows for piece in pieces) == 7


def test_there_is_work_for_every_slot():
    """A small lake is cut finely, and a large one coarsely."""
    size = PieceSize()
    assert [size.for_slots(rows, 2).max_rows for rows in (0, 10, 1600, 10**9)] == [16, 16, 100, 4096]


def test_runs_of_row_ids_are_told_shortly():
    """Their bounds say the same numbers."""
    for numbers in ([5], [0, 1, 2], [1, 3, 4, 9, 10, 11], [7, 3, 4]):
        bounds = _bounds(np.array(numbers, np.int64))
        assert [each for low, high in bounds for each in range(low, high)] == numbers


def test_deleted_images_are_left_out(filled, regions):
    """An image that goes between the plan and the work is no error, and nothing of it is made."""
    work, committer, pieces = begin(filled, regions)
    gone = filled.tables.images.read(["id"]).column("id").to_pylist()[1]
    filled.tables.images.delete(f"id = '{gone}'")
    for piece in pieces:
        do_piece(work, piece, threads=1)
    committer.look()
    committer.commit()
    assert committer.total.counts.found == 12
    assert gone not in str(contents(filled))


def test_the_same_rows_as_the_local_engine(filled, regions, tmp_path):
    """Regions, vectors, rejections, the picture that the model throws on too; and one engine goes on from the other."""
    other = imagelake.open(tmp_path / "other.lake", create=True)
    other.ingest(tmp_path / "photos")
    report = extract(other.tables, regions)
    total = run_all(filled, regions).total
    assert (total.counts.added, total.counts.rejected) == (report.added, report.rejected) == (12, 1)
    assert (total.regions, total.fallbacks) == (report.regions, report.fallbacks)
    assert contents(filled) == contents(other)
    assert extract(filled.tables, regions).known == 12
    assert sum(piece.rows for piece in begin(other, regions)[2]) == 1  # the rejected one is tried again
    assert runs(filled.tables.root) == []


def test_a_piece_done_twice_counts_once(filled, regions):
    """A retried or speculative attempt, also one that ends after the commit: one receipt, no double row."""
    work, committer, pieces = begin(filled, regions)
    assert [do_piece(work, pieces[0], 1) is not None for _ in range(3)] == [True, False, False]
    committer.look()
    committer.commit()
    assert do_piece(work, pieces[0], 1) is not None  # the note was taken away
    assert committer.look() == []
    committer.commit()
    for piece in pieces[1:]:
        do_piece(work, piece, 1)
    committer.look()
    committer.commit()
    assert committer.total.counts.found == 13
    contents(filled)  # asserts that no row is there twice


def test_a_driver_that_dies_anywhere_loses_and_doubles_nothing(filled, regions, tmp_path, monkeypatch):
    """Whichever of its writes was its last, the next run adopts what was staged and does the rest."""
    expected = imagelake.open(tmp_path / "expected.lake", create=True)
    expected.ingest(tmp_path / "photos")
    extract(expected.tables, regions)

    class Died(BaseException):
        pass

    wrote = itertools.count()

    def dies_at(last):
        def wrap(function):
            def run(*args, **options):
                if next(wrote) == last:
                    raise Died
                return function(*args, **options)

            return run

        return wrap

    import imagelake.run.waves as module

    for last in range(8):
        with monkeypatch.context() as patched:
            wrote = itertools.count()
            wrap = dies_at(last)
            patched.setattr(module, "commit_staged", wrap(module.commit_staged))
            patched.setattr(module, "write_rejections", wrap(module.write_rejections))
            patched.setattr(module, "write_receipt", wrap(module.write_receipt))
            patched.setattr(Staging, "delete", wrap(Staging.delete))
            work, committer, pieces = begin(filled, regions)
            for piece in pieces[:2]:
                do_piece(work, piece, 1)
            committer.look()
            with contextlib.suppress(Died):
                committer.commit()
        Staging(work.root, work.run).put(BEAT, b'{"pid": 0, "ended": true}', replace=True)  # it is dead
    left = left_behind(work.root, work.fingerprint)
    assert left
    committer = begin(filled, regions)[1]
    for staging, receipts in left:
        committer.adopt(receipts)
        staging.remove()
    committer.close()
    run_all(filled, regions)
    assert contents(filled) == contents(expected)
    assert runs(work.root) == []


def test_a_run_that_lives_is_left_alone(filled, regions):
    """Its notes are its own; those of a process that is gone are taken over, unless the work is another."""
    work, committer, pieces = begin(filled, regions)
    do_piece(work, pieces[0], 1)
    root = work.root
    assert left_behind(root, work.fingerprint) == []
    beat = json.loads(committer.staging.get(BEAT))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    committer.staging.put(BEAT, json.dumps({**beat, "pid": gone.pid}).encode(), replace=True)
    assert [len(receipts) for _, receipts in left_behind(root, work.fingerprint)] == [1]
    assert left_behind(root, "another") == []
    committer.staging.put(BEAT, json.dumps({**beat, "host": "elsewhere"}).encode(), replace=True)
    assert left_behind(root, work.fingerprint) == []
    committer.staging.put(
        BEAT, json.dumps({**beat, "host": "elsewhere", "at": beat["at"] - 600}).encode(), replace=True
    )
    assert len(left_behind(root, work.fingerprint)) == 1


def test_another_engine_at_the_same_time(filled, regions):
    """What it inserted meanwhile is known, and is there once."""
    work, committer, pieces = begin(filled, regions)
    for piece in pieces[:3]:
        do_piece(work, piece, 1)
    extract(filled.tables, regions)
    committer.look()
    committer.commit()
    assert committer.total.counts.added == 0
    assert committer.total.counts.found == 9
    contents(filled)


def test_results_of_another_pipeline_in_the_same_set(filled, models):
    """Vectors of whole pictures that are there already are neither doubled nor lost when regions are asked for too."""
    extract(filled.tables, Pipeline(embed=models[1]))
    both = Pipeline(detect=Detect(model=models[0]), embed=models[1])
    committer = run_all(filled, both)
    assert committer.total.counts.rejected == 1
    assert Table(filled.tables.embeddings(both.set_name).uri).count() == 13
    contents(filled)


def test_files_that_were_cleaned_away_are_work_again(filled, regions):
    """A receipt whose rows are gone is not committed, and says that the piece is to be done again."""
    work, committer, pieces = begin(filled, regions)
    for piece in pieces[:2]:
        do_piece(work, piece, 1)
    receipt = committer.look()[0]
    path = json.loads(receipt.staged["embeddings"][0])["fragments"][0]["files"][0]["path"]
    Path(f"{dict(work.targets)['embeddings']}/data/{path}").unlink()
    committer.commit()
    assert committer.lost == {receipt.piece}
    assert len(committer.done) == 1
    do_piece(work, next(piece for piece in pieces if piece.name == receipt.piece), 1)
    committer.look()
    committer.commit()
    assert len(committer.done) == 2
    contents(filled)


def test_a_step_is_opened_once_a_process(filled, regions, tmp_path):
    """However many pieces it does; another step is another."""
    work, _, pieces = begin(filled, regions)
    work = replace(work, step=Faulty(work.step, str(tmp_path / "photos"), "none", at=""))
    for piece in pieces:
        do_piece(work, piece, 2)
    assert len(list((tmp_path / "photos").glob("opened-*"))) == 1


def test_a_source_is_cut_by_names_or_parts(photos):
    """Each picture once; what is done is left out; a source that cannot be cut is one part."""
    (photos / "broken.jpg").write_bytes(b"")

    def uris(pieces):
        return [uri for piece in pieces for batch in piece.batches() for uri in batch.column("uri").to_pylist()]

    pieces = source_pieces(Folder(str(photos)), None, "f", slots=1, size=PieceSize(max_rows=5))
    everything = uris(pickle.loads(pickle.dumps(pieces)))
    assert len(everything) == len(set(everything)) == 13
    assert len({piece.name for piece in pieces}) == len(pieces) == 3
    done = IdSet([pa.array([hashlib.sha256(uri.encode()).hexdigest() for uri in everything[:4]])])
    for source in (Folder(str(photos)), Many((Folder(str(photos)),))):
        assert sorted(uris(source_pieces(source, done, "f", 2))) == sorted(everything[4:])
    assert len(source_pieces(Many((Folder(str(photos)),)), None, "f", 2)) == 1
