"""docs/performance.md: what stands between two markers is generated, the rest is written by hand."""

from pathlib import Path

from backend.stack.parts import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "docs"
FILE = FOLDER / "performance.md"
PERFORMANCE, GROWTH = "bench", "bench-growth"


def replace(part: str, text: str, file: Path = FILE) -> None:
    """Write a part of the page anew.

    Raises:
        ValueError: its markers are not there.
    """
    file.write_text(replaced(file.read_text(), part, text))


def replaced(page: str, part: str, text: str) -> str:
    """Return a page with another text between the markers of a part.

    Raises:
        ValueError: they are not there.
    """
    begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
    before, begun, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not begun or not ended:
        raise ValueError(f"{begin} and {end} are missing")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"
