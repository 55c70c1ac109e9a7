"""What the embedded stack raises."""


class StackError(Exception):
    """The stack cannot do what was asked. The message is one line: what happened, and what to do."""
