import contextlib
import dataclasses
import json
import os
import signal
import threading

import graphpipe.remote as old_client
import numpy as np
import pytest
from serve.oip_site import colors
from serve.service_processes import hosted, run_verb, started, web_files

from imagelake import graphpipe
from imagelake.errors import BusyError, InputError, ServingError, TimeLimitError, TooLargeError
from imagelake.models.registry import Registry
from imagelake.serve.api_keys import read_keys
from imagelake.serve.classify import ClassifyOptions, classify
from imagelake.serve.downloads import DownloadOptions
from imagelake.serve.graphpipe_client import AskOptions
from imagelake.serve.next_hop import find_next_hop
from imagelake.serve.plane import Plane
from imagelake.serve.services import ServiceOptions, load_service
from pictures import encode, make_image
from small_models import SIDE

PICTURES = {f"/{seed}.jpg": encode(make_image(seed, 300, 200)) for seed in range(3)}


@pytest.fixture(scope="module")
def web():
    with web_files(PICTURES | {"/no.txt": b"no picture"}) as address:
        yield address


@pytest.fixture(scope="module")
def colors_model(tmp_path_factory):
    """Options of services whose model is small: which color is the brightest; and where it is registered."""
    folder = tmp_path_factory.mktemp("models")
    colors(folder).close()
    return ServiceOptions("colors", Registry(folder / "models"), DownloadOptions(allow_private=True)), folder / "models"


@pytest.fixture(scope="module")
def chain(colors_model):
    """Three services, each with the address of the next; two that end there; and a pipeline."""
    options, _ = colors_model
    with contextlib.ExitStack() as stack:

        def start(kind, next_url=None):
            return stack.enter_context(hosted(kind, options, next_url))

        found = {name: start(name) for name in ("classifier", "pipeline")}
        found |= {f"bare_{name}": start(name) for name in ("downloader", "preprocessor")}
        found["preprocessor"] = start("preprocessor", found["classifier"])
        found["downloader"] = start("downloader", found["preprocessor"])
        yield found


@pytest.fixture(scope="module")
def pipeline(chain):
    return chain["pipeline"]


def ready(process):
    line = process.stdout.readline()
    assert line, process.communicate(timeout=60)[1]
    return json.loads(line)["listening"]


def service(*words, **options):
    return started("service", *words, "--listen", "127.0.0.1:0", "--json", **options)


