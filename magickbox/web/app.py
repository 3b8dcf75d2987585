"""The app: every route, and what stands around them."""

from collections.abc import Mapping

from fastapi import APIRouter, FastAPI

from magickbox import __version__
from magickbox.web import problems
from magickbox.web.api import (
    deliveries,
    destinations,
    events,
    health,
    jobfiles,
    jobs,
    log,
    me,
    pictures,
    rules,
    system,
)
from magickbox.web.api import deliveries, events, health, jobfiles, jobs, log, me, pictures, rules, system, upload
from magickbox.web.assets import Assets, assets_router
from magickbox.web.context import Context
from magickbox.web.events import Hub
from magickbox.web.pages import destinations as destination_pages
from magickbox.web.pages import job as job_page
from magickbox.web.pages import jobs as jobs_page
from magickbox.web.pages import log as log_page
from magickbox.web.pages import login, now, viewer
from magickbox.web.pages import rules as rule_pages
from magickbox.web.pages import upload as upload_page
from magickbox.web.pages.frame import environment, error_page
from magickbox.web.shield import Shield, known_hosts
from magickbox.web.uploads import MOST_FILE

API = "/api/v1"
RESOURCES: tuple[APIRouter, ...] = (
    me.router,
    system.router,
    events.router,
    pictures.router,
    rules.router,
    jobs.router,
    jobfiles.router,
    deliveries.router,
    log.router,
    destinations.router,
    upload.router,
)
PAGES: tuple[APIRouter, ...] = (
    login.router,
    now.router,
    viewer.router,
    rule_pages.router,
    jobs_page.router,
    job_page.router,
    log_page.router,
    destination_pages.router,
    upload_page.router,
)
# The longest bodies in bytes where they may be longer than usual (shield.BODY), by the beginning of the path.
BODIES: Mapping[str, int] = {"/api/v1/rules": 4 << 20, "/rules/": 4 << 20, "/api/v1/uploads/": MOST_FILE}


def create_app(context: Context) -> FastAPI:
    """The app over a context, which its caller closes."""
    app = FastAPI(
        title="magickbox", version=__version__, openapi_url=f"{API}/openapi.json", docs_url=None, redoc_url=None,
        description="What the box has and does, and what one may have it do.",
    )  # fmt: skip
    assets = Assets()
    app.state.context, app.state.templates = context, environment(assets)
    app.state.error_page, app.state.hub, app.state.doorbell = error_page, Hub(context), health.Doorbell()
    app.state.pages = frozenset(getattr(route, "path", "") for page in PAGES for route in page.routes)
    problems.install(app)
    for resource in RESOURCES:
        app.include_router(resource, prefix=API)
    for page in (assets_router(assets), health.router, *PAGES):
        app.include_router(page)
    secure = context.settings.web_certificate is not None
    app.add_middleware(Shield, hosts=known_hosts(context.settings.web_names), bodies=BODIES, secure=secure)
    return app
