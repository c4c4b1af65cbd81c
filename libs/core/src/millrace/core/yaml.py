"""Workflows as YAML: the same documents, written by hand."""

from collections.abc import Hashable
from typing import Any

import yaml
from millrace.core.errors import InvalidDocument, Problem
from millrace.core.ir import MAX_WORKFLOW_BYTES, Workflow
from millrace.core.parse import parse_workflow
from pydantic import JsonValue

_NOT_JSON = {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge"}


class _JsonLoader(yaml.SafeLoader):
    """YAML whose values are JSON's: no dates, no aliases, and no key twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed; write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for place, key in enumerate(keys):
            if not isinstance(key, str) or key in keys[:place]:
                raise yaml.YAMLError(f"line {node.start_mark.line + 1}: the key {key!r} must be text and stand once")
        return super().construct_mapping(node, deep=deep)


_JsonLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NOT_JSON]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_document(text: str, what: str) -> JsonValue:
    """Return the JSON value that YAML text describes.

    Raises:
        InvalidDocument: It is not YAML, or holds what JSON cannot.
    """
    if len(text) > MAX_WORKFLOW_BYTES:
        raise InvalidDocument(what, [Problem("", f"larger than {MAX_WORKFLOW_BYTES} bytes")])
    try:
        document: JsonValue = yaml.load(text, Loader=_JsonLoader)  # noqa: S506 - a SafeLoader, made stricter
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidDocument(what, [Problem("", f"not YAML: {error}")]) from error
    return document


def load_workflow(text: str) -> Workflow:
    """Return the workflow written in `text`.

    Raises:
        InvalidDocument: It is not YAML or not a valid workflow.
    """
    return parse_workflow(load_document(text, "workflow"))


def dump_workflow(workflow: Workflow) -> str:
    """Return the workflow as YAML that loads to an equal one."""
    return yaml.safe_dump(workflow.document(), sort_keys=False, allow_unicode=True, width=120)
