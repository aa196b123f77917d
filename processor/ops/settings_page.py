"""The page of all settings, made from the fields of `Settings`: what each takes, its default, and why that one."""

import json
import re
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from processor.access import Access
from processor.settings import Settings, allowed, variable

_PAGE: Final = """\
# Settings

Every setting of a worker, and of the verbs that speak to its cluster. A value comes from the environment, else from
`janela.toml` (in the folder where it is started, or the file that `JANELA_CONFIG` names), else it is the default.
`janela config` shows what is in force and where it came from, `janela config --explain` says what is written here. A
name that no setting has, a value that is not allowed, and values that contradict each other are told all at once, a
line each, with exit code 2. What the business decides and not the operator is the [policy](policy.md). Made from
`processor/settings.py` and `processor/access.py` by `make docs`.
"""

_SECTIONS: Final = {
    "The worker": "What it is called, how it keeps time, what it emits, and its limits.",
    "The way to the cluster": "How brokers are reached, and as whom: [security.md](security.md) puts these together.",
}

_TYPES: Final = {int: "integer", float: "number", bool: "boolean", str: "string"}
_DEFAULT_MADE: Final = "made at each start"
_REASON: Final = " Default: "


def settings_page() -> str:
    """Write every setting, with its name in the file and in the environment."""
    fields = Settings.model_fields
    ours = {name: field for name, field in fields.items() if name not in Access.model_fields}
    parts = [_PAGE]
    for (title, words), chosen in zip(_SECTIONS.items(), (ours, Access.model_fields), strict=True):
        parts.append(f"\n## {title}\n\n{words}\n")
        parts += [_entry(name, fields[name]) for name in chosen]
    return "".join(parts)


def _entry(name: str, field: FieldInfo) -> str:
    said = " ".join((field.description or "").split())
    meaning, _, reason = _linked(said, name).partition(_REASON)
    return (
        f"\n### {name}\n\n{meaning}\n\n"
        "| in the environment | type | allowed | default | why that |\n|---|---|---|---|---|\n"
        f"| `{variable(name)}` | {_type(field)} | {allowed(field)} | {_default(field)} | {reason} |\n"
    )


def _linked(text: str, own: str) -> str:
    """Make links of the other settings that a sentence names."""
    others = sorted((name for name in Settings.model_fields if "_" in name and name != own), key=len, reverse=True)
    return re.sub(rf"\b({'|'.join(others)})\b", r"[\1](#\1)", text)


def _type(field: FieldInfo) -> str:
    """Give the type that a value has in the file."""
    annotation: Any = field.annotation
    if get_origin(annotation) is Literal:
        return "string"
    if SecretStr in (annotation, *get_args(annotation)):
        return "string, secret"
    return _TYPES.get(annotation, "string")


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return _DEFAULT_MADE
    return "none" if field.default in (None, "") else f"`{json.dumps(field.default)}`"
