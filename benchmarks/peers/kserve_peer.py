"""The model behind KServe's Python server: the open inference protocol with binary tensors, WORKERS processes."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import kserve
import numpy as np
from kserve import InferOutput, InferRequest, InferResponse
from peer_model import best, open_session, prepare


class Peer(kserve.Model):
    """One encoded picture in, the likeliest class out."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.session = None
        self.ready = True

    def load(self) -> bool:
        """Open the session; workers are forked, so each opens its own at its first request."""
        self.session = open_session()
        return True

    def work(self, data: bytes) -> dict[str, float]:
        """Prepare and run."""
        if self.session is None:
            self.load()
        rows = prepare(data)[None]
        return best(self.session.run(["logits"], {self.session.get_inputs()[0].name: rows})[0])[0]

    async def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> InferResponse:  # noqa: ARG002
        """Answer without holding up the loop."""
        data = payload.inputs[0].as_numpy().tobytes()
        found = await asyncio.to_thread(self.work, data)
        output = InferOutput("best", [2], "FP32")
        output.set_data_from_numpy(np.array([found["class_id"], found["probability"]], np.float32), binary_data=False)
        return InferResponse(payload.id or "0", self.name, [output])


if __name__ == "__main__":
    kserve.ModelServer(
        http_port=int(os.environ["PORT"]), enable_grpc=False, workers=int(os.environ.get("WORKERS", "1"))
    ).start([Peer("peer")])
