"""`clearfloor train`: labelled prompts in, the classifier's file of weights out."""

import argparse
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from backend.training.examples import TableError, read_examples
from backend.training.fit import train
from backend.weights import CLASSIFIER_FILE

_REFUSED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, write and say what was written; on a refusal nothing is written."""
    given = _parser().parse_args(arguments)
    try:
        examples = [example for file in given.examples for example in read_examples(file)]
        sys.stdout.write(f"Training on {len(examples):,} examples takes a minute or two.\n")
        content = train(examples)
        given.out.write_bytes(content)
    except (OSError, TableError, ValueError) as error:
        sys.stderr.write(f"clearfloor train: {error}. Nothing was written.\n")
        return _REFUSED
    sys.stdout.write(f"{given.out}: {len(content):,} bytes, SHA-256 {sha256(content).hexdigest()}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clearfloor train",
        description="Train the classifier of task classes. The same examples give the same file.",
    )
    parser.add_argument(
        "examples",
        nargs="+",
        type=Path,
        help="CSV files, plain or gzipped, with the columns prompt and task_class; rows without a class are passed over",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=CLASSIFIER_FILE,
        help="where the weights go (default: where they are shipped)",
    )
    return parser
