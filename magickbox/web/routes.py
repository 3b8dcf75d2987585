"""Every route: the ``router`` of each module in ``web.api`` and ``web.pages``, which are found, not listed."""

import pkgutil
from importlib import import_module
from types import ModuleType

from fastapi import APIRouter

from magickbox.web import api, pages


def resources() -> list[APIRouter]:
    """Those of the API."""
    return _routers(api)


def screens() -> list[APIRouter]:
    """Those of the pages."""
    return _routers(pages)


def _routers(package: ModuleType) -> list[APIRouter]:
    names = sorted(info.name for info in pkgutil.iter_modules(package.__path__))
    modules = [import_module(f"{package.__name__}.{name}") for name in names]
    return [module.router for module in modules if hasattr(module, "router")]
