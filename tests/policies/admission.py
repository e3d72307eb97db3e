"""An API server's admission: policies choose pods by labels, their CEL is evaluated by Google's own runtime, and what a mutation
applies is merged as Kubernetes' published schema of a pod says."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
from cel_expr_python import cel
from cel_expr_python.ext import ext_optional
from google.protobuf import descriptor_pb2, descriptor_pool, json_format

VERSION = "1.37"
_POD = "io.k8s.api.core.v1.Pod"
_TYPE = re.compile(r"\bObject((?:\.\w+)*)\{")
_STRING, _BOOL, _MESSAGE = (
    descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
)

Document = dict[str, Any]


@cache
def definitions() -> Document:
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    text = (folder / f"v{VERSION}.0-local-strict" / "_definitions.json").read_text("utf-8")
    found: Document = json.loads(text)["$defs"]
    return found


def below(schema: Document) -> Document:
    """What a reference stands for."""
    reference = schema.get("$ref")
    return definitions()[reference.rpartition("/")[2]] if reference else schema


def chosen(policy: Document, pod: Document, namespace: dict[str, str], operation: str) -> bool:
    """Whether the policy's matchConstraints are for this pod in a namespace of these labels."""
    match = policy["spec"]["matchConstraints"]
    [rule] = match["resourceRules"]
    assert (rule["apiGroups"], rule["apiVersions"]) == ([""], ["v1"])
    wanted = (
        (match.get("namespaceSelector", {}), namespace),
        (match.get("objectSelector", {}), pod["metadata"].get("labels", {})),
    )
    return (
        "pods" in rule["resources"]
        and operation in rule["operations"]
        and all(
            labels.get(name) == value
            for selector, labels in wanted
            for name, value in selector.get("matchLabels", {}).items()
        )
    )


def refused(policy: Document, pod: Document) -> list[str]:
    """The messages of the validations that do not hold."""
    spec = policy["spec"]
    variables = {one["name"]: one["expression"] for one in spec.get("variables", ())}
    return [
        rule["message"]
        for rule in spec["validations"]
        if not _evaluated(_inlined(rule["expression"], variables), pod)
    ]


def mutated(policy: Document, pod: Document) -> Document:
    """The pod after each mutation in its order, as by server-side apply."""
    for mutation in policy["spec"]["mutations"]:
        assert mutation["patchType"] == "ApplyConfiguration"
        patch = _evaluated(mutation["applyConfiguration"]["expression"], pod)
        pod = _applied(definitions()[_POD], pod, json_format.MessageToDict(patch))
    return pod


def _inlined(expression: str, variables: dict[str, str]) -> str:
    return re.sub(r"\bvariables\.(\w+)", lambda found: f"({variables[found[1]]})", expression)


def _evaluated(expression: str, pod: Document) -> Any:
    """Raises where CEL's checker finds a field or a type that the schema of a pod does not have."""
    paths = sorted({tuple(found[1].split(".")[1:]) for found in _TYPE.finditer(expression)})
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_types(paths))  # type: ignore[no-untyped-call]
    env = cel.NewEnv(
        pool, variables={"object": cel.Type.DYN}, extensions=[ext_optional.ExtOptional()]
    )
    # In protobuf a type and a field of one message can't share a name, as they do in an API server.
    spelled = _TYPE.sub(
        lambda found: f"pod.{_type_name(tuple(found[1].split('.')[1:]))}{{", expression
    )
    return env.compile(spelled).eval(data={"object": pod}).value()


def _type_name(path: tuple[str, ...]) -> str:
    return "_".join(("Object", *path))


def _types(paths: list[tuple[str, ...]]) -> descriptor_pb2.FileDescriptorProto:
    """A message for each type that is named, with those fields of the schema that are text, a boolean, or such a message."""
    file = descriptor_pb2.FileDescriptorProto(name="pod.proto", package="pod", syntax="proto3")
    for path in paths:
        message = file.message_type.add(name=_type_name(path))
        for number, (name, kind, type_name, repeated) in enumerate(_fields(path, paths), 1):
            label = message.field.add(
                name=name,
                number=number,
                type=kind,
                json_name=name,
                label="LABEL_REPEATED" if repeated else "LABEL_OPTIONAL",
            )
            if type_name:
                label.type_name = type_name
    return file


def _fields(
    path: tuple[str, ...], paths: list[tuple[str, ...]]
) -> Iterator[tuple[str, Any, str, bool]]:
    for name, schema in _schema(path)["properties"].items():
        kinds = schema.get("type", [])
        repeated = "array" in ([kinds] if isinstance(kinds, str) else kinds)
        if (*path, name) in paths:
            yield name, _MESSAGE, f".pod.{_type_name((*path, name))}", repeated
        elif "string" in ([kinds] if isinstance(kinds, str) else kinds):
            yield name, _STRING, "", False
        elif "boolean" in ([kinds] if isinstance(kinds, str) else kinds):
            yield name, _BOOL, "", False


def _schema(path: tuple[str, ...]) -> Document:
    found: Document = definitions()[_POD]
    for name in path:
        found = found["properties"][name]
        found = below(found.get("items", found))
    return found


def _applied(schema: Document, live: Document, patch: Document) -> Document:
    """Lists are merged by the keys that the schema names; a list without any is replaced."""
    made = copy.deepcopy(live)
    for name, value in patch.items():
        field = schema["properties"][name]
        if isinstance(value, dict):
            made[name] = _applied(below(field), made.get(name, {}), value)
        elif keys := field.get("x-kubernetes-list-map-keys"):
            made[name] = _merged(below(field["items"]), keys, made.get(name) or [], value)
        else:
            made[name] = value
    return made


def _merged(
    schema: Document, keys: list[str], live: list[Document], patch: list[Document]
) -> list[Document]:
    made = {tuple(one.get(key) for key in keys): one for one in live}
    for one in patch:
        key = tuple(one.get(key) for key in keys)
        made[key] = _applied(schema, made.get(key, {}), one)
    return list(made.values())
