"""What each format of events says of an upload, and that a broken one is refused in words."""

import base64
import copy
import json
import random
from datetime import UTC, datetime

import pytest
from serve import event_examples as examples

from imagelake.errors import InputError, TooLargeError
from imagelake.serve.event_cloud import decode_header
from imagelake.serve.event_formats import MOST_EVENTS, read_events
from imagelake.serve.event_objects import shown, shown_reason
from imagelake.serve.event_upload import About, Ignored, UploadEvent, from_json, to_json

JSON = [(b"content-type", b"application/json")]
STRUCTURED = [(b"Content-Type", b"application/cloudevents+json; charset=UTF-8")]
BATCH = [(b"content-type", b"application/cloudevents-batch+json")]
NOON = datetime(2026, 5, 17, 12, 3, tzinfo=UTC)
BINARY = [
    (b"ce-specversion", b"1.0"),
    (b"Ce-Id", b"A234-1234-1234"),
    (b"ce-source", b"/cameras/gate"),
    (b"ce-type", b"com.example.uploaded"),
    (b"ce-time", b"2026-05-17T12:03:00Z"),
    (b"ce-device", b"c%C3%A4m%201"),
    (b"content-type", b"application/json"),
]


def read(told, headers=JSON):
    return read_events(headers, told if isinstance(told, bytes) else examples.body(told))


def changed(told, path, value):
    """A copy in which what lies at the path is another; None takes it away."""
    made = copy.deepcopy(told)
    *before, last = path
    inner = made
    for name in before:
        inner = inner[name]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return made


def test_no_events():
    """A list, a batch or a notification of nothing is nothing."""
    assert read([]) == read([], BATCH) == read({"Records": []}) == []


def test_a_notification_of_s3():
    """Key decoded as a form is; id and source as the published mapping to CloudEvents has them."""
    assert read({"Records": [examples.S3_RECORD]}) == [
        UploadEvent(
            id="C3D13FE58DE4C810.FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5W",
            source="aws:s3.eu-central-1.photos",
            kind="ObjectCreated:Put",
            uri="s3://photos/gate/a bü.jpg",
            bucket="photos",
            happened_at=NOON.replace(microsecond=123000),
            size=1024,
            etag="d41d8cd98f00b204e9800998ecf8427e",
            version="096fKKXTRTtl3on89fVO.nfljtsv6qko",
            sequencer="0055AED6DCD90281E5",
        )
    ]


def test_a_notification_of_minio():
    """The prefix `s3:`, names beside `Records`, and what the object was stored with."""
    [event] = read(examples.MINIO)
    assert (event.uri, event.kind, event.id) == ("s3://photos/gate/c d.jpg", "ObjectCreated:Put", "17B0F1")
    assert event.source == "minio:s3..photos"
    assert event.about == About(48.1, 11.5, "gate-2")
    assert event.version is None


def test_an_event_of_object_storage():
    """The envelope of version 0.1, also in a list, and of older versions of the type."""
    [event] = read([examples.OBJECT_STORAGE])
    assert event == UploadEvent(
        id="dead-beef-abcd-1234",
        source="ObjectStorage",
        kind="com.oraclecloud.objectstorage.createobject",
        uri="oci://photos@space/gate/d e.jpg",
        bucket="photos",
        happened_at=NOON,
        etag="f8ffb6e9-f602-460f-a6c0-00b5abfa24c7",
        about=About(device="gate-3"),
    )
    older = examples.OBJECT_STORAGE | {"source": "objectstorage", "eventTypeVersion": "1.0"}
    assert read(older)[0].uri == event.uri


def test_a_structured_event():
    """Attributes and data in one object, under its own Content-Type, a bare one, or as data in base64 or in a text."""
    [event] = read(examples.CLOUD, STRUCTURED)
    assert event == UploadEvent(
        id="A234-1234-1234",
        source="/cameras/gate",
        kind="com.example.uploaded",
        uri="s3://photos/gate/a b.jpg",
        bucket="photos",
        happened_at=NOON,
        size=7,
        about=About(48.1, 11.5, "gate-4"),
    )
    assert read(examples.CLOUD) == [event]
    data = json.dumps(examples.CLOUD["data"])
    packed = {name: value for name, value in examples.CLOUD.items() if name != "data"}
    assert read(packed | {"data_base64": base64.b64encode(data.encode()).decode()}, STRUCTURED) == [event]
    assert read(packed | {"data": data, "dataschema": None}, STRUCTURED) == [event]


