"""What every protocol is given: the models, the lake, the limits, and what is known of the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imagelake import __version__

if TYPE_CHECKING:
    from imagelake.serve.body import BodyBudget
    from imagelake.serve.lake_view import LakeView
    from imagelake.serve.metrics import Metrics
    from imagelake.serve.plane import Plane, ServedModel


@dataclass(frozen=True)
class Limits:
    """What one request, and all together, may take.

    Attributes:
        max_body: bytes of one body, and of what it becomes when it is decompressed.
        max_tensors: inputs, and outputs asked for, of one request.
        max_pixels: of one picture.
        max_concurrency: requests at work at once; more are refused before their body is read.
        timeout_s: the deadline of a request that names none.
        body_timeout_s: how long a body may take to arrive.
        body_budget: bytes of all bodies together.
    """

    max_body: int = 64 << 20
    max_tensors: int = 64
    max_pixels: int = 64_000_000
    max_concurrency: int = 256
    timeout_s: float = 30.0
    body_timeout_s: float = 30.0
    body_budget: int = 512 << 20


class Lifecycle:
    """Whether the server takes requests, as load balancers are told.

    Attributes:
        starting: models are still opened and warmed up.
        draining: it was asked to end: what comes is still answered, and callers are told to go elsewhere.
    """

    def __init__(self) -> None:
        self.starting = False
        self.draining = False


@dataclass(frozen=True)
class Site:
    """A server, as its protocols see it.

    Attributes:
        plane: the models.
        limits: of requests.
        lake: whose images are searched and shown; None: none is served.
        why_no_lake: what callers are told who ask for it then.
        open_model: opens a model by its name, for callers who may load models; None: nobody may.
        loadable: the names that `open_model` knows at present.
        server_name: as protocols tell it.
        version: of the server.
        metrics: where protocols may count what only they know; None: nothing is counted.
        lifecycle: whether it is ending.
        budget: of memory for bodies, for `read_body`.
    """

    plane: Plane
    limits: Limits = field(default_factory=Limits)
    lake: LakeView | None = None
    why_no_lake: str = "No lake is served here. Start the server with one: --lake PLACE."
    open_model: Callable[[str], ServedModel] | None = None
    loadable: Callable[[], Sequence[str]] = tuple
    server_name: str = "imagelake"
    version: str = __version__
    metrics: Metrics | None = None
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    budget: BodyBudget = field(init=False)

    def __post_init__(self) -> None:
        from imagelake.serve.body import BodyBudget  # late: that module needs `Limits`

        object.__setattr__(self, "budget", BodyBudget(self.limits.body_budget))

    def ready(self) -> bool:
        """Whether requests should come here: every model is warmed up, and the server is not ending."""
        ending_or_starting = self.lifecycle.draining or self.lifecycle.starting
        return not ending_or_starting and all(self.plane.ready(name) for name in self.plane.names())
