"""How requests to one model are put together."""

from __future__ import annotations

import os
from dataclasses import dataclass

from imagelake.errors import InputError
from imagelake.serve.served_model import ServedModel


@dataclass(frozen=True)
class BatchOptions:
    """How requests to one model are put together.

    Attributes:
        instances: threads that run the model; None for one a core, and one for a function, which may not expect more.
        max_batch: rows of one run at most; None for what the model takes well. 0 runs every request alone.
        max_delay_s: how long the oldest request waits for others to join it; 0 runs at once whatever is there.
        preferred: sizes of a run that the model takes best, in rows.
        max_queue: requests that may wait; one more is refused at once.
        cache_bytes: memory for answers that are kept, by the content of their rows; 0 keeps none.

    Raises:
        InputError: a value is not allowed.
    """

    instances: int | None = None
    max_batch: int | None = None
    max_delay_s: float = 0.0
    preferred: tuple[int, ...] = ()
    max_queue: int = 256
    cache_bytes: int = 0

    def __post_init__(self) -> None:
        whole = (self.instances or 1, self.max_queue, *self.preferred)
        if min(whole) < 1 or self.instances == 0 or (self.max_batch or 0) < 0 or self.cache_bytes < 0:
            raise InputError(
                f"{self} is not allowed; instances, max_queue and preferred are 1 or more, the rest 0 or more"
            )
        if not 0 <= self.max_delay_s < 3600:
            raise InputError(f"a batch cannot wait {self.max_delay_s} s for more; give 0 to 3600")

    def settle(self, model: ServedModel) -> BatchOptions:
        """The same with the numbers that `None` means for this model."""
        rows = model.max_batch if self.max_batch is None else self.max_batch if model.max_batch else 0
        count = 1 if model.task == "function" else cores()
        preferred = tuple(sorted(size for size in self.preferred if size <= rows))
        return BatchOptions(
            self.instances or count, rows, self.max_delay_s, preferred, self.max_queue, self.cache_bytes
        )


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
