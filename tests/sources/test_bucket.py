"""What a bucket yields: every picture once and in order, whatever the store does, and a clear word where it cannot."""

import pickle
import re
import socket
import threading

import pytest
from sources.s3_server import Fault, S3Server

import imagelake
from imagelake.errors import InputError
from imagelake.run.watch import WatchOptions, watch
from imagelake.sources import bucket_store, rows
from imagelake.sources.bucket import Bucket, open_bucket
from imagelake.sources.bucket_listing import select
from imagelake.sources.bucket_store import BucketOptions, parse_place, store_settings
from pictures import encode, make_image

PICTURE = encode(make_image(1), quality=90)
QUICK = BucketOptions(in_flight=8, retries=2, backoff_s=0.01)
IMPATIENT = BucketOptions(retries=2, backoff_s=0.01, read_timeout_s=1.0, total_timeout_s=30)
LATE_S = 2.5  # longer than the impatient wait
ODD = [
    "a b",
    "ü",
    "日本",
    "100%",
    "50%25",
    "a#b",
    "a+b",
    "q?x=1",
    "a&b<c>",
    "[x]",
    "star*",
    "back\\slash",
    "~",
    "'",
    "=",
]


@pytest.fixture(scope="module")
def running():
    with S3Server("photos", "other") as server:
        yield server


@pytest.fixture
def s3(running, monkeypatch, tmp_path):
    """The server, empty, with the variables that lead there and no files of the user's own."""
    running.reset()
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    return running


def fill(s3, *keys, data=PICTURE):
    for key in keys:
        s3.put("photos", key, data)


def read(address, **changes):
    source = Bucket(address, **({"options": QUICK} | changes))
    return [row for batch in source.batches() for row in batch.to_pylist()]


def uris(found):
    return [row["uri"].removeprefix("s3://photos/") for row in found]


def test_nothing_is_there(s3):
    """An empty prefix is one clear line, and for who lists it, nothing."""
    with pytest.raises(InputError, match="nothing at s3://photos/none"):
        read("s3://photos/none/")
    assert list(Bucket("s3://photos/none/", options=QUICK).listing()) == []
    with pytest.raises(InputError, match="nothing at"):
        read("s3://photos/**/*.jpg")


def test_every_picture_comes_once_and_in_order(s3):
    """More keys than a page of a listing, in the order of their names, with their bytes."""
    keys = [f"p/{number // 100:02}/{number:04}.jpg" for number in range(1100)]
    for number, key in enumerate(keys):
        fill(s3, key, data=b"%d" % number)
    found = read("s3://photos/p")
    assert uris(found) == keys
    assert [row["bytes"] for row in found] == [b"%d" % number for number in range(1100)]
    assert s3.seen.asked["GET", "?list"] == 2


def test_keys_are_taken_as_they_are(s3):
    """Spaces, signs and letters of any script, in a prefix, alone, and as a pattern that is a name."""
    keys = sorted(f"p/{name}.jpg" for name in ODD)
    for key in keys:
        fill(s3, key, data=key.encode())
    found = read("s3://photos/p")
    assert [(row["uri"], row["bytes"]) for row in found] == [(f"s3://photos/{key}", key.encode()) for key in keys]
    for key in keys:
        assert [row["bytes"] for row in read(f"s3://photos/{key}")] == [key.encode()]


def test_keys_that_cannot_be_asked_for_are_rows(s3):
    """A name with an empty part or a control character costs its own picture and no other."""
    good = ["p/a.jpg", "p/b.jpg", "p/z/z.jpg"]
    fill(s3, *good, "p/dd//y.jpg", "p/new\nline.jpg", "p/../hidden.jpg", "p/./hidden.jpg", "p/x.jpg/")
    found = read("s3://photos/p")
    assert sorted(uris(found)) == sorted([*good, "p/dd//y.jpg", "p/new\nline.jpg", "p/x.jpg"])
    assert {uri for row, uri in zip(found, uris(found), strict=True) if row["bytes"] == PICTURE} == set(good)
    assert all(row["error"] for row in found if row["bytes"] is None)


