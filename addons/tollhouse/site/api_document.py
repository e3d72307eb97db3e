"""The OpenAPI 3.1 document of the admin API, made of its endpoints and models."""

from __future__ import annotations

import re
from functools import cache
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from tollhouse import __version__
from tollhouse.site.api_endpoints import ENDPOINTS, PARAMETERS, PREFIX, ApiEndpoint
from tollhouse.site.api_models import ProblemTold
from tollhouse.site.problem import CONTENT_TYPE

_ALWAYS = (400, 401, 403, 421, 429, 503)
"""Statuses of problems that each endpoint may answer."""


@cache
def document() -> dict[str, Any]:
    given = [model for e in ENDPOINTS for model in (e.body, e.query) if model is not None]
    told: list[type[BaseModel]] = [ProblemTold, *(e.answer for e in ENDPOINTS)]
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((model, "validation") for model in dict.fromkeys(given)),
        *((model, "serialization") for model in dict.fromkeys(told)),
    ]
    _, schemas = models_json_schema(models, ref_template="#/components/schemas/{model}")
    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(
            endpoint, schemas["$defs"]
        )
    queries = {e.query.__name__ for e in ENDPOINTS if e.query}
    kept = {name: schema for name, schema in schemas["$defs"].items() if name not in queries}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tollhouse admin API",
            "version": __version__,
            "description": "Projects, tokens and limits. Every change is in the audit log.",
        },
        "servers": [{"url": PREFIX}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": kept,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of `tollhouse token create --admin`, or a JWT of [admin.oidc].",
                }
            },
        },
    }


def _operation(endpoint: ApiEndpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    named = re.findall(r"\{(\w+)\}", endpoint.path)
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": f"^({PARAMETERS[name]})$"},
        }
        for name in named
    ]
    if endpoint.query is not None:
        parameters += [
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in schemas[endpoint.query.__name__]["properties"].items()
        ]
    refused = {*_ALWAYS, *endpoint.refused, *((408, 413, 415) if endpoint.body else ())}
    if named:
        refused.add(422)
    found: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": {
            **{
                str(status): _response(status, endpoint.answer, "application/json")
                for status in endpoint.statuses
            },
            **{
                str(status): _response(status, ProblemTold, CONTENT_TYPE)
                for status in sorted(refused)
            },
        },
    }
    if endpoint.body is not None:
        found["requestBody"] = {"required": True, "content": _content(endpoint.body)}
    return found


def _response(status: int, model: type[BaseModel], kind: str) -> dict[str, Any]:
    return {"description": HTTPStatus(status).phrase, "content": _content(model, kind)}


def _content(model: type[BaseModel], kind: str = "application/json") -> dict[str, Any]:
    return {kind: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
