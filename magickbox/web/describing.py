"""What the description of the API says beside what FastAPI finds: who may ask, what refusals look like, examples."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from magickbox.web.problems import PROBLEM

API = "/api/v1"
BEARER = "made on the page Account, or by POST /api/v1/tokens in a session"
CSRF = "of the page; what changes something brings its value back in the header X-CSRF-Token"
SECURITY: list[dict[str, list[str]]] = [{"token": []}, {"session": []}]
_SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": BEARER},
    "session": {"type": "apiKey", "in": "cookie", "name": "magickbox-8080", "description": CSRF},
}
_PROBLEM: Mapping[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "Why something cannot be done (RFC 9457).",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string", "description": "the same for each problem of this kind"},
        "status": {"type": "integer", "description": "that of HTTP"},
        "detail": {"type": "string", "description": "what happened here"},
        "errors": {
            "type": "array",
            "description": "of 422: what is wrong with parameters or body",
            "items": {
                "type": "object",
                "required": ["where", "what"],
                "properties": {"where": {"type": "array", "items": {"type": "string"}}, "what": {"type": "string"}},
            },
        },
    },
    "examples": [
        {
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": "there is no job 20260312T171245Z-X-7f3a",
        }
    ],
}
_JOB = "20260312T171245Z-ProcRSI-7f3a"
# By the name of the parameter, or where one name means several things by path and name.
_EXAMPLES: Mapping[str, object] = {
    "job": _JOB,
    "place": "input",
    "series": "1.2.826.0.1.3680043.8.498.1",
    "instance": "1.2.826.0.1.3680043.8.498.1.1",
    "frame": 1,
    "number": 17,
    "version": "20261122T010203000000Z-0123456789ab",
    "trial": "20261122T010203Z-ProcRSI",
    "upload": "5f2b1c9e",
    "path": "INPUT/000001.dcm",
    "old": "20261122T010203000000Z-0123456789ab",
    "/destinations/{name}": "PACS@10.0.0.5:104",
    "/processors/{name}": "ProcRSI",
    "/users/{name}": "mueller",
    "/documents/{name}": "proc.json",
    "/jobs/bulk/{verb}": "rerun",
    "/jobs/{job}/{verb}": "rerun",
    "/deliveries/bulk/{verb}": "retry",
    "/deliveries/{number}/{verb}": "retry",
    "/destinations/{name}/{verb}": "pause",
}


def complete(described: dict[str, Any]) -> None:
    """Add all that to FastAPI's description."""
    parts = described["components"]
    parts["securitySchemes"] = _SCHEMES
    parts["schemas"]["Problem"] = dict(_PROBLEM)
    for path, method, each in _operations(described):
        if path.startswith(API):
            each["security"] = SECURITY
            _refusals(method, each)
        _problems(each["responses"])
        for parameter in each.get("parameters", ()):
            _exemplify(path, parameter)
    for schema in parts["schemas"].values():
        for example in schema.get("examples", ()):
            _with_nulls(parts["schemas"], schema, example)
    for unused in ("HTTPValidationError", "ValidationError"):
        parts["schemas"].pop(unused, None)


def _operations(described: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, each in methods.items():
            yield path, method, each


def _refusals(method: str, each: dict[str, Any]) -> None:
    """Those that the form of a call tells of; a route declares its others itself."""
    parameters = each.get("parameters", ())
    found = {401, 403, 503}
    found |= {400} if any(one["name"] == "cursor" for one in parameters) else set()
    found |= {404} if any(one["in"] == "path" for one in parameters) else set()
    found |= {422} if parameters or "requestBody" in each else set()
    found |= {400, 413} if "requestBody" in each else set()
    found |= {409, 422, 429, 507} if method != "get" else set()
    for status in found:
        each["responses"].setdefault(str(status), {"description": HTTPStatus(status).phrase})
    each["responses"] = dict(sorted(each["responses"].items()))


def _problems(responses: dict[str, Any]) -> None:
    """Every refusal is a problem; FastAPI's own form of 422 is none of ours."""
    for status, one in responses.items():
        if status == "422" or (status >= "400" and "content" not in one):
            one["content"] = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
            one["description"] = HTTPStatus(int(status)).phrase


def _with_nulls(schemas: Mapping[str, Any], schema: Mapping[str, Any], example: object) -> None:
    """Put back into an example what FastAPI leaves out of it: the keys that are null there, and are always there."""
    schema = next((each for each in schema.get("anyOf", ()) if each.get("type") != "null"), schema)
    schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if isinstance(example, list):
        for each in example:
            _with_nulls(schemas, schema.get("items", {}), each)
    elif isinstance(example, dict):
        for key in schema.get("required", ()):
            example.setdefault(key, None)
        for key, value in example.items():
            _with_nulls(schemas, schema.get("properties", {}).get(key, {}), value)


def _exemplify(path: str, parameter: dict[str, Any]) -> None:
    name = parameter["name"]
    place = path[: path.find(f"{{{name}}}")] + f"{{{name}}}" if parameter["in"] == "path" else name
    found = next((value for key, value in _EXAMPLES.items() if key.startswith("/") and place.endswith(key)), None)
    found = _EXAMPLES.get(name) if found is None else found
    if found is not None and "example" not in parameter:
        parameter["example"] = found
