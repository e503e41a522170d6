import contextlib
import json
import os
import signal

import graphpipe.remote as old_client
import numpy as np
import pytest
from serve.service_processes import run_verb, started, web_files

from imagelake import graphpipe
from imagelake.errors import BusyError, InputError, ServingError, TooLargeError
from imagelake.serve.classify import ClassifyOptions, classify
from imagelake.serve.downloads import DownloadOptions
from imagelake.serve.graphpipe_client import AskOptions
from imagelake.serve.next_hop import find_next_hop
from pictures import encode, make_image

PICTURES = {f"/{seed}.jpg": encode(make_image(seed, 300, 200)) for seed in range(3)}
SIDE = 224


@pytest.fixture(scope="module")
def web():
    with web_files(PICTURES | {"/no.txt": b"no picture"}) as address:
        yield address


def ready(process):
    line = process.stdout.readline()
    assert line, process.communicate(timeout=60)[1]
    return json.loads(line)["listening"]


def service(*words, **options):
    return started("service", *words, "--listen", "127.0.0.1:0", "--json", **options)


@pytest.fixture(scope="module")
def chain():
    """Three processes, each with the address of the next; two that end there; and a pipeline."""
    with contextlib.ExitStack() as stack:

        def start(**commands):
            processes = {name: stack.enter_context(service(*words)) for name, words in commands.items()}
            return {name: ready(process) for name, process in processes.items()}

        found = start(
            classifier=["classifier"],
            bare_downloader=["downloader", "--allow-private"],
            bare_preprocessor=["preprocessor"],
            pipeline=["pipeline", "--allow-private"],
        )
        found |= start(preprocessor=["preprocessor", "--next", found["classifier"]])
        yield found | start(downloader=["downloader", "--next", found["preprocessor"], "--allow-private"])


@pytest.fixture(scope="module")
def pipeline(chain):
    return chain["pipeline"]


def strings(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def test_a_chain_answers_as_its_last_service(chain, pipeline, web):
    """Wherever a picture enters the chain, as an address, bytes or a tensor, its probabilities are the same."""
    pictures = strings(*PICTURES.values())
    addresses = strings(*(f"{web}{path}".encode() for path in PICTURES))
    prepared = graphpipe.execute(chain["bare_preprocessor"], pictures)
    assert prepared.shape == (3, SIDE, SIDE, 3)
    expected, labels = graphpipe.execute(chain["classifier"], prepared)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-4)
    mixed = strings(addresses[0], pictures[1], addresses[2])
    for url, given in (
        (chain["classifier"], pictures),
        (chain["preprocessor"], pictures),
        (chain["downloader"], addresses),
        (pipeline, pictures),
        (pipeline, addresses),
        (pipeline, mixed),
    ):
        found, names = graphpipe.execute(url, given)
        np.testing.assert_allclose(found, expected, atol=2e-2)
        assert names.tolist() == labels.tolist()


def test_the_last_of_a_chain_gives_what_it_has(chain, web):
    """A downloader without a next service gives the bytes, with every one of them."""
    found = graphpipe.execute(chain["bare_downloader"], strings(*(f"{web}{path}" for path in PICTURES)))
    assert found.tolist() == list(PICTURES.values())


def test_nothing_in_gives_nothing(chain, pipeline):
    """A tensor of no rows is answered with no rows."""
    empty = strings()
    assert graphpipe.execute(chain["bare_downloader"], empty).shape == (0,)
    assert graphpipe.execute(chain["bare_preprocessor"], empty).shape == (0, SIDE, SIDE, 3)
    for url in (chain["downloader"], chain["preprocessor"], pipeline):
        assert graphpipe.execute_multi(url, [empty])[0].shape == (0, 1000)


@pytest.mark.filterwarnings("ignore:numElems is deprecated:DeprecationWarning")
def test_the_first_client_works(chain, web):
    """The client that the original services had, unchanged; its config, which was the next address, is not asked."""
    asked = []
    with web_files({}, asked) as elsewhere:
        found = old_client.execute_multi(
            chain["downloader"], [np.array([f"{web}/0.jpg"])], ["urls"], ["probabilities"], config=elsewhere
        )
    assert found[0].shape == (1, 1000)
    assert asked == []
    assert old_client.get_output_names(chain["downloader"]) == ["probabilities", "label"]


@pytest.mark.parametrize(
    ("service", "given", "why"),
    [
        ("downloader", ["WEB/0.jpg", "WEB/missing.jpg"], r"Address 1, .*missing.jpg.*404"),
        ("downloader", ["WEB/0.jpg", "WEB/1.jpg", "WEB/no.txt"], r"picture 2 cannot be used"),
        ("downloader", ["file:///etc/passwd"], "Address 0"),
        ("preprocessor", [PICTURES["/0.jpg"], b"no picture"], "picture 1 cannot be used"),
        ("classifier", [b""], "picture 0 cannot be used"),
        ("pipeline", [PICTURES["/0.jpg"], "WEB/missing.jpg"], "Address 1, .*404"),
        ("pipeline", ["WEB/no.txt"], "picture 0 cannot be used"),
    ],
)
def test_one_that_fails_is_named(chain, web, service, given, why):
    """The error says which element failed and why, and not where the services of the chain are."""
    url = chain[service]
    values = [one.replace("WEB", web).encode() if isinstance(one, str) else one for one in given]
    with pytest.raises(InputError, match=why) as refused:
        graphpipe.execute(url, strings(*values))
    others = set(chain.values()) - {url}
    assert not any(other in str(refused.value) for other in others)


