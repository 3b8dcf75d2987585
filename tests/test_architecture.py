"""The house stands as docs/architecture.md draws it: its table of modules is what this test holds the code to."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "magickbox"
CHAPTER = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d) \| `([\w.]+)` \| (.+?) \|$", CHAPTER.partition("## The way")[0], re.MULTILINE)
FLOORS = {name: int(floor) for floor, name, _ in ROWS}

ALONE = {1, 5}  # on these floors nobody knows a neighbour
FAMILIES = {"bench", "conventions", "dicomweb", "engines", "folders", "hooks", "imaging", "scp", "scu", "transcoding"}
STAGES = {"receive", "process", "route", "deliver"}
# What the command line may reach below the service: what it shows, and what it does while no box runs.
DOORS = {
    "scu.echo",
    "scu.store",
    "station",
    "control",
    "route",
    "senders",
    "removal",
    "retention",
    "hooks.configured",
} | {
    "mending.repair",
    "verification.verify",
}
DOORS |= {f"backups.{name}" for name in ("backup", "restore", "rollback", "settling")}
DOORS |= {f"bench.{name}" for name in ("figures", "linear", "machine", "objects", "plot", "receive", "receivers")}
DOORS |= {"bench.report", "bench.trial", "bench.send", "bench.senders", "bench.sendreport"}
# The window reaches the box as the command line does: by its socket, and by what reads.
WINDOW_DOORS = {"control", "imaging.pictures", "imaging.series", "route", "scu.store"}
WINDOW_DOORS |= {"rehearsal", "scu.echo", "senders"}
NAMELESS = re.compile(r"(utils?|helpers?|common|misc|managers?|tools?)(\.py)?")
OUTSIDE = {"tests", "processors"} | {path.stem for path in (ROOT / "tests").glob("*.py")}
LONGEST = 300


def sources() -> dict[str, str]:
    """Every module by its name without ``magickbox.``; a package by its own, if it is more than a sentence."""
    paths = (path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or _has_code(path))
    return {_name(path): path.read_text(encoding="utf-8") for path in paths}


def _has_code(path: Path) -> bool:
    return len(ast.parse(path.read_text(encoding="utf-8")).body) > 1


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "magickbox"


def imports(source: str) -> Iterator[str]:
    """Each module that a source imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def used(source: str) -> set[str]:
    """Those of them that are the house's own."""
    return {name.removeprefix("magickbox.") for name in imports(source)} & FLOORS.keys()


def findings(name: str, source: str) -> list[str]:
    """Everything in one module that the house does not allow."""
    if name not in FLOORS:
        return [f"{name} is not in the table of docs/architecture.md"]
    wrong = [said for target in sorted(used(source) - {name}) if (said := _wall(name, target))]
    tops = {each.partition(".")[0] or "." for each in imports(source)}
    outside = {top for top in tops if top == "." or top in OUTSIDE}
    wrong += [f"imports {each}, which is not of the house" for each in sorted(outside)]
    if len(source.splitlines()) > LONGEST:
        wrong.append(f"has more than {LONGEST} lines")
    return [f"{name} {said}" for said in [*wrong, *_broad_excepts(source)]]


def _wall(name: str, target: str) -> str | None:
    """Why ``name`` may not import ``target``, or None if it may."""
    floor, other = FLOORS[name], FLOORS[target]
    family, of = name.partition(".")[0], target.partition(".")[0]
    if other > floor:
        return f"imports {target}, which is on floor {other}, above floor {floor}"
    if other == floor and (floor in ALONE or {name, target} <= STAGES):
        return f"imports {target}, its neighbour"
    if family != of and {family, of} & FAMILIES and other == floor:
        return f"imports {target}: families do not know each other"
    if family == "cli" and other in (3, 4) and target not in DOORS:
        return f"imports {target}, past the service"
    if family == "web" and other in (3, 4) and target not in WINDOW_DOORS:
        return f"imports {target}, past the service"
    return None


def _broad_excepts(source: str) -> Iterator[str]:
    """Handlers of everything that neither raise it on nor say on their line why they take it."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and (
            node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
        ):
            raised_on = any(isinstance(each, ast.Raise) and each.exc is None for each in node.body)
            reason = re.sub(r"noqa: \w+", "", lines[node.lineno - 1].partition("#")[2]).strip(" #")
            if not raised_on and len(reason.split()) < 3:
                yield f"catches everything in line {node.lineno} and does not say why"


def test_the_chapter_lists_every_module_once() -> None:
    names = [name for _, name, _ in ROWS]
    assert sorted(names) == sorted(set(names))
    assert set(names) == set(sources())


@pytest.mark.parametrize(("name", "source"), sources().items(), ids=list(sources()))
def test_a_module_keeps_to_its_floor(name: str, source: str) -> None:
    assert findings(name, source) == []


def test_no_circles() -> None:
    order = TopologicalSorter({name: used(source) - {name} for name, source in sources().items()})
    assert set(order.static_order()) >= set(sources())  # raises CycleError


def test_every_file_has_a_name_that_says_something() -> None:
    assert [path for path in PACKAGE.rglob("*") if NAMELESS.fullmatch(path.name)] == []


PLANTED = [
    ("job", "from magickbox.ledger.store import Ledger\n", "above floor 0"),
    ("job", "def late():\n    import magickbox.service\n", "above floor 0"),
    ("intake", "from magickbox.sender import Item\n", "its neighbour"),
    ("scp.server", "from magickbox.scu.store import StoreSender\n", "families do not know each other"),
    ("station", "from magickbox.engines.local import LocalEngine\n", "families do not know each other"),
    ("route", "from magickbox.deliver import Deliver\n", "its neighbour"),
    ("cli.jobs", "from magickbox.births.birth import Birth\n", "past the service"),
    ("web.context", "from magickbox.births.birth import Birth\n", "past the service"),
    ("config", "from processors.mip import mip\n", "not of the house"),
    ("config", "import boxes\n", "not of the house"),
    ("config", "from .disk import Disk\n", "not of the house"),
    ("disk", "x = 1\n" * (LONGEST + 1), "more than"),
    ("disk", "try:\n    x = 1\nexcept Exception:\n    x = 2\n", "does not say why"),
    ("disk", "try:\n    x = 1\nexcept:  # noqa: E722\n    x = 2\n", "does not say why"),
]


@pytest.mark.parametrize(("name", "source", "said"), PLANTED)
def test_a_planted_violation_is_found(name: str, source: str, said: str) -> None:
    (finding,) = findings(name, source)
    assert finding.startswith(f"{name} ")
    assert said in finding


def test_what_is_allowed_is_not_found() -> None:
    assert findings("disk", "try:\n    x = 1\nexcept BaseException:\n    raise\n") == []
    assert (
        findings("disk", "try:\n    x = 1\nexcept Exception:  # noqa: BLE001  one must not end all\n    x = 2\n") == []
    )
    assert findings("ledger.jobs", "from magickbox.ledger import store\nfrom magickbox.job import Job\n") == []
