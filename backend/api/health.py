"""GET /health/live and /health/ready."""

from fastapi import APIRouter, Request, Response

from backend.api.parts import parts_of

router = APIRouter()


@router.api_route("/health/live", methods=["GET", "HEAD"])
async def live() -> dict[str, str]:
    """Tell that the process runs."""
    return {"status": "live"}


@router.api_route("/health/ready", methods=["GET", "HEAD"])
async def ready(request: Request, response: Response) -> dict[str, str]:
    """Tell whether requests can be served: 503 while the catalogue cannot be read, with the reason. Recovers by itself."""
    catalogue = parts_of(request).live_catalogue
    if catalogue.problem:
        response.status_code = 503
        return {"status": catalogue.problem}
    return {"status": "ready"}
