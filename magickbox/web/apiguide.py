"""The description of the API (OpenAPI) told for people: its calls by subject, each with what it takes and gives."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_DEEPEST = 8  # of examples that are put together; no answer is deeper


@dataclass(frozen=True)
class Parameter:
    """One in the path or the query."""

    name: str
    place: str
    required: bool
    kind: str
    about: str


@dataclass(frozen=True)
class Call:
    """One method of one path; examples are indented JSON, or None where there is none."""

    id: str
    method: str
    path: str
    summary: str
    about: str
    parameters: tuple[Parameter, ...]
    takes: str | None
    gives: str | None
    gives_kind: str
    success: str
    refusals: tuple[str, ...]


def calls_by_subject(described: Mapping[str, Any]) -> dict[str, list[Call]]:
    """All calls, by the first tag of each, in the order of the description."""
    found: dict[str, list[Call]] = {}
    schemas = described["components"]["schemas"]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            subject = operation.get("tags", ["other"])[0]
            found.setdefault(subject, []).append(_call(schemas, path, method, operation))
    return dict(sorted(found.items()))


def _call(schemas: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> Call:
    success = next(status for status in operation["responses"] if status.startswith("2"))
    content = operation["responses"][success].get("content", {})
    kind = next(iter(content), "")
    body = operation.get("requestBody", {}).get("content", {})
    return Call(
        operation["operationId"], method.upper(), path, operation.get("summary", ""), operation.get("description", ""),
        tuple(_parameter(schemas, each) for each in operation.get("parameters", ())),
        _example(schemas, next(iter(body.values()), None)), _example(schemas, content.get(kind)), kind, success,
        tuple(status for status in operation["responses"] if status >= "400"),
    )  # fmt: skip


def _parameter(schemas: Mapping[str, Any], one: Mapping[str, Any]) -> Parameter:
    schema = _resolved(schemas, one.get("schema", {}))
    kind = " or ".join(map(str, schema["enum"])) if "enum" in schema else str(schema.get("type", ""))
    return Parameter(one["name"], one["in"], one.get("required", False), kind, one.get("description", ""))


def _example(schemas: Mapping[str, Any], content: Mapping[str, Any] | None) -> str | None:
    if content is None:
        return None
    found = content["example"] if "example" in content else _of_schema(schemas, content.get("schema", {}), _DEEPEST)
    if found is None or isinstance(found, str):
        return found
    return json.dumps(found, indent=2, ensure_ascii=False)


def _resolved(schemas: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without its references, and of what may be null the other."""
    while "$ref" in schema or "anyOf" in schema:
        if "$ref" in schema:
            schema = schemas[schema["$ref"].rpartition("/")[2]]
        else:
            schema = next((each for each in schema["anyOf"] if each.get("type") != "null"), {})
    return schema


def _of_schema(schemas: Mapping[str, Any], schema: Mapping[str, Any], depth: int) -> Any:
    """The schema's own example, or one put together of those of its parts; None if there is none."""
    schema = _resolved(schemas, schema)
    for key in ("examples", "example"):
        if key in schema:
            return schema[key][0] if key == "examples" else schema[key]
    if not depth:
        return None
    if schema.get("type") == "array":
        one = _of_schema(schemas, schema.get("items", {}), depth - 1)
        return [] if one is None else [one]
    if "properties" in schema:
        return {name: _of_schema(schemas, each, depth - 1) for name, each in schema["properties"].items()}
    return schema.get("default")
