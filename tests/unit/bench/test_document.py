"""Only what stands between two markers is written anew."""

import pytest

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


@pytest.mark.parametrize("part", [PERFORMANCE, GROWTH])
def test_the_page_has_the_markers(part: str) -> None:
    """A run of ten minutes is not lost at its end."""
    assert "figures" in replaced(FILE.read_text(), part, "figures")