def test_a_binary_event():
    """Attributes are headers, in any case, percent-encoded; the data are the body."""
    [event] = read({"url": "https://example.com/a%20b.jpg?signature=x"}, BINARY)
    assert (event.id, event.source, event.happened_at) == ("A234-1234-1234", "/cameras/gate", NOON)
    assert event.uri == "https://example.com/a%20b.jpg?signature=x"
    assert event.bucket is None
    assert event.about.device == "cäm 1"


def test_a_batch():
    """Each event of the list, in their order."""
    other = examples.CLOUD | {"id": "2", "data": {"url": "gs://other/x/y.png"}}
    first, second = read([examples.CLOUD, other], BATCH)
    assert (first.id, second.id, second.uri, second.bucket) == ("A234-1234-1234", "2", "gs://other/x/y.png", "other")


def test_events_of_other_stores():
    """Google's and Azure's events say bucket and name each in their way; records of S3 may be the data of an event."""
    [google] = read(examples.GOOGLE, STRUCTURED)
    assert (google.uri, google.size, google.about.device) == ("gs://photos/gate/e f.jpg", 352, "gate-5")
    [azure] = read(examples.AZURE, STRUCTURED)
    assert (azure.uri, azure.size, azure.sequencer[-5:]) == ("az://photos/gate/g h.jpg", 524288, "28963")
    around = examples.CLOUD | {"type": "com.amazonaws.s3.ObjectCreated:Put"}
    for data in ({"Records": [examples.S3_RECORD]}, examples.S3_RECORD):
        [event] = read(around | {"data": data}, STRUCTURED)
        assert (event.id, event.uri, event.size) == ("A234-1234-1234", "s3://photos/gate/a bü.jpg", 1024)
    newer = examples.CLOUD | {"type": examples.OBJECT_STORAGE["eventType"], "data": examples.OBJECT_STORAGE["data"]}
    assert read(newer, STRUCTURED)[0].uri == "oci://photos@space/gate/d e.jpg"


@pytest.mark.parametrize(
    ("told", "uri"),
    [
        (examples.S3_TEST, None),
        (examples.s3(eventName="ObjectRemoved:Delete", key="a%2Bb"), "s3://photos/a+b"),
        (examples.s3(eventName="s3:ObjectRestore:Completed", key="a"), "s3://photos/a"),
        (examples.OBJECT_STORAGE | {"eventType": "com.oraclecloud.objectstorage.deleteobject"}, None),
        (examples.OBJECT_STORAGE | {"eventType": "com.oraclecloud.computeapi.launchinstance.end"}, None),
        (examples.CLOUD | {"type": "com.amazonaws.s3.ObjectRemoved:Delete"}, None),
        (examples.CLOUD | {"type": "com.example.Deleted"}, None),
        (examples.GOOGLE | {"type": "google.cloud.storage.object.v1.metadataUpdated"}, None),
        (examples.AZURE | {"type": "Microsoft.Storage.BlobDeleted"}, None),
    ],
)
def test_what_is_no_upload_is_ignored(told, uri):
    """Test events, deletions and others are understood, and say why nothing is done."""
    [found] = read(told)
    assert isinstance(found, Ignored)
    assert found.reason
    assert found.uri == uri


def test_an_update_is_an_upload():
    """An object of object storage that is written over has new content."""
    told = examples.OBJECT_STORAGE | {"eventType": "com.oraclecloud.objectstorage.updateobject"}
    assert read(told)[0].uri == "oci://photos@space/gate/d e.jpg"


S3_BUCKET, S3_OBJECT = ("Records", 0, "s3", "bucket"), ("Records", 0, "s3", "object")


