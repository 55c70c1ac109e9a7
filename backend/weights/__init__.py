"""The weights that are shipped: what `clearfloor train` made of data/routing."""

from functools import cache
from pathlib import Path

from backend.routing.classifier import Classifier

CLASSIFIER_FILE = Path(__file__).with_name("classifier.bin")


@cache
def shipped_classifier() -> Classifier:
    """Read the classifier that comes with the package (1.5 MB), once a process."""
    return Classifier.from_bytes(CLASSIFIER_FILE.read_bytes())
