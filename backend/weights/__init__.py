"""The weights that are shipped: what `clearfloor train` made of data/routing."""

from pathlib import Path

from backend.routing.classifier import Classifier

CLASSIFIER_FILE = Path(__file__).with_name("classifier.bin")


def read_classifier(file: Path | None = None) -> Classifier:
    """Read a classifier from a file; from the one that comes with the package (1.6 MB) by default.

    Raises:
        OSError: the file cannot be read.
        WeightsError: it holds no classifier of this version.
    """
    return Classifier.from_bytes((file or CLASSIFIER_FILE).read_bytes())
