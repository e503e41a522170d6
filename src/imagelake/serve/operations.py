"""For whoever runs the server: `/health/live`, `/health/ready` and `/metrics`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from imagelake.serve.site import Site


def routes(site: Site) -> list[BaseRoute]:
    """Health, by the words of Kubernetes; and the numbers, where the site has any."""

    async def live(_: Request) -> Response:
        """200 as long as the process answers at all."""
        return JSONResponse({"status": "live"})

    async def ready(_: Request) -> Response:
        """200 when requests should come here; 503 before the models are warmed up, and when the server ends."""
        if site.ready():
            return JSONResponse({"status": "ready", "models": len(site.plane.names())})
        status = "draining" if site.lifecycle.draining else "starting"
        return JSONResponse({"status": status}, 503, {"Retry-After": "1"})

    async def metrics(request: Request) -> Response:
        """The numbers, for Prometheus."""
        if site.metrics is None:
            return Response("no numbers are kept\n", 404, media_type="text/plain")
        body, kind = site.metrics.page(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": kind})

    found: list[BaseRoute] = [Route("/health/live", live), Route("/health/ready", ready)]
    return [*found, Route("/metrics", metrics)]