def test_folders_of_the_console_are_no_pictures(s3):
    """The empty objects with which consoles mark folders are not found."""
    fill(s3, "p/", "p/below/", data=b"")
    fill(s3, "p/below/a.jpg")
    assert uris(read("s3://photos/p/")) == ["p/below/a.jpg"]


def test_what_counts_is_what_counts_in_a_folder(s3):
    """Hidden names and lakes are skipped, first bytes tell where the suffix does not, raw files are rejected."""
    fill(s3, "a.JPG", "no-suffix", ".hidden.jpg", ".git/b.jpg", "lake/images.lance/data/c.jpg", "d.nef", "e.txt/f.png")
    fill(s3, "notes.txt", "data.json", data=b"only text")
    fill(s3, "empty.jpg", "empty.txt", data=b"")
    found = read("s3://photos")
    assert uris(found) == ["a.JPG", "d.nef", "e.txt/f.png", "empty.jpg", "no-suffix"]
    assert [row["error"] is None for row in found] == [True, False, True, True, True]
    assert "camera raw" in found[1]["error"]
    assert found[3]["bytes"] == b""
    assert s3.seen.asked["GET", "empty.txt"] == 0


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a/*.jpg", ["a/1.jpg", "a/2.jpg"]),
        ("a/**/*.jpg", ["a/1.jpg", "a/2.jpg", "a/b/3.jpg"]),
        ("**/3.*", ["a/b/3.jpg"]),
        ("a*", ["a/1.jpg", "a/2.jpg", "a/4.png", "a/b/3.jpg", "ab/5.jpg"]),
        ("a/[12].jpg", ["a/1.jpg", "a/2.jpg"]),
        ("?/.h*", ["a/.h.jpg"]),
        ("*/1.jpg", ["a/1.jpg", "c/1.jpg"]),
    ],
)
def test_patterns(s3, pattern, expected):
    """A pattern means what it means in a shell; a folder that matches comes whole."""
    fill(s3, "a/1.jpg", "a/2.jpg", "a/4.png", "a/b/3.jpg", "ab/5.jpg", "a/.h.jpg", "c/1.jpg", "b")
    assert uris(read(f"s3://photos/{pattern}")) == expected


def test_a_pattern_lists_no_more_than_it_must(s3):
    """The letters before the first sign narrow what is listed, from both sides."""
    fill(s3, *(f"p/{letter}{number:03}.jpg" for letter in "abc" for number in range(1000)))
    assert len(read("s3://photos/p/b00*.jpg")) == 10
    assert s3.seen.asked["GET", "?list"] == 1  # of three


def test_a_prefix_ends_at_a_slash(s3):
    """`s3://bucket/photo` is not `photos`; an object of that very name is that object."""
    fill(s3, "photo/1.jpg", "photos/2.jpg", "photo.jpg", "photo.jpg/3.jpg")
    assert uris(read("s3://photos/photo")) == ["photo/1.jpg"]
    assert uris(read("s3://photos/photo.jpg")) == ["photo.jpg"]
    assert uris(read("s3://photos/photo.jpg/")) == ["photo.jpg/3.jpg"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(times=2, status=500),
        Fault(times=2, status=503, code="SlowDown"),
        Fault(times=1, status=429),
        Fault(times=1, delay_s=LATE_S),
        Fault(times=1, keep=1000),
        Fault(times=1, stall_s=LATE_S),
    ],
    ids=["500", "503", "429", "slow", "cut", "stalled"],
)
def test_what_may_pass_is_tried_again(s3, fault):
    """An answer of 500, one that does not come or that breaks off costs no picture, whole or in part."""
    large = bytes(range(256)) * 400
    fill(s3, "a.jpg", "c.jpg")
    fill(s3, "b.jpg", data=large)
    s3.faults["b.jpg"] = fault
    found = read("s3://photos", options=IMPATIENT)
    assert [row["bytes"] for row in found] == [PICTURE, large, PICTURE]
    assert s3.seen.asked["GET", "b.jpg"] > 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(status=500), r"500 Internal.*InternalError.*tried 3 times|500 Fault"),
        (Fault(status=403, code="AccessDenied"), r"403.*AccessDenied"),
        (Fault(status=404, code="NoSuchKey"), "no such object"),
        (Fault(delay_s=LATE_S), "in time"),
        (Fault(keep=0), "cannot be read"),
        (Fault(stall_s=LATE_S, keep=0), "cannot be read"),
    ],
    ids=["500", "403", "404", "slow", "cut", "stalled"],
)
def test_what_does_not_pass_is_one_row(s3, fault, reason):
    """An object that always fails is one row with the reason; the others are read, and tries are bounded."""
    fill(s3, "a.jpg", "b.jpg", "c.jpg")
    s3.faults["b.jpg"] = fault
    found = read("s3://photos", options=IMPATIENT)
    assert uris(found) == ["a.jpg", "b.jpg", "c.jpg"]
    assert [row["bytes"] for row in found] == [PICTURE, None, PICTURE]
    (error,) = [row["error"] for row in found if row["error"]]
    assert re.search(reason, error), error
    assert s3.seen.asked["GET", "b.jpg"] <= 3


