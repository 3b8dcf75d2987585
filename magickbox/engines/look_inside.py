"""A program of its own: says from where a processor would run, in its sandbox, what would keep it from starting there.

Called with the program and the drop-in's files that it is given; prints a sentence, or nothing if all is well. It
imports nothing of the box, which a sandbox need not show.
"""

import os
import shutil
import sys

FIRST_LINE = 256


def problem(program: str, files: list[str]) -> str:
    """Why the program would not start, or could not read what it is given; empty if nothing speaks against it."""
    for path in [program, *files]:
        if os.path.isabs(path) and (why := _closed(path)):
            return why
    found = shutil.which(program)
    if found is None and os.path.exists(program):
        return f"{program} may not be executed (chmod +x)"
    if found is None:
        return f"no program '{program}' is found here (PATH is {os.environ.get('PATH', '')})"
    return _interpreter_problem(found)


def _closed(path: str) -> str:
    """Which part of a path cannot be entered or read by this user; empty if all can."""
    parts = path.split("/")
    for count in range(2, len(parts)):
        folder = "/".join(parts[:count])
        if os.path.isdir(folder) and not os.access(folder, os.X_OK):
            return f"{folder} may not be entered (chmod +rx)"
    if not os.path.lexists(path):
        return f"{path} is not visible here"
    return "" if os.access(path, os.R_OK) or os.access(path, os.X_OK) else f"{path} cannot be read (chmod +r)"


def _interpreter_problem(program: str) -> str:
    try:
        with open(program, "rb") as file:
            line = file.read(FIRST_LINE).partition(b"\n")[0]
    except OSError:
        return ""  # a program that may be run and not read
    if not line.startswith(b"#!"):
        return ""
    words = line[2:].decode("utf-8", "replace").split()
    if not words or not os.path.exists(words[0]):
        return f"the interpreter '{words[0] if words else ''}' named in the first line of {program} is not visible here"
    if not os.access(words[0], os.X_OK):
        return f"the interpreter '{words[0]}' named in the first line of {program} may not be executed"
    named = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    if os.path.basename(words[0]) == "env" and named and shutil.which(named[0]) is None:
        return f"no program '{named[0]}', named in the first line of {program}, is found here"
    return ""


if __name__ == "__main__":
    sys.stdout.write(problem(sys.argv[1], sys.argv[2:]))
