"""Read resources by the types that were made from their CRDs, and tell what those types do not know.

For the environment of `make check-deploy`, where the packages with the types are: documents come on standard input.
"""

import sys
from typing import Any

import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor

TYPES = {"ScaledObject": ScaledObject, "ServiceMonitor": ServiceMonitor, "PrometheusRule": PrometheusRule}


def faults(document: dict[str, Any]) -> list[str]:
    """Say what is wrong with a resource: what its type refuses, and what it drops since no such field is there."""
    type_ = TYPES[document["kind"]]
    try:
        read = type_.model_validate(document)
    except ValueError as error:
        return [str(error)]
    known = read.model_dump(by_alias=True, exclude_unset=True, mode="json")
    return [f"{path}: unknown" for path in sorted(_paths(document) - _paths(known))]


def _paths(value: Any, path: str = "") -> set[str]:
    if isinstance(value, dict):
        return {path}.union(*(_paths(each, f"{path}.{name}") for name, each in value.items()))
    if isinstance(value, list):
        return {path}.union(*(_paths(each, f"{path}[{place}]") for place, each in enumerate(value)))
    return {path}


found = [f"{document['kind']}{fault}" for document in yaml.safe_load_all(sys.stdin) for fault in faults(document)]
sys.exit("\n".join(found) or 0)
