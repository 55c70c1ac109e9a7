"""The `clearfloor` command.

A sub-command is one line in ``_COMMANDS``: what it does, the function ``(arguments) -> exit code`` that does it, and
the optional dependencies that it needs. That module is imported only when its command is called.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from backend.stack.errors import StackError

_NOT_INSTALLED = 2
_INTERRUPTED = 130
_OUTPUT_CLOSED = 141


class _Command(NamedTuple):
    help: str
    target: str
    extras: str = ""


_COMMANDS = {
    "serve": _Command("run the backend", "backend.serve:main"),
    "up": _Command("start the embedded Supabase and a backend on this machine", "backend.stack.commands:up"),
    "down": _Command("stop what `up` started; the data stays", "backend.stack.commands:down"),
    "clean": _Command("stop it and remove it with its data", "backend.stack.commands:clean"),
    "status": _Command("tell what `up` started and what of it still runs", "backend.stack.commands:status"),
    "preflight": _Command(
        "count what a database to adopt has against the constraint", "backend.preflight:main", "stack"
    ),
    "doctor": _Command("find whatever breaks the record or the money", "backend.doctor:main", "stack"),
    "wallet": _Command("top up, refund or correct a wallet", "backend.wallet:main"),
    "prices": _Command(
        "compare prices with a library's, and write them", "backend.prices.command:main", "prices,stack"
    ),
    "catalogue": _Command(
        "compare models and their qualities with a library's, and write them",
        "backend.catalogue.command:main",
        "catalogue,prices,stack",
    ),
    "policies": _Command(
        "find policies that call a function for each row", "backend.policies.command:main", "policies,stack"
    ),
    "replay": _Command("compute recorded decisions again", "backend.replay.command:main", "stack"),
    "train": _Command("train the classifier of task classes", "backend.training.command:main", "training"),
    "demo": _Command("a guided tour of what `up` started", "backend.demo.tour:main"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command and return its exit code; a refusal is one line on standard error."""
    given = _parser().parse_args(arguments)
    command = _COMMANDS[given.command]
    module, _, function = command.target.partition(":")
    try:
        run = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if not command.extras or missing == "backend":
            raise
        install = f"pip install '.[{command.extras}]'"
        print(f"clearfloor {given.command}: {missing} is missing: `{install}` in the clone.", file=sys.stderr)
        return _NOT_INSTALLED
    try:
        return int(run(given.arguments))
    except (StackError, PermissionError) as error:
        print(f"clearfloor {given.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough (`| head`). Python would still try to write the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _OUTPUT_CLOSED


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {name:<10} {command.help}" for name, command in _COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="clearfloor",
        description="An LLM inference gateway for teams that live on Supabase.",
        epilog="\n".join(["commands:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=_COMMANDS, metavar="command")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="see `clearfloor <command> --help`")
    return parser


if __name__ == "__main__":
    sys.exit(main())
