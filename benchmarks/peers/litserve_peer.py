"""The model behind LitServe: forms with the file, batches as large as BATCH, WORKERS processes."""

import os
from typing import Any

import litserve
import numpy as np
from fastapi import Request
from peer_model import best, open_session, prepare

BATCH = int(os.environ.get("BATCH", "1"))


class Api(litserve.LitAPI):
    """One file in, the likeliest class out."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Open the session in the worker."""
        self.session = open_session()

    def decode_request(self, request: Request) -> np.ndarray:
        """The prepared picture."""
        return prepare(request["image"].file.read())

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Stack them."""
        return np.stack(inputs)

    def predict(self, inputs: np.ndarray) -> list[dict[str, float]]:
        """Run the model."""
        rows = inputs if BATCH > 1 else inputs[None]
        return best(self.session.run(["logits"], {self.session.get_inputs()[0].name: rows})[0])

    def unbatch(self, output: list[dict[str, float]]) -> list[dict[str, float]]:
        """One answer a picture."""
        return output

    def encode_response(self, output: Any) -> dict[str, float]:
        """As JSON."""
        return output if BATCH > 1 else output[0]


if __name__ == "__main__":
    api = Api(max_batch_size=BATCH, batch_timeout=float(os.environ.get("DELAY", "0")))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(os.environ.get("WORKERS", "2")))
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False, log_level="warning")
