"""How a page is made: the template, what every one of them knows, and the page that says what went wrong."""

from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from magickbox import __version__
from magickbox.web.assets import Assets
from magickbox.web.context import context
from magickbox.web.pages.wording import FILTERS
from magickbox.web.principal import Principal, Role
from magickbox.web.problems import Problem


@dataclass(frozen=True)
class Place:
    """An entry of the navigation, shown to those who may go there once the app has a page there."""

    path: str
    name: str
    least: Role = Role.VIEWER


PLACES = (
    Place("/", "Now"),
    Place("/jobs", "Jobs"),
    Place("/rules", "Rules"),
    Place("/processors", "Processors"),
    Place("/destinations", "Destinations"),
    Place("/upload", "Upload", Role.OPERATOR),
    Place("/log", "Log"),
    Place("/settings", "Settings"),
)


def environment(assets: Assets) -> Environment:
    """Jinja2 over the templates of the package; every value is escaped, a missing one is an error."""
    made = Environment(
        loader=PackageLoader("magickbox.web"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters.update(FILTERS)
    made.globals.update(asset=assets.url, version=__version__)
    return made


def render(request: Request, template: str, who: Principal | None, status: int = 200, **values: object) -> HTMLResponse:
    """A page or a fragment; templates know ``who``, ``here`` (the path), ``box`` (its AE title) and ``places``."""
    made: Environment = request.app.state.templates
    there: frozenset[str] = request.app.state.pages
    places = [each for each in PLACES if who is not None and who.role >= each.least and each.path in there]
    known = {"who": who, "here": request.url.path, "box": context(request).settings.ae_title, "places": places}
    return HTMLResponse(made.get_template(template).render(known | values), status)


def error_page(request: Request, problem: Problem) -> HTMLResponse:
    """What went wrong, for people; for htmx only the sentence."""
    template = "problem_line.html" if "HX-Request" in request.headers else "problem.html"
    made = render(request, template, getattr(request.state, "principal", None), problem.status, problem=problem)
    made.headers.update(problem.headers)
    return made
