"""What the client of KServe asks of a server, run by an interpreter that has it: REST address, gRPC address, a JPEG."""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

NAME = "efficientnet-lite0"


def tensor():
    """One gray picture as the model's tensor."""
    data = InferInput("image_rgb", [1, 224, 224, 3], "UINT8")
    data.set_data_from_numpy(np.full((1, 224, 224, 3), 128, np.uint8), binary_data=True)
    return data


def values(response):
    """The outputs by name."""
    return {output.name: output.as_numpy() for output in response.outputs}


async def ask_rest(address, picture):
    """Over HTTP."""
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=1))
    try:
        found = values(await client.infer(address, InferRequest(NAME, [tensor()], request_id="r1"), NAME))
        plain = InferRequest(NAME, [InferInput("image_rgb", [1], "BYTES", data=None)])
        plain.inputs[0].set_data_from_numpy(np.array([picture], object), binary_data=True)
        seen = values(await client.infer(address, plain, NAME))
        return {
            "live": await client.is_server_live(address),
            "ready": await client.is_server_ready(address),
            "model": await client.is_model_ready(address, NAME),
            "shape": found["probabilities"].shape,
            "sum": float(found["probabilities"].sum()),
            "picture": float(seen["probabilities"].max()),
        }
    finally:
        await client.close()


async def ask_grpc(address):
    """Over gRPC."""
    client = InferenceGRPCClient(address)
    try:
        found = values(await client.infer(InferRequest(NAME, [tensor()], request_id="r2")))
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model": await client.is_model_ready(NAME),
            "shape": found["probabilities"].shape,
            "sum": float(found["probabilities"].sum()),
        }
    finally:
        await client.close()


async def main():
    rest, grpc, picture = sys.argv[1:]
    told = {"rest": await ask_rest(rest, Path(picture).read_bytes()), "grpc": await ask_grpc(grpc)}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