def test_too_many_addresses_are_too_large(chain):
    """One request cannot make a downloader fetch without end."""
    with pytest.raises(TooLargeError, match="257 addresses"):
        graphpipe.execute(chain["downloader"], strings(*["http://127.0.0.1:1/"] * 257))


def test_a_private_address_is_refused(web):
    """A service fetches from the open internet only, unless it was started otherwise; SIGTERM ends it well."""
    with service("downloader") as process:
        with pytest.raises(InputError, match=r"Address 0.*this machine itself"):
            graphpipe.execute(ready(process), strings(f"{web}/0.jpg"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_key_passes_along_the_chain(web):
    """Each service asks for its key, and shows the next one the key that it was given for it."""
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(web_files({"/list": f"{web}/0.jpg".encode()}))
        last = stack.enter_context(service("downloader", "--allow-private", env=with_keys("second-key")))
        words = ["downloader", "--allow-private", "--next", ready(last)]
        good, bad = (
            stack.enter_context(service(*words, env=with_keys("first-key", IMAGELAKE_NEXT_API_KEY=key)))
            for key in ("second-key", "first-key")
        )
        first = ready(good)
        found = graphpipe.execute(first, strings(f"{files}/list"), options=AskOptions(api_key="first-key"))
        assert found.tolist() == [PICTURES["/0.jpg"]]
        for key in (None, "second-key"):
            with pytest.raises(ServingError, match="401"):
                graphpipe.execute(first, strings(f"{files}/list"), options=AskOptions(api_key=key))
        bad.kill()


def with_keys(key, **others):
    return os.environ | {"IMAGELAKE_API_KEY": key} | others


def test_a_next_service_is_waited_for_and_no_longer():
    """A service whose next one never comes ends with a line that says so."""
    done = run_verb("service", "downloader", "--listen", "127.0.0.1:0", "--next", "http://127.0.0.1:1/", "--wait", "0")
    assert done.returncode == 1
    assert "did not answer within 0 s" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_next_service_that_went_away_is_a_reason_to_wait():
    """Who asks is told to come again, and not where the next service was."""
    with service("downloader", "--allow-private") as last:
        url = ready(last)
        hop = find_next_hop(url, AskOptions(connect_timeout_s=1), 5)
        last.kill()
        last.wait(30)
    with contextlib.closing(hop.client), pytest.raises(BusyError) as refused:
        hop.ask({"urls": strings(b"x")}, ["data"])
    assert url not in str(refused.value)


def test_others_cannot_reach_a_service_without_a_key():
    """An address that other machines can reach asks for a key, or for saying that none is meant."""
    done = run_verb("service", "downloader", "--listen", "0.0.0.0:0")
    assert done.returncode == 1
    assert "no API key" in done.stderr


@pytest.fixture
def files(tmp_path):
    for path, data in PICTURES.items():
        (tmp_path / path[1:]).write_bytes(data)
    (tmp_path / "no.txt").write_text("no picture")
    return tmp_path


def classified(*pictures, **options):
    given = ClassifyOptions(download=DownloadOptions(allow_private=True), **options)
    return list(classify([str(one) for one in pictures], given))


def test_pictures_are_classified_the_same_everywhere(files, web, chain):
    """Files and addresses, here and by every service that takes them: the same class, with its probability."""
    given = files / "0.jpg", f"{web}/1.jpg"
    expected = classified(*given, top=3)
    assert [len(one.classes) for one in expected] == [3, 3]
    for name in ("preprocessor", "classifier", "pipeline"):
        for one, other in zip(expected, classified(*given, top=3, server=chain[name]), strict=True):
            assert one.picture == other.picture
            assert one.classes[0].label == other.classes[0].label
            assert one.classes[0].probability == pytest.approx(other.classes[0].probability, abs=2e-2)
    assert classified(given[1], server=chain["downloader"])[0].classes[0].label == expected[1].classes[0].label
    assert "addresses only" in classified(given[0], server=chain["downloader"])[0].error
    with pytest.raises(InputError, match="--next"):
        classified(given[0], server=chain["bare_downloader"])


def test_a_picture_that_fails_leaves_the_others(files):
    """Each picture has its class or its reason; the exit code says that not all have a class."""
    done = run_verb("classify", files / "no.txt", files / "0.jpg", files / "missing.jpg")
    assert done.returncode == 1
    assert "0.jpg" in done.stdout
    assert "no.txt: picture 0 cannot be used" in done.stderr
    assert "missing.jpg: The file cannot be read" in done.stderr


def test_the_command_prints_one_object(files, chain):
    """With --json, one object with each picture's classes."""
    done = run_verb("classify", files / "0.jpg", "--server", chain["pipeline"], "--top", 2, "--json")
    assert done.returncode == 0, done.stderr
    (picture,) = json.loads(done.stdout)["pictures"]
    assert picture["picture"] == str(files / "0.jpg")
    assert [set(one) for one in picture["classes"]] == [{"label", "class_id", "probability"}] * 2
