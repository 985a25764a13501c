"""How a command ends when it cannot do its work: one line on stderr and an exit code.

    Failure          exit 1: the world is not as needed (port taken, Redis folder in use, no such model)
    └── BadSettings  exit 2: what was asked for cannot be (as click does for wrong options)
"""

import click


class Failure(click.ClickException):
    """The command cannot go on; its text is what the user should know and do."""

    exit_code = 1


class BadSettings(Failure):
    """A setting is unknown or not allowed."""

    exit_code = 2
