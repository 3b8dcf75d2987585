"""Why a processor could not start, in words, and whose fault that is: the processor's or the machine's."""

import errno
import os

THEIRS = frozenset(  # what keeps a program from starting through no fault of the machine
    {
        errno.ENOENT,
        errno.EACCES,
        errno.EPERM,
        errno.ENOEXEC,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.E2BIG,
        errno.EINVAL,
    }
)


def of_processor(command: str, exc: OSError | ValueError) -> str | None:
    """What is wrong with ``command``, the program to be started; None if the failure is not of its making.

    ``exc`` is what subprocess raised: its file name is the program, or the working folder if that was missing.
    """
    if isinstance(exc, OSError) and (exc.errno not in THEIRS or str(exc.filename) != command):
        return None
    return f"could not start: {_why_not(command, exc)}"


def of_machine(exc: OSError | ValueError) -> str:
    """A sentence for trouble on the box's side: no memory, no process number, no room, no working folder."""
    said = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    return f"the machine could not start it: {said}"


def of_sandboxed(command: str, last_line: str, hidden: bool) -> str | None:
    """The same for a program that bwrap was to start; ``last_line`` is what it said. None if it was not about that."""
    before, _, said = last_line.rpartition(": ")
    number = next((n for n in errno.errorcode if os.strerror(n) == said), None)
    if not before.startswith("bwrap: execvp") or number is None:
        return None
    if hidden:
        return f"could not start: {command} is not visible in the sandbox (setting sandbox_shows)"
    problem = of_processor(command, OSError(number, said, command))
    return f"{problem} in the sandbox" if problem and number == errno.ENOENT and os.path.exists(command) else problem


def refuse_text_without_interpreter(command: str) -> None:
    """Raise OSError (ENOEXEC) for what the kernel would not start, and bwrap gives to a shell in its stead."""
    if not command.startswith("/") or not os.path.isfile(command) or not os.access(command, os.R_OK | os.X_OK):
        return
    with open(command, "rb") as file:
        start = file.read(256)
    if not start.startswith((b"#!", b"\x7fELF")) and b"\0" not in start:
        raise OSError(errno.ENOEXEC, os.strerror(errno.ENOEXEC), command)


def _why_not(command: str, exc: OSError | ValueError) -> str:
    number = exc.errno if isinstance(exc, OSError) else None
    if number == errno.ENOENT and "/" not in command:
        return f"no program '{command}' is installed where the box looks (its PATH)"
    if os.path.isdir(command):
        return f"{command} is a folder"
    if number == errno.ENOENT and os.path.exists(command):
        return f"the interpreter '{_interpreter(command)}' named in the first line of {command} does not exist"
    if number == errno.ENOEXEC:
        return f"{command} is neither a program for this machine nor a script (its first line must begin with #!)"
    if number in (errno.EACCES, errno.EPERM):
        return f"{command}, or the interpreter in its first line, may not be executed (chmod +x)"
    return f"{command}: {exc.strerror if isinstance(exc, OSError) else exc}"


def _interpreter(command: str) -> str:
    with open(command, "rb") as file:
        line = file.readline(256).removeprefix(b"#!")
    words = line.rstrip(b"\n").decode("utf-8", "replace").split(" ")
    return repr(next((word for word in words if word), ""))[1:-1]  # shows the \\r of a file with Windows line ends
