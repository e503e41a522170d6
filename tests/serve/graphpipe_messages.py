"""GraphPipe messages for tests, ours and of the generated code; and a reader that is the generated code alone."""

import flatbuffers
import numpy as np

from imagelake.serve import graphpipe
from imagelake.serve.graphpipe_schema import (
    Error,
    InferRequest,
    InferResponse,
    IOMetadata,
    MetadataRequest,
    MetadataResponse,
    Request,
    Tensor,
)
from imagelake.serve.tensor_info import TensorInfo

NUMBERS = [name for name in graphpipe.DTYPES.values() if name != "object"]


def strings(*elements):
    array = np.empty(len(elements), object)
    array[:] = elements
    return array


METADATA = graphpipe.Metadata(
    "mean", "3", "imagelake", "of each row",
    (TensorInfo("x", "float32", (-1, 3, 224), "rows"), TensorInfo("names", "object", (-1,))),
    (TensorInfo("y", "int64", ()),),
)  # fmt: skip


def requests():
    """Requests of many kinds, as bytes."""
    number = np.arange(6)
    yield graphpipe.encode_metadata_request()
    yield graphpipe.encode_request([])
    yield graphpipe.encode_request([number.astype(name).reshape(2, 3) for name in NUMBERS])
    yield graphpipe.encode_request([np.float32(3.5)], ["x"], ["y", "z"], "{}")
    yield graphpipe.encode_request([strings(b"foo", b"b\0r", b"").reshape(3, 1), np.zeros((0, 4))], ["a", "b"])
    yield graphpipe.encode_request([np.zeros(9000, "float32"), strings(b"\xff\xd8" * 20_000)])


def responses():
    """Answers of many kinds."""
    yield graphpipe.encode_infer_response([])
    yield graphpipe.encode_infer_response([np.arange(6.0).reshape(1, 6), strings(b"cat", b"dog")])
    yield graphpipe.encode_metadata_response(METADATA)
    yield graphpipe.encode_metadata_response(graphpipe.Metadata())


def seeds():
    """All of them as bytes, and what the generated code writes."""
    for message in (*requests(), *responses()):
        yield bytes(message.join())
    yield failed_response(-7, b"no such output")
    yield unaligned_request()


def failed_response(code, message):
    """An answer with an error in it, as other servers may write it."""
    builder = flatbuffers.Builder(0)
    text = builder.CreateString(message)
    Error.Start(builder)
    Error.AddCode(builder, code)
    Error.AddMessage(builder, text)
    error = Error.End(builder)
    InferResponse.StartErrorsVector(builder, 1)
    builder.PrependUOffsetTRelative(error)
    errors = builder.EndVector()
    InferResponse.Start(builder)
    InferResponse.AddErrors(builder, errors)
    builder.Finish(InferResponse.End(builder))
    return bytes(builder.Output())


def unaligned_request():
    """A request whose float64 numbers lie at no multiple of 8, whose strings end without a NUL, without names."""
    builder = flatbuffers.Builder(0)
    string = builder.CreateByteVector(b"abcd")
    Tensor.StartStringValVector(builder, 1)
    builder.PrependUOffsetTRelative(string)
    string_val = builder.EndVector()
    Tensor.StartShapeVector(builder, 1)
    builder.PrependInt64(1)
    shape = builder.EndVector()
    Tensor.Start(builder)
    Tensor.AddType(builder, 12)
    Tensor.AddShape(builder, shape)
    Tensor.AddStringVal(builder, string_val)
    words = Tensor.End(builder)
    data = builder.CreateByteVector(np.arange(3.0).tobytes())
    Tensor.StartShapeVector(builder, 1)
    builder.PrependInt64(3)
    shape = builder.EndVector()
    Tensor.Start(builder)
    Tensor.AddType(builder, 11)
    Tensor.AddShape(builder, shape)
    Tensor.AddData(builder, data)
    numbers = Tensor.End(builder)
    InferRequest.StartInputTensorsVector(builder, 2)
    builder.PrependUOffsetTRelative(words)
    builder.PrependUOffsetTRelative(numbers)
    tensors = builder.EndVector()
    InferRequest.Start(builder)
    InferRequest.AddInputTensors(builder, tensors)
    return finish_request(builder, 1, InferRequest.End(builder))


def other_request(kind):
    """A request of another kind than there is; 2 is one for metadata."""
    builder = flatbuffers.Builder(0)
    MetadataRequest.Start(builder)
    return finish_request(builder, kind, MetadataRequest.End(builder))


def finish_request(builder, kind, table):
    Request.Start(builder)
    Request.AddReqType(builder, kind)
    Request.AddReq(builder, table)
    builder.Finish(Request.End(builder))
    return bytes(builder.Output())


def read_tensor(tensor):
    """The array of a tensor, by the generated code alone."""
    shape = [tensor.Shape(i) for i in range(tensor.ShapeLength())]
    if tensor.Type() == 12:
        return strings(*(tensor.StringVal(i) for i in range(tensor.StringValLength()))).reshape(shape)
    return tensor.DataAsNumpy().view(graphpipe.DTYPES[tensor.Type()]).reshape(shape)


def read_request(data):
    """Arrays, names, names of outputs and config of a request, by the generated code alone."""
    root = Request.Request.GetRootAs(data, 0)
    assert root.ReqType() == 1
    found = InferRequest.InferRequest()
    found.Init(root.Req().Bytes, root.Req().Pos)
    return (
        [read_tensor(found.InputTensors(i)) for i in range(found.InputTensorsLength())],
        [found.InputNames(i).decode() for i in range(found.InputNamesLength())],
        [found.OutputNames(i).decode() for i in range(found.OutputNamesLength())],
        found.Config(),
    )


def read_response(data):
    """Arrays of an answer, by the generated code alone; it has no errors."""
    root = InferResponse.InferResponse.GetRootAs(data, 0)
    assert root.ErrorsIsNone()
    return [read_tensor(root.OutputTensors(i)) for i in range(root.OutputTensorsLength())]


def read_metadata(data):
    """What an answer says of a model, by the generated code alone."""
    root = MetadataResponse.MetadataResponse.GetRootAs(data, 0)

    def info(table):
        assert isinstance(table, IOMetadata.IOMetadata)
        shape = tuple(table.Shape(i) for i in range(table.ShapeLength()))
        return TensorInfo(table.Name().decode(), graphpipe.DTYPES[table.Type()], shape, table.Description().decode())

    words = [each.decode() for each in (root.Name(), root.Version(), root.Server(), root.Description())]
    inputs = tuple(info(root.Inputs(i)) for i in range(root.InputsLength()))
    return graphpipe.Metadata(*words, inputs, tuple(info(root.Outputs(i)) for i in range(root.OutputsLength())))
