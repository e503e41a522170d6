"""The OpenAPI document: true of the server, and shown by a page that needs no other host."""

import collections
import json
import re

import hypothesis
import jsonschema
import pytest
import requests
import schemathesis
from schemathesis import checks
from serve.rest_site import serving

import imagelake
from imagelake.serve.openapi import document
from imagelake.serve.rest_fields import FIELDS
from imagelake.serve.served_models import open_named
from imagelake.serve.site import Limits
from pictures import encode, make_image

CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
"""Of schemathesis. Not that what fits the schema is taken: a schema cannot say that bytes are a picture."""

EXAMPLES = 25
"""How many requests are made up for each operation and body. 500 take some minutes, and found nothing more."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of three pictures, with a model of each kind."""
    folder = tmp_path_factory.mktemp("openapi")
    (folder / "photos").mkdir()
    for seed in range(3):
        (folder / "photos" / f"{seed}.jpg").write_bytes(encode(make_image(seed)))
    lake = imagelake.open(folder / "test.lake", create=True)
    lake.ingest(folder / "photos")
    lake.extract()
    models = [open_named(name) for name in ("efficientnet-lite0", "efficientnet-lite0-embedder", "subject")]
    with serving(lake, models, Limits(max_body=1 << 20)) as running:
        yield running


@pytest.fixture(scope="module")
def told(server):
    """The document, with the id of an image that is there as the example of an id."""
    status, _, body = server.ask("GET", "/openapi.json")
    assert status == 200
    return json.loads(body)


def test_the_document_is_openapi(told):
    """Every reference leads somewhere, every operation has its own name, and the version is that of the package."""
    assert told["openapi"].startswith("3.1.")
    assert told["info"]["version"] == imagelake.__version__
    for reference in re.findall(r'"\$ref": ?"#/([^"]+)"', json.dumps(told)):
        found = told
        for name in reference.split("/"):
            found = found[name]
    operations = [each for methods in told["paths"].values() for each in methods.values()]
    names = [each["operationId"] for each in operations]
    assert len(set(names)) == len(names) == 8
    assert all(each["responses"]["200"] for each in operations)


def test_examples_are_what_they_are_examples_of(told):
    """Each example of a schema fits it, and each example of a field is read."""
    for name, schema in told["components"]["schemas"].items():
        for example in schema.get("examples", []):
            check(told, name, example)
    for field in FIELDS.values():
        field.read(field.example)
        jsonschema.validate(field.example, dict(field.schema))


def check(told, name, answer):
    """Fails where an answer is not as a schema of the document has it."""
    whole = {"$ref": f"#/components/schemas/{name}", "components": told["components"]}
    jsonschema.Draft202012Validator(whole).validate(answer)


def test_real_answers_are_as_the_document_has_them(server, told):
    """Those to a picture, of each operation."""
    picture = encode(make_image(1))
    for path, name in (
        ("classify?k=2", "Classification"),
        ("detect", "Detection"),
        ("embed", "Embedding"),
        ("search?k=2", "Matches"),
    ):
        status, answer = server.post(f"/api/{path}", picture)
        assert status == 200
        check(told, name, answer)
    for path, name in ((answer["matches"][0]["links"]["image"], "Image"), ("/api/models", "Models")):
        check(told, name, server.get(path)[1])


def test_links_of_a_mounted_server():
    """Where the server is mounted below another path, the document says so."""
    assert document("1", "/pictures")["servers"] == [{"url": "/pictures"}]


def test_the_server_does_what_the_document_says(server, told):
    """Made-up requests, good and bad ones: never a 5xx, and each answer is of a status and a form that is told."""
    asked = collections.Counter()
    with requests.Session() as session:
        for found in schemathesis.openapi.from_dict(told).get_all_operations():
            operation = found.ok()
            for mode in schemathesis.GenerationMode:
                if mode.is_negative and operation.path == "/api/models":
                    continue  # it takes nothing that could be wrong

                @hypothesis.seed(1)
                @hypothesis.settings(
                    max_examples=EXAMPLES,
                    deadline=None,
                    database=None,
                    phases=[hypothesis.Phase.generate],
                    suppress_health_check=list(hypothesis.HealthCheck),
                )
                @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
                def check(case):
                    answer = case.call(base_url=server.address, session=session)
                    asked[answer.status_code] += 1
                    case.validate_response(answer, checks=CHECKS)

                check()
    assert asked.total() > 100
    assert asked.keys() >= {200, 400, 404}
    assert max(asked) < 500


def test_the_page_needs_no_other_host(server):
    """Every file that it names is here, no address of another host is in it, and the policy lets none be asked."""
    status, headers, page = server.ask("GET", "/docs")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert b"//" not in page
    for name in re.findall(rb'(?:src|href)="([^"]+)"', page):
        status, headers, body = server.ask("GET", f"/{name.decode()}")
        assert (status, bool(body)) == (200, True)
        tag = headers.get("etag")
        if tag is not None:
            assert headers["cache-control"] == "public, max-age=86400"
            assert server.ask("GET", f"/{name.decode()}", headers={"If-None-Match": tag})[::2] == (304, b"")
    assert b"docs/openapi.json" in server.ask("GET", "/docs/start.js")[2]


def test_the_page_gets_words_that_it_reads(server):
    """Its program reads OpenAPI 3.0: no type is a list, no example is one of several, and nothing is lost."""
    status, _, body = server.ask("GET", "/docs/openapi.json")
    found = json.loads(body)
    assert (status, found["openapi"]) == (200, "3.0.3")
    assert found["paths"].keys() == document("1")["paths"].keys()

    def look(part):
        if isinstance(part, dict):
            assert not isinstance(part.get("type"), list)
            assert not isinstance(part.get("examples"), list)
            assert "contentMediaType" not in part
        for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else []:
            look(each)

    look(found)


def test_nothing_else_is_below_docs(server):
    """No file of this machine can be reached from there."""
    for path in ("/docs/../openapi.py", "/docs/index.html", "/docs/%2e%2e/%2e%2e/etc/passwd", "/docs/"):
        assert server.ask("GET", path)[0] == 404
