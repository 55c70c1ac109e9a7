"""At the root, so that the pgTAP files under supabase/tests get the same fixtures as tests/."""

import pytest

pytest_plugins = ["tests.support.stack_fixtures", "tests.support.gateway_fixtures"]


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-pgtap 0.4.0 build pytest's subtests by hand: SQL files have no other way to them."""
    private = "ignore:A private pytest class or function was used:pytest.PytestDeprecationWarning"
    config.addinivalue_line("filterwarnings", f"{private}:pytest_pgtap.plugin.core")
