"""The line to type that `imagelake serve` ends with: it fits the models that are served."""

import json
import shlex

import pytest

from imagelake.cli.serve_example import example, tensors_of
from imagelake.serve.served import Served
from imagelake.serve.tensor_info import TensorInfo

AT = "http://127.0.0.1:9000"


def model(*inputs, task="tensors", name="my model"):
    return Served(name, inputs, (TensorInfo("y", "object", (-1,)),), lambda given, _: given, "f", task=task)


SMALL = model(
    TensorInfo("x", "int64", (-1, 2)), TensorInfo("on", "bool", (1,)), TensorInfo("k", "int64", (), optional=True)
)
LARGE = model(TensorInfo("x", "float32", (-1, 3, 224, 224)))


def test_tensors_are_told_in_a_line():
    """Names, types and sides of inputs and outputs."""
    assert tensors_of(LARGE) == "x float32 [any, 3, 224, 224] -> y strings [any]"


def test_few_numbers_are_written_out():
    """As a request of the open protocol, with every input that is needed, quoted for a shell."""
    words = shlex.split(example([SMALL], AT, keyed=False))
    assert (words[0], words[-1]) == ("curl", f"{AT}/v2/models/my%20model/infer")
    assert json.loads(words[2])["inputs"] == [
        {"name": "x", "datatype": "INT64", "shape": [1, 2], "data": [0, 0]},
        {"name": "on", "datatype": "BOOL", "shape": [1], "data": [False]},
    ]


def test_many_numbers_are_sent_from_python():
    """As GraphPipe, in a program that Python reads; with a key, the model is described instead."""
    words = shlex.split(example([LARGE], AT, keyed=False))
    assert words[:2] == ["python", "-c"]
    compile(words[2], "example", "exec")
    assert "np.zeros([1, 3, 224, 224], 'float32')" in words[2]
    words = shlex.split(example([LARGE], AT, keyed=True))
    assert words == ["curl", "-H", "Authorization: Bearer $KEY", f"{AT}/graphpipe/my%20model"]


@pytest.mark.parametrize(("task", "path"), [("classifier", "classify"), ("detector", "detect"), ("search", "search")])
def test_a_picture_is_sent_to_what_takes_pictures(task, path):
    """Even where other models are served too, and nothing can be sent where nothing is."""
    assert example([SMALL, model(task=task)], AT, keyed=False).endswith(f"@photo.jpg {AT}/api/{path}")
    assert example([], AT, keyed=False) == f"curl {AT}/"
    assert example([model(TensorInfo("words", "object", (-1,)))], AT, keyed=False) == f"curl {AT}/"
