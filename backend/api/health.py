"""GET /health/live and /health/ready."""

from fastapi import APIRouter, Request, Response

from backend.api.parts import parts_of

router = APIRouter()


@router.get("/health/live")
async def live() -> dict[str, str]:
    """Tell that the process runs."""
    return {"status": "live"}


@router.get("/health/ready")
async def ready(request: Request, response: Response) -> dict[str, str]:
    """Tell whether requests can be served: 503 while the record cannot be reached. Recovers by itself."""
    catalogue = parts_of(request).live_catalogue
    if catalogue.current is None or not catalogue.fresh:
        response.status_code = 503
        return {"status": "the record cannot be reached"}
    return {"status": "ready"}