@pytest.mark.parametrize(
    ("told", "headers", "word"),
    [
        (b"", JSON, "not JSON"),
        (b"\xff{}", JSON, "UTF-8"),
        (b"[" * 100_000, JSON, "nested too deep"),
        (b'{"specversion": NaN}', JSON, "not JSON"),
        (b"1" * 5000, JSON, "not JSON"),
        (b'"text"', JSON, "must be a JSON object"),
        ({"any": 1}, JSON, "CloudEvents 1.0"),
        ({"Records": {}}, JSON, "Records"),
        ({"Records": [1]}, JSON, "a record is a number"),
        (changed(examples.s3(), S3_BUCKET, None), JSON, "s3.bucket"),
        (changed(examples.s3(), (*S3_BUCKET, "name"), "photos/../x"), JSON, "no name of a bucket"),
        (changed(examples.CLOUD, ("data", "bucket"), "a@b"), STRUCTURED, "no name of a bucket"),
        (changed(examples.CLOUD, ("data",), {"url": "s3://a?b/c"}), STRUCTURED, "no name of a bucket|no address"),
        (
            changed(examples.OBJECT_STORAGE, ("data", "additionalDetails", "namespace"), "sp/ace"),
            JSON,
            "no name of a bucket",
        ),
        (changed(examples.s3(), (*S3_OBJECT, "key"), None), JSON, "no `key`"),
        (changed(examples.s3(), (*S3_OBJECT, "key"), "\ud800"), JSON, "steer"),
        (changed(examples.s3(), ("Records", 0, "eventVersion"), "3.0"), JSON, "2.x"),
        (changed(examples.s3(), ("Records", 0, "eventTime"), "yesterday"), JSON, "RFC 3339"),
        (changed(examples.OBJECT_STORAGE, ("eventID",), None), JSON, "eventID"),
        (changed(examples.OBJECT_STORAGE, ("cloudEventsVersion",), "0.2"), JSON, "0.1"),
        (changed(examples.OBJECT_STORAGE, ("data", "additionalDetails", "namespace"), ""), JSON, "namespace"),
        (changed(examples.CLOUD, ("id",), None), STRUCTURED, "no `id`"),
        (changed(examples.CLOUD, ("source",), ""), STRUCTURED, "no `source`"),
        (changed(examples.CLOUD, ("type",), 7), STRUCTURED, "a number"),
        (changed(examples.CLOUD, ("specversion",), "0.3"), STRUCTURED, "1.0"),
        (changed(examples.CLOUD, ("specversion",), None), STRUCTURED, "specversion"),
        (changed(examples.CLOUD, ("time",), "2026-05-17"), STRUCTURED, "RFC 3339"),
        (changed(examples.CLOUD, ("time",), "2026-05-17T14:03:00"), STRUCTURED, "RFC 3339"),
        (changed(examples.CLOUD, ("time",), "0001-01-01T00:00:00+14:00"), STRUCTURED, "RFC 3339"),
        (changed(examples.CLOUD, ("id",), "a\nb"), STRUCTURED, "steer"),
        (changed(examples.CLOUD, ("id",), "a" * 3000), STRUCTURED, "2,048"),
        (changed(examples.CLOUD, ("data",), None), STRUCTURED, "where the object is"),
        (changed(examples.CLOUD, ("data",), {"url": "ftp://a/b"}), STRUCTURED, "http, https, s3"),
        (changed(examples.CLOUD, ("data",), {"url": "https://user:secret@a/b"}), STRUCTURED, "without"),
        (changed(examples.CLOUD, ("data",), {"url": "https://[1"}), STRUCTURED, "no address"),
        (examples.CLOUD | {"data_base64": "AAAA"}, STRUCTURED, "both"),
        (changed(examples.CLOUD, ("data",), None) | {"data_base64": "?"}, STRUCTURED, "base64"),
        (changed(examples.AZURE, ("subject",), "x"), STRUCTURED, "names no blob"),
        ([examples.CLOUD], STRUCTURED, "a list"),
        (examples.CLOUD, BATCH, "no list"),
        ([examples.CLOUD, {}], BATCH, "event 1 of the batch"),
        (examples.CLOUD, [(b"content-type", b"application/cloudevents+xml")], r"\+json"),
        (examples.CLOUD, [(b"content-type", b"application/json; charset=latin-1")], "UTF-8"),
        ({"url": "https://a/b"}, [*BINARY, (b"ce-id", b"again")], "twice"),
        ({"url": "https://a/b"}, [*BINARY, (b"ce-subject", b"%C0%A0")], "UTF-8"),
        ({"url": "https://a/b"}, [*BINARY, (b"ce-subject", b"\xff")], "UTF-8"),
        ({"url": "https://a/b"}, [*BINARY, (b"ce-a_b", b"x")], "a to z"),
        ({"url": "https://a/b"}, [*BINARY, (b"ce-datacontenttype", b"x")], "Content-Type"),
        ({"url": "https://a/b"}, [*BINARY[:-1], (b"content-type", b"image/jpeg")], "image/jpeg"),
        (b"", BINARY, "where the object is"),
    ],
)
def test_a_broken_request_is_refused(told, headers, word):
    """With words, and never with a password; nothing of the request is taken."""
    with pytest.raises(InputError, match=word) as error:
        read(told, headers)
    assert "secret" not in str(error.value)