def strings(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def test_a_chain_answers_as_its_last_service(chain, pipeline, web):
    """Wherever a picture enters the chain, as an address, bytes or a tensor, its probabilities are the same."""
    pictures = strings(*PICTURES.values())
    addresses = strings(*(f"{web}{path}".encode() for path in PICTURES))
    prepared = graphpipe.execute(chain["bare_preprocessor"], pictures)
    assert prepared.shape == (3, 3, SIDE, SIDE)
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
    assert graphpipe.execute(chain["bare_preprocessor"], empty).shape == (0, 3, SIDE, SIDE)
    for url in (chain["downloader"], chain["preprocessor"], pipeline):
        assert graphpipe.execute_multi(url, [empty])[0].shape == (0, 3)


@pytest.mark.filterwarnings("ignore:numElems is deprecated:DeprecationWarning")
def test_the_first_client_works(chain, web):
    """The client that the original services had, unchanged; its config, which was the next address, is not asked."""
    asked = []
    with web_files({}, asked) as elsewhere:
        found = old_client.execute_multi(
            chain["downloader"], [np.array([f"{web}/0.jpg"])], ["urls"], ["probabilities"], config=elsewhere
        )
    assert found[0].shape == (1, 3)
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


def test_a_chain_of_processes(web, chain, colors_model):
    """Each service is a process: it asks for its key, shows the next one the other, and SIGTERM ends it well."""
    keyed = os.environ | {"IMAGELAKE_API_KEY": "first-key", "IMAGELAKE_NEXT_API_KEY": "second-key"}
    with contextlib.ExitStack() as stack:
        words = ["--models", colors_model[1], "--model", "colors", "--next", chain["classifier"]]
        last = stack.enter_context(
            service("preprocessor", *words, env=os.environ | {"IMAGELAKE_API_KEY": "second-key"})
        )
        words = ["--allow-private", "--next", ready(last)]
        first = stack.enter_context(service("downloader", *words, env=keyed))
        url, given = ready(first), strings(f"{web}/0.jpg")
        found, _ = graphpipe.execute(url, given, options=AskOptions(api_key="first-key"))
        np.testing.assert_allclose(found, graphpipe.execute(chain["downloader"], given)[0])
        for key in (None, "second-key"):
            with pytest.raises(ServingError, match="401"):
                graphpipe.execute(url, given, options=AskOptions(api_key=key))
        for process in (first, last):
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


def test_a_pipeline_is_a_process(web, tmp_path):
    """With the built-in model, from the open internet only; Ctrl-C ends it, and says nothing."""
    picture = tmp_path / "0.jpg"
    picture.write_bytes(PICTURES["/0.jpg"])
    with service("pipeline") as process:
        url = ready(process)
        with pytest.raises(InputError, match=r"Address 0.*this machine itself"):
            graphpipe.execute(url, strings(f"{web}/0.jpg"))
        expected, found = classified(picture), classified(picture, server=url)
        assert found[0].classes[0].label == expected[0].classes[0].label
        assert found[0].classes[0].probability == pytest.approx(expected[0].classes[0].probability, abs=2e-2)
        process.send_signal(signal.SIGINT)
        _, notes = process.communicate(timeout=60)
        assert (process.returncode, notes) == (0, "")


def test_a_next_service_that_refuses_the_key_is_not_waited_for(colors_model):
    """Waiting does not mend a wrong key; the error says where the right one belongs, and not the key."""
    options, _ = colors_model
    asking = AskOptions(api_key="wrong-key")
    with hosted("downloader", options, keys=read_keys("right-key", "test")) as url:
        with pytest.raises(InputError, match=r"401.*IMAGELAKE_NEXT_API_KEY") as refused:
            find_next_hop(url, asking, 60)
        assert "wrong-key" not in str(refused.value)


def test_a_next_service_is_waited_for_and_no_longer():
    """A service whose next one never comes ends with a line that says so."""
    done = run_verb("service", "downloader", "--listen", "127.0.0.1:0", "--next", "http://127.0.0.1:1/", "--wait", "0")
    assert done.returncode == 1
    assert "did not answer within 0 s" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("spelled", ["{}", "{}/", "{}?a=b"])
def test_a_next_service_that_went_away_is_a_reason_to_wait(colors_model, caplog, spelled):
    """Who asks is told to come again, and not where the next service was, however it was written; the log is."""
    with hosted("downloader", colors_model[0]) as url:
        hop = find_next_hop(spelled.format(url).replace("127.0.0.1", "user:pass@127.0.0.1"), AskOptions(), 5)
        with pytest.raises(InputError, match="Address 0") as wrong:
            hop.ask({"urls": strings(b"x")}, ["data"])
    with contextlib.closing(hop.client), pytest.raises(BusyError, match="next service") as refused:
        hop.ask({"urls": strings(b"x")}, ["data"])
    for error in (wrong, refused):
        assert "127.0.0.1" not in str(error.value)
    assert url in caplog.text
    assert "pass" not in caplog.text


def test_the_time_that_is_left_is_passed_on(chain):
    """A service asks the next one for no longer than its own caller waits."""
    hop = find_next_hop(chain["bare_downloader"], AskOptions(), 5)
    with contextlib.closing(hop.client), web_files({"/slow": threading.Event()}) as slow:
        with pytest.raises(TimeLimitError, match="next service did not answer in time"):
            hop.ask({"urls": strings(f"{slow}/slow".encode())}, ["data"], 0.2)
        with pytest.raises(TimeLimitError, match="no time left"):
            hop.ask({"urls": strings(b"x")}, ["data"], 0.0)


def test_the_tensor_of_a_preprocessor_is_bounded(colors_model):
    """Small pictures become large tensors; too many are refused before any memory is taken."""
    options = dataclasses.replace(colors_model[0], max_bytes=2 * 3 * SIDE * SIDE * 4)
    with Plane() as plane:
        load_service("preprocessor", plane, options)
        assert len(plane.infer("preprocessor", {"pictures": strings(*[PICTURES["/0.jpg"]] * 2)})["x"]) == 2
        with pytest.raises(TooLargeError, match="3 pictures; at most 2"):
            plane.infer("preprocessor", {"pictures": strings(*[PICTURES["/0.jpg"]] * 3)})


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


def test_pictures_are_classified_the_same_everywhere(files, web, chain, colors_model):
    """Files and addresses, here and by every service that takes them: the same class, with its probability."""
    given = files / "0.jpg", f"{web}/1.jpg"
    expected = classified(*given, top=3, model="colors", registry=colors_model[0].registry)
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


def test_a_picture_that_fails_leaves_the_others(files, colors_model):
    """Each picture has its class or its reason; the exit code says that not all have a class."""
    os.mkfifo(files / "pipe")
    bad = [files / "no.txt", files / "missing.jpg", files, files / "pipe", "/dev/zero"]
    done = run_verb("classify", files / "0.jpg", *bad, "--models", colors_model[1], "--model", "colors")
    assert done.returncode == 1
    assert "0.jpg" in done.stdout
    for name, why in zip(bad, ("it cannot be used", "The file cannot", "a folder", "no file", "no file"), strict=True):
        assert f"{name}: {why}" in done.stderr.replace("That is ", "")


def test_a_server_that_is_not_there_is_one_line(files):
    """Without a server, an error that says where was asked, and exit code 1."""
    done = run_verb("classify", files / "0.jpg", files / "1.jpg", "--server", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "http://127.0.0.1:1 could not be asked" in done.stderr


def test_the_command_prints_one_object(files, chain):
    """With --json, one object with each picture's classes."""
    done = run_verb("classify", files / "0.jpg", "--server", chain["pipeline"], "--top", 2, "--json")
    assert done.returncode == 0, done.stderr
    (picture,) = json.loads(done.stdout)["pictures"]
    assert picture["picture"] == str(files / "0.jpg")
    assert [set(one) for one in picture["classes"]] == [{"label", "class_id", "probability"}] * 2