def test_a_body_is_never_taken_in_part(s3):
    """An object that always breaks off in the same place is whole in the end, or a row with the reason."""
    whole = bytes(range(256)) * 1000
    fill(s3, "a.jpg", data=whole)
    s3.faults["a.jpg"] = Fault(keep=50_000)
    (row,) = read("s3://photos/a.jpg")
    assert row["bytes"] in (None, whole)
    assert (row["bytes"] is None) == (row["error"] is not None)


def test_slow_answers_overlap(s3):
    """Many objects are asked for at a time, never more than allowed."""
    keys = [f"{number:02}.jpg" for number in range(24)]
    fill(s3, *keys)
    s3.faults |= {key: Fault(delay_s=0.1) for key in keys}
    assert uris(read("s3://photos")) == keys
    assert 2 < s3.seen.most_at_once <= 8


def test_bytes_in_flight_are_bounded(s3):
    """Where pictures are large, fewer are asked for at a time: what is not consumed stays below the bound."""
    keys = [f"{number:02}.jpg" for number in range(24)]
    fill(s3, *keys, data=bytes(100_000))
    s3.faults |= {key: Fault(delay_s=0.05) for key in keys}
    narrow = BucketOptions(in_flight=8, waiting_bytes=300_000, backoff_s=0.01)
    assert uris(read("s3://photos", options=narrow)) == keys
    assert 1 < s3.seen.most_at_once <= 3


def test_one_picture_may_exceed_the_bound(s3):
    """A picture larger than all that may wait comes alone."""
    fill(s3, "a.jpg", "b.jpg", data=bytes(1000))
    assert len(read("s3://photos", options=BucketOptions(waiting_bytes=1))) == 2
    assert s3.seen.most_at_once == 1


def test_who_stops_reading_stops_the_rest(s3):
    """A source that is left after its first batch asks for no more than was on its way."""
    fill(s3, *(f"{number:03}.jpg" for number in range(300)))
    batches = Bucket("s3://photos", options=QUICK).batches()
    next(batches)
    batches.close()
    asked = sum(count for (method, key), count in s3.seen.asked.items() if method == "GET" and key != "?list")
    assert asked < 100


def test_what_is_too_large_is_not_fetched(s3, monkeypatch):
    """The size cap costs a row, and no bytes."""
    fill(s3, "a.jpg", data=bytes(2000))
    fill(s3, "b.txt", data=bytes(2000))
    fill(s3, "c.jpg", data=bytes(1000))
    monkeypatch.setattr(rows, "MAX_FILE_BYTES", 1000)
    found = read("s3://photos")
    assert [row["error"] for row in found] == ["the file has 2,000 bytes; the limit is 1,000", None]
    assert s3.seen.asked["GET", "a.jpg"] == s3.seen.asked["GET", "b.txt"] == 0


def test_what_grew_since_it_was_listed_is_not_fetched(s3):
    """An object is no larger than the room that was kept for it."""
    fill(s3, "a.jpg", data=bytes(1000))
    s3.faults["a.jpg"] = Fault(lie=bytes(2000))
    (row,) = read("s3://photos")
    assert row["bytes"] is None
    assert "it grew from 1,000 to 2,000 bytes" in row["error"]


