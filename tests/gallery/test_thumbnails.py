"""Thumbnails are read together and kept, and are those of the table."""

import threading

import pytest
from gallery_rows import image, write

from imagelake.gallery.catalog import read_catalog
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.thumbnails import Thumbnails


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> Gallery:
    rows = [image(number) | {"thumbnail": b"thumbnail %d" % number if number % 5 else None} for number in range(30)]
    return Gallery(write(tmp_path_factory.mktemp("lake") / "l", rows).tables, None)


def test_thumbnails_are_those_of_their_images(gallery):
    """Read ahead or alone, by many at once: each image has its own thumbnail, or none where there is none."""
    catalog = read_catalog(gallery.tables)
    numbers = [int(image_id[16:], 16) for image_id in catalog.columns["id"].to_pylist()]
    thumbnails = Thumbnails(gallery.tables)
    thumbnails.ahead(catalog, catalog.order[:20])
    found = {}
    threads = [
        threading.Thread(target=lambda row=row: found.update({row: thumbnails.of(catalog, row)})) for row in range(30)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {row: b"thumbnail %d" % n if n % 5 else None for row, n in enumerate(numbers)}


def test_known_thumbnails_are_not_read_again(gallery, monkeypatch):
    """What a list has read ahead is there without the table; what is beyond the memory is forgotten, oldest first."""
    monkeypatch.setattr("imagelake.gallery.thumbnails._KEPT_BYTES", 60)
    catalog = read_catalog(gallery.tables)
    thumbnails = Thumbnails(gallery.tables)
    there = [row for row in range(30) if int(catalog.columns["id"][row].as_py()[16:], 16) % 5]
    data = [thumbnails.of(catalog, row) for row in there]
    kept = Thumbnails(gallery.tables)
    kept.of(catalog, there[0])
    monkeypatch.setattr(kept, "_tables", None)
    assert kept.of(catalog, there[0]) == data[0]
    assert sum(len(each) for each in thumbnails._known.values()) <= 60
    assert thumbnails._known[int(catalog.keys[there[-1]])] == data[-1]
