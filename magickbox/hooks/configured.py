"""The hooks that the settings ask for."""

from collections.abc import Mapping, Sequence

from magickbox.hook import Hook
from magickbox.hooks.command import Command
from magickbox.hooks.webhook import Webhook


def hooks_of(webhook: str | None, command: Sequence[str] | None, environment: Mapping[str, str]) -> list[Hook]:
    """A hook for each of them that is set."""
    hooks: list[Hook] = []
    if webhook is not None:
        hooks.append(Webhook(webhook))
    if command is not None:
        hooks.append(Command(command, environment))
    return hooks