def test_a_bucket_that_is_not_there(s3):
    """One line that names it, not a row for each try."""
    with pytest.raises(InputError, match="no bucket s3://nowhere"):
        read("s3://nowhere/photos")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(status=403, code="AccessDenied"), "may not be listed.*AccessDenied.*credentials.*--anonymous"),
        (Fault(status=400, code="ExpiredToken"), "may not be listed.*ExpiredToken"),
        (Fault(status=301, code="PermanentRedirect"), "Set AWS_REGION"),
        (Fault(status=500), "cannot be listed.*500.*tried 3 times"),
        (Fault(delay_s=LATE_S), "cannot be listed.*in time"),
    ],
    ids=["403", "expired", "region", "500", "slow"],
)
def test_a_bucket_that_cannot_be_listed(s3, fault, reason):
    """One line says why, and what to set."""
    fill(s3, "p/a.jpg")
    s3.faults["?list"] = fault
    with pytest.raises(InputError, match=reason):
        read("s3://photos/p/", options=IMPATIENT)


def test_a_listing_that_fails_at_first_is_asked_for_again(s3):
    """Nothing is lost by a page that comes at the third try."""
    fill(s3, *(f"{number:04}.jpg" for number in range(300)), data=b"x")
    s3.faults["?list"] = Fault(times=2, status=503)
    assert len(read("s3://photos")) == 300


def test_nobody_listens(s3, monkeypatch):
    """Without a network, one line says what to check."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(InputError, match=r"no connection.*AWS_ENDPOINT_URL"):
        read("s3://photos/p/")


def test_without_credentials_it_says_so_at_once(s3, monkeypatch):
    """No request is made, and none to a metadata service where that is switched off."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setattr(bucket_store, "_METADATA_SERVICE", ("127.0.0.1", 1))
    for value in ("true", "false"):
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", value)
        with pytest.raises(InputError, match=r"no credentials for s3://photos\. Set AWS_ACCESS_KEY_ID"):
            read("s3://photos")
    assert not s3.seen.asked
    for address in ("gs://photos", "az://photos"):
        with pytest.raises(InputError, match=f"no credentials for {address}"):
            read(address)


def test_an_anonymous_reader_signs_nothing(s3, monkeypatch):
    """A public bucket is read without credentials."""
    s3.put("photos", "a.jpg", PICTURE, public=True)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert [row["bytes"] for row in read("s3://photos", anonymous=True)] == [PICTURE]
    assert s3.seen.signed == {False}
    assert open_bucket("s3://photos", anonymous=True).anonymous


