"""The model behind MLServer: the open inference protocol, pictures as base64, PARALLEL processes."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput
from peer_model import best, open_session, prepare


class Peer(MLModel):
    """Encoded pictures in, the likeliest class of each out."""

    async def load(self) -> bool:
        """Open the session in the worker."""
        self.session = open_session()
        return True

    def work(self, texts: list[Any]) -> list[float]:
        """Prepare and run."""
        import numpy as np

        rows = np.stack([prepare(base64.b64decode(text)) for text in texts])
        found = best(self.session.run(["logits"], {self.session.get_inputs()[0].name: rows})[0])
        return [value for row in found for value in (row["class_id"], row["probability"])]

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer without holding up the loop."""
        texts = list(payload.inputs[0].data)
        values = await asyncio.to_thread(self.work, texts)
        output = ResponseOutput(name="best", shape=[len(texts), 2], datatype="FP32", data=values)
        return InferenceResponse(model_name=self.name, outputs=[output])
