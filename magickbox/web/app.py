"""The app: every route, and what stands around them."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from magickbox import __version__
from magickbox.web import describing, health, problems
from magickbox.web.api.overview import Rates
from magickbox.web.api.processors import LARGEST
from magickbox.web.assets import Assets, assets_router
from magickbox.web.context import Context
from magickbox.web.describing import API
from magickbox.web.events import Hub
from magickbox.web.pages.frame import environment, error_page
from magickbox.web.routes import resources, screens
from magickbox.web.shield import Shield, known_hosts
from magickbox.web.uploads import MOST_FILE

# The longest bodies in bytes where they may be longer than usual (shield.BODY), by the beginning of the path.
BODIES: Mapping[str, int] = {
    "/api/v1/rules": 4 << 20,
    "/rules/": 4 << 20,
    "/api/v1/processors": LARGEST + (1 << 20),
    "/processors/upload": LARGEST + (1 << 20),
    "/api/v1/uploads/": MOST_FILE,
}


class App(FastAPI):
    """The app within its shield, which stands before everything else: also an answer to a fault has its headers."""

    def __init__(self, context: Context) -> None:
        super().__init__(
            title="magickbox",
            version=__version__,
            openapi_url=f"{API}/openapi.json",
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            description="What the box has and does, and what one may have it do.",
        )
        self.state.context = context

    def openapi(self) -> dict[str, Any]:
        """FastAPI's description, completed."""
        if not self.openapi_schema:
            described = super().openapi()
            describing.complete(described)
        return dict(self.openapi_schema or {})

    def build_middleware_stack(self) -> ASGIApp:
        """FastAPI's own, within the shield."""
        settings = self.state.context.settings
        secure = settings.web_certificate is not None
        return Shield(super().build_middleware_stack(), known_hosts(settings.web_names), BODIES, secure)


def create_app(context: Context) -> FastAPI:
    """The app over a context, which its caller closes."""
    app, assets, pages = App(context), Assets(), screens()
    app.state.templates = environment(assets)
    app.state.error_page, app.state.hub, app.state.doorbell = error_page, Hub(context), health.Doorbell()
    app.state.pages = frozenset(getattr(route, "path", "") for page in pages for route in page.routes)
    app.state.rates = Rates()
    problems.install(app)
    for resource in resources():
        app.include_router(resource, prefix=API)
    for page in (assets_router(assets), health.router, *pages):
        app.include_router(page)
    return app