def test_the_files_of_the_aws_tools_count(s3, monkeypatch, tmp_path):
    """Keys, region and endpoint of a profile, as `aws configure` writes them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "mine")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(f"[profile mine]\nregion = eu-north-1\nendpoint_url = {s3.address}\n")
    (tmp_path / ".aws" / "credentials").write_text("[mine]\naws_access_key_id = a\naws_secret_access_key = b%c\n")
    fill(s3, "a.jpg", "b//c.jpg")
    assert [row["bytes"] for row in read("s3://photos")] == [PICTURE, None]
    assert s3.seen.signed == {True}


def test_a_broken_profile_is_named(tmp_path):
    """A file that cannot be read is an error with its name."""
    (tmp_path / "config").write_text("no section")
    environment = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    with pytest.raises(InputError, match="config cannot be read"):
        store_settings(parse_place("s3://photos"), environment, anonymous=False)


def test_azure_reads_the_variables_of_its_own_tool():
    """What `az` takes from the environment, and the library does not."""
    environment = {"AZURE_STORAGE_ACCOUNT": "me", "AZURE_STORAGE_KEY": "k"}
    found = store_settings(parse_place("az://photos/p"), environment, anonymous=False)
    assert found == {"account_name": "me", "account_key": "k"}


@pytest.mark.parametrize("address", ["s3://", "s3:///key", "ftp://b/x", "photos", "s3:photos", ""])
def test_what_is_no_address(address):
    """The error says what is allowed."""
    with pytest.raises(InputError, match="s3://BUCKET/PREFIX"):
        open_bucket(address)


@pytest.mark.parametrize("path", ["a//b", "/a", "a/../b", "./a", "a\nb", ".."])
def test_addresses_that_cannot_be_asked_for(path):
    """A prefix that no request can name is refused before any request."""
    with pytest.raises(InputError, match="cannot be asked for"):
        open_bucket(f"s3://photos/{path}")


@pytest.mark.parametrize("key", ["x.zip", "x.TAR.gz", "x.parquet"])
def test_archives_and_tables_are_refused(key):
    """A word, instead of a rejection."""
    with pytest.raises(InputError, match="Copy it to this machine"):
        open_bucket(f"s3://photos/{key}")


def test_a_listing_marks_what_changes(s3):
    """The mark of an object changes with its content and only then."""
    fill(s3, "a.jpg", "b.jpg", "notes/.hidden.jpg")
    source = Bucket("s3://photos", options=QUICK)
    before = dict(source.listing())
    assert list(before) == ["s3://photos/a.jpg", "s3://photos/b.jpg"]
    assert dict(source.listing()) == before
    fill(s3, "b.jpg", data=b"another")
    after = dict(source.listing())
    assert [uri for uri in after if after[uri] != before[uri]] == ["s3://photos/b.jpg"]


def test_only_reads_just_these(s3):
    """In the order given; what is not there is a row with the reason; nothing is listed."""
    fill(s3, "a.jpg", "b.jpg", "c [1].jpg")
    source = Bucket("s3://photos", options=QUICK)
    some = source.only(["s3://photos/c [1].jpg", "s3://photos/gone.jpg", "s3://photos/a.jpg"])
    found = [row for batch in some.batches() for row in batch.to_pylist()]
    assert uris(found) == ["c [1].jpg", "gone.jpg", "a.jpg"]
    assert [row["bytes"] for row in found] == [PICTURE, None, PICTURE]
    assert s3.seen.asked["GET", "?list"] == 0
    assert some.estimate() == 3
    assert source.estimate() is None
    assert list(source.only([]).batches()) == []
    with pytest.raises(InputError, match="does not lie in"):
        source.only(["s3://other/a.jpg"])


def test_a_source_survives_pickling(s3):
    """It holds no connection, also after it was used."""
    fill(s3, "a.jpg")
    source = Bucket("s3://photos", options=QUICK)
    list(source.batches())
    again = pickle.loads(pickle.dumps(source))
    assert again == source
    assert sum(batch.num_rows for batch in again.batches()) == 1


def test_a_bucket_becomes_a_lake(s3, lake):
    """Ingest takes it as any source, and twice adds nothing."""
    for seed in range(3):
        fill(s3, f"p/{seed}.jpg", data=encode(make_image(seed)))
    fill(s3, "p/broken.jpg", data=b"no picture")
    first, second = (lake.ingest(Bucket("s3://photos/p", options=QUICK)) for _ in range(2))
    assert (first.found, first.added, first.rejected) == (4, 3, 1)
    assert (second.added, second.known) == (0, 3)
    assert isinstance(lake, imagelake.Lake)


def test_options_are_checked():
    """A number that means nothing is refused."""
    for name, value in (("in_flight", 0), ("waiting_bytes", 0), ("retries", -1), ("read_timeout_s", 0)):
        with pytest.raises(InputError, match=name):
            BucketOptions(**{name: value})


def test_stars_side_by_side_cost_no_more():
    """A pattern of many stars is answered at once."""
    assert select("**/" * 30 + "x").pattern == ("**", "x")
    assert not select("a/" + "**/b/" * 4 + "x").takes("a/" + "b/" * 30 + "y")


def test_a_bucket_is_watched(s3, tmp_path):
    """What comes is committed with the next look; what was there is not read again."""
    lake = imagelake.open(tmp_path / "lake", create=True)
    for seed in range(3):
        s3.put("photos", f"watched/{seed}.jpg", encode(make_image(seed, 32, 24)))
    stop, reports = threading.Event(), []
    for report in watch(lake.tables, [open_bucket("s3://photos/watched")], stop, WatchOptions(look_every_s=0.2)):
        reports.append((report.found, report.added))
        if len(reports) == 1:
            s3.put("photos", "watched/new.jpg", encode(make_image(9, 32, 24)))
        else:
            stop.set()
    assert reports == [(3, 3), (1, 1)]
