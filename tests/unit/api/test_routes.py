"""Which routes there are: whatever may cost money goes through the one function that holds funds first."""

import ast
import importlib
from pathlib import Path

API = Path(__file__).parents[3] / "backend" / "api"


def test_what_is_posted_is_dispatched_once_moves_an_operators_money_or_costs_nothing() -> None:
    """A new POST route has to be thought of here: does it cost money, and who holds it before?"""
    names = [
        file.relative_to(API).with_suffix("").parts for file in API.rglob("*.py") if file.stem != "__init__"
    ]
    modules = [importlib.import_module(".".join(("backend", "api", *name))) for name in names]
    routes = [route for module in modules for route in getattr(getattr(module, "router", None), "routes", ())]
    routes += [module.ROUTE for module in modules if hasattr(module, "ROUTE")]
    posted = {route.path for route in routes if "POST" in route.methods}
    assert posted == {
        "/v1/chat/completions",
        # Ranks, and neither writes nor calls.
        "/v1/route/explain",
        # Members', who spend nothing by them.
        "/v1/agents",
        "/v1/agents/{agent_id}/keys",
        "/v1/keys/{key_id}/rotate",
        "/v1/members",
        "/v1/decisions/{decision_id}/feedback",
        "/v1/operator/wallets/{organization_id}/top-ups",
        "/v1/operator/wallets/{organization_id}/refunds",
        "/v1/operator/wallets/{organization_id}/corrections",
    }


def test_no_route_reaches_a_provider_but_by_dispatch() -> None:
    """Nothing of the providers is imported where requests come in: there is no way past the reservation."""
    imported = {
        node.module
        for file in API.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    assert not {module for module in imported if module.startswith("backend.providers")}