def test_too_many_events():
    """More than a request may hold."""
    with pytest.raises(TooLargeError, match=f"{MOST_EVENTS:,}"):
        read([examples.CLOUD] * (MOST_EVENTS + 1), BATCH)
    with pytest.raises(TooLargeError):
        read({"Records": [examples.S3_RECORD] * (MOST_EVENTS + 1)})
    inside = examples.CLOUD | {"data": {"Records": [examples.S3_RECORD] * MOST_EVENTS}}
    with pytest.raises(TooLargeError):
        read([inside, inside], BATCH)


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (b"plain", "plain"),
        (b"%E2%82%AC%20%22%25", '€ "%'),
        (b"Euro \xe2\x82\xac", "Euro €"),
        (b'"a \\"b\\" %2Fc"', 'a "b" /c'),
        (b"%61%62", "ab"),
        (b"100%", "100%"),
        (b'"', '"'),
    ],
)
def test_headers_are_decoded_once(sent, meant):
    """Quotes of older senders are taken off, then percent-encoding is undone once."""
    assert decode_header(sent, "x") == meant


def test_an_event_has_one_key_however_it_comes():
    """The same event, delivered twice or by way of the adapter to CloudEvents, has one key; another has another."""
    [first] = read({"Records": [examples.S3_RECORD]})
    around = {"specversion": "1.0", "id": first.id, "source": first.source}
    around |= {"type": "com.amazonaws.s3.ObjectCreated:Put", "data": examples.S3_RECORD}
    assert read(around, STRUCTURED)[0].key == first.key
    assert read(examples.s3(key="other"))[0].key != first.key
    [without] = read(examples.s3(responseElements={}))
    assert without.id == "0055AED6DCD90281E5"


def test_a_place_without_sense_is_none():
    """Half a place, one off the globe, NaN: no place; the rest counts."""
    for latitude, longitude in (("91", "0"), ("nan", "0"), ("x", "0"), (True, 0), ([], 0), (None, "1"), (10**400, 0)):
        data = {"url": "https://a/b", "latitude": latitude, "longitude": longitude, "device": "d"}
        [event] = read(changed(examples.CLOUD, ("latitude",), None) | {"data": data}, STRUCTURED)
        assert (event.about.latitude, event.about.longitude, event.about.device) == (None, None, "gate-4")


@pytest.mark.parametrize("told", [examples.MINIO, examples.OBJECT_STORAGE, examples.CLOUD, examples.GOOGLE])
def test_what_is_written_is_read_back(told):
    """As the journal keeps it."""
    [event] = read(told)
    assert from_json(to_json(event)) == event


def mutated(choices, told):
    """A JSON value with a few changes: parts gone, doubled, or of another kind."""
    odd = [None, True, -1, 1e999, 10**30, "", "\x00", "\ud800", "a" * 5000, "%", "%ff", [], {}, [[]], {"s3": {}}]
    made = copy.deepcopy(told)
    for _ in range(choices.randint(1, 3)):
        inner, path = made, []
        while isinstance(inner, dict | list) and inner and (not path or choices.random() < 0.7):
            path.append((inner, choices.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))))
            inner = path[-1][0][path[-1][1]]
        if not path:
            return copy.deepcopy(choices.choice(odd))
        holder, name = path[-1]
        if isinstance(holder, dict) and choices.random() < 0.3:
            del holder[name]
        else:
            holder[name] = copy.deepcopy(choices.choice(odd))
    return made


def fuzz(cases, seed=6):
    """How many of that many requests were understood; any error but ours comes out."""
    choices = random.Random(seed)
    seeds = [examples.s3(), examples.S3_TEST, examples.MINIO, examples.OBJECT_STORAGE, examples.CLOUD]
    seeds += [examples.GOOGLE, examples.AZURE, [examples.CLOUD, examples.OBJECT_STORAGE]]
    heads = [JSON, STRUCTURED, BATCH, BINARY, [], [(b"content-type", b"text/plain")]]
    understood = 0
    for _ in range(cases):
        told = mutated(choices, choices.choice(seeds))
        data = bytearray(json.dumps(told).encode())
        if choices.random() < 0.5:
            for _ in range(choices.randint(1, 4)):
                at = choices.randrange(len(data))
                data[at : at + choices.randint(0, 3)] = bytes(choices.choices(range(256), k=choices.randint(0, 3)))
                data = data or bytearray(b"0")
        headers = list(choices.choice(heads))
        if headers and choices.random() < 0.5:
            at = choices.randrange(len(headers))
            headers[at] = (headers[at][0], bytes(choices.choices(range(256), k=choices.randint(0, 20))))
        try:
            for found in read_events(headers, bytes(data)):
                assert isinstance(found, Ignored) or from_json(to_json(found)) == found
                assert isinstance(found, Ignored) or found.uri.encode()
            understood += 1
        except (InputError, TooLargeError):
            continue
    return understood


