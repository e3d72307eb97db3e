"""Which endpoints of Cohere's API are open, and what each is. The paths are those of cohere-python."""

from __future__ import annotations

import re
from typing import Final

from tollhouse.families.operation import Cost, Objects, Operation, Route, model_list

_ID: Final = "[A-Za-z0-9][A-Za-z0-9_-]{0,127}"
_OBJECT: Final = f"(?P<object>{_ID})"


def _metered(path: str, kind: str) -> Route:
    return Route("POST", re.compile(path), Operation(kind, "metered", reads_body=True))


def _other(method: str, path: str, kind: str, cost: Cost = "free", objects: Objects = "") -> Route:
    return Route(method, re.compile(path), Operation(kind, cost, objects=objects))


def _free(method: str, path: str, kind: str, objects: Objects = "") -> Route:
    """With a body."""
    return Route(method, re.compile(path), Operation(kind, "free", True, objects))


def _job(path: str, kind: str) -> Route:
    return Route("POST", re.compile(path), Operation(kind, "job", True, "makes"))


def _shown(path: str) -> Route:
    """With what it has used, and the dataset that it has made."""
    shown = Operation("shown job", "free", objects="makes", shows_usage=True)
    return Route("GET", re.compile(path), shown)


TOKENS: Final = Operation("tokens", "free", reads_body=True, creates=False)
_DATASETS: Final = "/v1/datasets"
_CONNECTORS: Final = "/v1/connectors"
_TUNING: Final = "/v1/finetuning/finetuned-models"

ROUTES: Final = (
    _metered("/v2/chat", "chat"),
    _metered("/v1/chat", "chat v1"),
    _metered("/v1/generate", "generate"),
    _metered("/v1/summarize", "summarize"),
    _metered("/v2/embed", "embed"),
    _metered("/v1/embed", "embed"),
    _metered("/v2/rerank", "rerank"),
    _metered("/v1/rerank", "rerank"),
    _metered("/v1/classify", "classify"),
    _metered("/v2/parse", "parse"),
    _metered("/compatibility/v1/chat/completions", "compatible chat"),
    _metered("/compatibility/v1/embeddings", "compatible embeddings"),
    Route("POST", re.compile("/v1/(?:tokenize|detokenize)"), TOKENS),
    _free("POST", _DATASETS, "dataset", "makes"),
    _other("GET", _DATASETS, "datasets", objects="lists"),
    _other("GET", f"{_DATASETS}/{_OBJECT}", "datasets"),
    _other("DELETE", f"{_DATASETS}/{_OBJECT}", "datasets", objects="deletes"),
    _free("POST", _CONNECTORS, "connector", "makes"),
    _free("PATCH", f"{_CONNECTORS}/{_OBJECT}", "connector"),
    _other("GET", _CONNECTORS, "connectors", objects="lists"),
    _other("GET", f"{_CONNECTORS}/{_OBJECT}", "connectors"),
    _other("DELETE", f"{_CONNECTORS}/{_OBJECT}", "connectors", objects="deletes"),
    _job("/v1/embed-jobs", "embed job"),
    _other("GET", "/v1/embed-jobs", "jobs", objects="lists"),
    _shown(f"/v1/embed-jobs/{_OBJECT}"),
    _other("POST", f"/v1/embed-jobs/{_OBJECT}/cancel", "jobs"),
    _job("/v2/batches", "batch"),
    _other("GET", "/v2/batches", "jobs", objects="lists"),
    _shown(f"/v2/batches/{_OBJECT}"),
    _other("POST", f"/v2/batches/{_OBJECT}:cancel", "jobs"),
    # No other job has a body that is read here: the gate refuses it before.
    _other("POST", _TUNING, "tuning", "job", "makes"),
    _other("GET", _TUNING, "jobs", objects="lists"),
    _other("GET", f"{_TUNING}/{_OBJECT}", "jobs"),
    _other("GET", f"{_TUNING}/{_OBJECT}/events", "jobs"),
    _other("GET", f"{_TUNING}/{_OBJECT}/training-step-metrics", "jobs"),
    _other("DELETE", f"{_TUNING}/{_OBJECT}", "jobs", objects="deletes"),
    *model_list("/v1/models"),
)
"""``check-api-key`` is closed: it tells of the gateway's own key. Transcriptions are closed, and so is the OAuth of connectors."""
