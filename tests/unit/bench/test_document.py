"""Only what stands between two markers is written anew."""

from pathlib import Path

import pytest

from bench import policy_forms
from bench.performance.document import FILE, GROWTH, PERFORMANCE, replaced

PAGE = "before\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nafter\n"


def test_the_text_around_the_markers_stays() -> None:
    """And so do the markers: the next run finds them again."""
    page = replaced(PAGE, PERFORMANCE, "new")
    assert page == "before\n<!-- bench: begin -->\n\nnew\n\n<!-- bench: end -->\nafter\n"
    assert replaced(page, PERFORMANCE, "new") == page


def test_a_page_without_markers_is_refused() -> None:
    """Nothing is written to nowhere."""
    with pytest.raises(ValueError, match="missing"):
        replaced("before", PERFORMANCE, "new")


@pytest.mark.parametrize(
    ("page", "part"), [(FILE, PERFORMANCE), (FILE, GROWTH), (policy_forms.DOCUMENT, policy_forms.PART)]
)
def test_the_page_has_the_markers(page: Path, part: str) -> None:
    """A run of ten minutes is not lost at its end."""
    assert "figures" in replaced(page.read_text(), part, "figures")