def test_fuzz():
    """2,000 mutated requests: each is understood or refused with an error of ours, and what is understood is kept."""
    assert fuzz(2000) > 200


@pytest.mark.parametrize("key", ["a%ff.jpg", "a%00.jpg", "a%0Ab.jpg", "a" * 5000])
def test_a_name_that_cannot_be_asked_for_holds_up_no_other(key):
    """A store keeps such names: the record is left out with the reason, the others of its notification count."""
    records = examples.s3(key=key)["Records"] + examples.s3()["Records"]
    left_out, found = read_events(JSON, examples.body({"Records": records}))
    assert "its name" in left_out.reason
    assert found.uri == "s3://photos/gate/a bü.jpg"


def test_records_of_one_event_are_told_apart():
    """Two uploads of one object in a CloudEvent are two, the same however often it comes; one keeps the event's id."""
    again = copy.deepcopy(examples.S3_RECORD)
    again["s3"]["object"]["sequencer"] = "0055AED6DCD90281E6"
    told = examples.CLOUD | {"data": {"Records": [examples.S3_RECORD, again]}}
    keys = [[event.key for event in read_events(STRUCTURED, examples.body(told))] for _ in range(2)]
    assert len(set(keys[0])) == 2
    assert keys[0] == keys[1]
    [one] = read_events(STRUCTURED, examples.body(examples.CLOUD | {"data": {"Records": [again]}}))
    assert one.id == examples.CLOUD["id"]


def test_records_without_any_id_are_told_apart():
    """By all that they say."""
    records = []
    for size in (1, 1, 2):
        record = copy.deepcopy(examples.S3_RECORD)
        del record["responseElements"], record["eventTime"], record["s3"]["object"]["sequencer"]
        record["s3"]["object"]["size"] = size
        records.append(record)
    assert len({event.key for event in read_events(JSON, examples.body({"Records": records}))}) == 2


def test_too_many_records_in_one_event():
    """They count as those of a batch do."""
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}
    told = examples.CLOUD | {"data": {"Records": [record] * 1001}}
    with pytest.raises(TooLargeError, match="1,001"):
        read_events(STRUCTURED, examples.body(told))


@pytest.mark.parametrize(
    ("kind", "is_upload"),
    [
        ("com.example.uploaded", True),
        ("com.example.photoarchive.stored", True),
        ("com.deletron.removals.uploaded.v1", True),
        ("com.example.deleted", False),
        ("com.example.object.removed.v2", False),
        ("com.example:Expired", False),
        ("v1", True),
    ],
)
def test_only_the_last_word_of_a_type_says_that_an_object_is_gone(kind, is_upload):
    """Who sends may be called as he likes."""
    [found] = read_events(STRUCTURED, examples.body(examples.CLOUD | {"type": kind}))
    assert isinstance(found, UploadEvent) == is_upload


def test_a_leap_second():
    """RFC 3339 has one; it is taken for the second before."""
    [found] = read_events(STRUCTURED, examples.body(examples.CLOUD | {"time": "2016-12-31T23:59:60Z"}))
    assert found.happened_at == datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize("scheme", ["https", "HTTPS", "Http", "  https"])
def test_no_spelling_of_an_address_keeps_its_query(scheme):
    """What may be kept of a signed address is the same, however the scheme is written."""
    told = examples.CLOUD | {"data": {"url": f"{scheme}://a.example/b.jpg?signature=secret#x"}}
    [found] = read_events(STRUCTURED, examples.body(told))
    assert "signature=secret" in found.uri
    assert shown(found.uri) == f"{scheme.strip().lower()}://a.example/b.jpg"


def test_what_is_kept_of_a_reason():
    """Of addresses the host, for path and query may be passwords; other words as they are."""
    cases = {
        "in a circle, back to http://a.example:80/p?sig=x": "in a circle, back to http://a.example:80/...",
        "it redirects to 'ftp://x/p?sig=a b': not an address": "it redirects to 'ftp://x/...",
        "it redirects to https://a/p/token/b.jpg, which is no": "it redirects to https://a/... which is no",
        "the server answers 404 Not Found": "the server answers 404 Not Found",
        "may it be read? No. #2 a/b": "may it be read? No. #2 a/b",
    }
    for reason, kept in cases.items():
        assert shown_reason(reason) == kept
