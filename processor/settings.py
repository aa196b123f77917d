"""Settings: what the operator of a worker decides. One table of fields, and where each value came from.

Values come from the environment (``JANELA_PARTITIONS``), else from ``janela.toml`` (``partitions``), else
they are the defaults below. A name that no setting has is an error as much as a value that is not allowed,
and all errors are told at once. What the business decides, not the operator, is the policy
(`processor.core.policy`), which has a file of its own.
"""

import difflib
import json
import os
import re
import socket
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from processor.access import Access, Allowed, faults, no_path, servers
from processor.codec.times import parse_time
from processor.core.policy import DAY_MS, THRESHOLDS_MAX, Policy, PolicyError
from processor.policy_file import in_text, load_policy, moment, parse_duration
from processor.shown import MASK, masked, quoted

if TYPE_CHECKING:
    from processor.kafka.connection import Connection

ENV_PREFIX = "JANELA_"
CONFIG_ENV = "JANELA_CONFIG"
NOT_SETTINGS = frozenset({CONFIG_ENV, "JANELA_JAVA", "JANELA_FAILPOINT"})
"""Variables with our prefix that are no settings: the TOML file, `janela kafka`'s Java, where a crash test kills."""

PREFIX_LENGTH_MAX = 200  # Kafka allows 249 characters in a name, and the longest of ours has 17
GROUP_TIMEOUT_MIN_MS = 6000  # a broker's group.min.session.timeout.ms as it comes; below, a join is refused
RECORD_BYTES_LIMIT = 900 * 1024  # a verdict bears the send as it came, and Kafka takes 1 MiB with the rest

_KAFKA_NAME = r"^[A-Za-z0-9._-]*$"

# Kubernetes writes the address of each service of a namespace into its containers; those of a service named
# `janela` begin with our prefix, and nobody set them.
_KUBERNETES = re.compile(
    r"JANELA_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_KUBERNETES_PORT = re.compile(r"(?:tcp|udp|sctp)://\S+")


class SettingsError(Exception):
    """Settings can't be used. `lines` has a sentence for each setting that is wrong."""

    def __init__(self, lines: list[str]) -> None:
        """Take all that is wrong at once."""
        super().__init__("\n".join(lines))
        self.lines = lines


class Provenance(NamedTuple):
    """A setting's value, fit to be shown, and where it came from.

    `source` is ``default``, ``environment JANELA_X``, ``file <path>``, or ``argument``: what a caller gave.
    """

    value: Any
    source: str


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):  # `partitions = true` would pass as 1
        raise ValueError("a switch is not a number")
    return value


def _address(value: str) -> str:
    return value and servers(value)


def _parse_thresholds(value: str) -> tuple[int, ...]:
    """Turn ``"1h,15m"`` into milliseconds, longest first.

    Raises:
        ValueError: A threshold can't be read, stands twice, or is a day or longer.
    """
    thresholds_ms = [parse_duration(text) for text in value.split(",")]
    if len(thresholds_ms) > THRESHOLDS_MAX:
        raise ValueError(f"{len(thresholds_ms)} thresholds")
    if len(set(thresholds_ms)) < len(thresholds_ms):
        raise ValueError("a threshold stands twice")
    if max(thresholds_ms) >= DAY_MS:
        raise ValueError("a threshold is not below 24h")
    return tuple(sorted(thresholds_ms, reverse=True))


def _thresholds(value: str) -> str:
    _parse_thresholds(value)
    return value


def _this_instance() -> str:
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
    return f"{host[:100]}-{os.getpid()}"


Whole = Annotated[int, BeforeValidator(_no_bool)]
Share = Annotated[float, BeforeValidator(_no_bool)]
Address = Annotated[str, AfterValidator(_address), Allowed("host:port, or empty for none")]
Thresholds = Annotated[
    str,
    AfterValidator(_thresholds),
    Allowed(f'up to {THRESHOLDS_MAX} different durations below 24h in h, m or s, such as "2h" or "4h,1h,15m"'),
]
Moment = Annotated[str | None, BeforeValidator(moment), Allowed('RFC 3339 with a zone, such as "2026-11-22T18:00:00Z"')]
PolicyFile = Annotated[Path | None, BeforeValidator(no_path), Allowed("the path of a policy in TOML")]
_NAME_CHARACTERS = "letters, digits, '.', '_' and '-'"


class Settings(Access, BaseSettings):
    """All settings of a worker, and of the commands that speak to its cluster.

    `Settings.load()` reads environment and file. `Settings(...)` takes what it is given, and the defaults.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        frozen=True,
        extra="forbid",
        validate_default=True,  # so that a default that contradicts a value given is found
        hide_input_in_errors=True,  # a secret must not come out in a traceback
        use_attribute_docstrings=True,
    )

    app_id: Annotated[str, Allowed(f"1 to 100 of {_NAME_CHARACTERS}")] = Field(
        default="janela", min_length=1, max_length=100, pattern=_KAFKA_NAME
    )
    """Consumer group, start of the transactional ids, source of the events (/janela/{app_id}). Default: the
    name of the program, for a cluster that runs it once."""
    instance_id: Annotated[str, Allowed(f"1 to 150 of {_NAME_CHARACTERS}")] = Field(
        default_factory=_this_instance, min_length=1, max_length=150, pattern=_KAFKA_NAME
    )
    """Name of this worker, a different one for each that runs. Default: host and process id, which differ."""
    topic_prefix: Annotated[str, Allowed(f"up to {PREFIX_LENGTH_MAX} of {_NAME_CHARACTERS}")] = Field(
        default="", max_length=PREFIX_LENGTH_MAX, pattern=_KAFKA_NAME
    )
    """Stands before the name of each topic, such as "acme.". Default: the contract's names as they are."""
    partitions: Whole = Field(default=12, ge=1, le=1024)
    """Partitions of each topic, fixed for a prefix. Default: 2, 3, 4, 6 or 12 workers share them evenly."""
    clock: Literal["live", "event"] = "live"
    """live: the brokers' time moves time on where both inputs are read to their end. event: the times of events
    alone do, for replays. Default: ends come when nobody writes, too."""
    timer_grace_ms: Whole = Field(default=1000, ge=0, le=300_000)
    """How far behind the brokers' time idle time runs (ms), for messages still on their way. Default: a second
    covers a producer's linger and a slow request."""
    expiring_before: Thresholds = "2h"
    """How long before a window's end to warn. Default: time enough for a person to answer."""
    enforcement: Literal["enforce", "observe"] = "enforce"
    """observe accepts every send and says in would_reject what enforce would have refused. Default: verdicts
    that a dispatcher can obey."""
    effects_from: Moment = None
    """What became true before this time changes state and emits nothing. Default: all is emitted."""
    emit_accepted: bool = True
    """Whether accepted sends go to send-accepted. Default: what a dispatcher consumes."""
    policy_file: PolicyFile = None
    """TOML file of the policy; a path in janela.toml is relative to it. expiring_before, enforcement,
    effects_from and emit_accepted, where set, stand over it. Default: the provider's rules."""
    key_check: Literal["on", "off"] = "on"
    """Whether a record whose key or partition is not its body's is a dead letter. Default: a contact whose
    two sides lie on different partitions would not be noticed."""
    commit_interval_ms: Whole = Field(default=25, ge=5, le=1000)
    """Least time between two transactions (ms). Default: below what a person notices, and the broker keeps
    up."""
    batch_records_max: Whole = Field(default=4000, ge=1, le=100_000)
    """Most records of a partition in one transaction. Default: some 40 ms of work, then the transaction under
    way goes on; with 8,000 a backlog takes 6 % longer."""
    buffer_records_max: Whole = Field(default=32_000, ge=1, le=1_000_000)
    """Most records that wait, for each topic and partition; at least batch_records_max. Default: four
    batches, so that the next is there while one commits."""
    record_bytes_max: Whole = Field(default=65_536, ge=1024, le=RECORD_BYTES_LIMIT)
    """Largest record (bytes of value, key and headers); a larger one is a dead letter. Default: 16 times the
    provider's longest text."""
    dead_letter_flood: Literal["alert", "stop"] = "alert"
    """What to do when too many records can't be read; stop pauses that partition. Default: a bad producer
    must not hold up the good ones."""
    dead_letter_flood_window: Whole = Field(default=1000, ge=10, le=100_000)
    """Newest records of a partition that a flood is measured over. Default: too many to be chance."""
    dead_letter_flood_share: Share = Field(default=0.5, gt=0, le=1)
    """Share of dead letters that is a flood when exceeded. Default: more bad records than good ones."""
    session_timeout_ms: Whole = Field(default=10_000, ge=GROUP_TIMEOUT_MIN_MS, le=60_000)
    """When the group gives a silent worker's partitions away (ms). Default: outlasts a pause of the garbage
    collector, and a dead worker is soon replaced."""
    membership: Literal["dynamic", "static"] = "dynamic"
    """static: a worker that is back under its instance_id within session_timeout_ms goes on with its partitions, and
    nobody else's move. Default: where a worker stops, others take over at once."""
    transaction_timeout_ms: Whole = Field(default=30_000, ge=GROUP_TIMEOUT_MIN_MS, le=60_000)
    """When the broker ends a transaction that a worker left open (ms); one that takes four fifths of it ends the
    worker. Default: a broker that stands still for 20 s is waited for; a successor ends what a dead worker left."""
    broker_wait_seconds: Whole = Field(default=30, ge=0, le=3600)
    """How long to wait at start for a broker that is away (s). Default: one that starts alongside is up."""
    watchdog_seconds: Whole = Field(default=60, ge=10, le=3600)
    """When a worker that has input and commits nothing ends itself (s); longer than both time-outs above.
    Default: nothing that goes well takes a minute."""
    on_lost_offsets: Literal["stop", "restart"] = "stop"
    """What to do where committed offsets are gone, or lie before the log's start or beyond its end;
    restart: go on from its start. Default: a loss is for a person to judge."""
    ops_address: Address = "127.0.0.1:9464"
    """Where /livez, /readyz and /metrics answer; empty: nowhere. Default: this machine alone; where another worker
    has the address, this one goes on without, unless the address was chosen."""
    log_format: Literal["console", "json"] = "console"
    """Lines for people, or for machines. Default: whoever types the command reads them."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is logged. Default: a line for each thing that changes, none for each record."""
    traces: Literal["off", "otlp"] = "off"
    """otlp: W3C trace contexts go from inputs to the outputs that they cause, and spans of those that are sampled to
    a collector; wants the extra otel (docs/tracing.md). Default: outputs bear nothing that nobody asked for."""

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @field_validator("buffer_records_max")
    @classmethod
    def _holds_a_batch(cls, value: int, info: ValidationInfo) -> int:
        if value < (batch := info.data.get("batch_records_max", value)):
            raise ValueError(f"less than batch_records_max, {batch}")
        return value

    @field_validator("watchdog_seconds")
    @classmethod
    def _outlasts_time_outs(cls, value: int, info: ValidationInfo) -> int:
        for name in ("session_timeout_ms", "transaction_timeout_ms"):
            if value * 1000 <= (timeout_ms := info.data.get(name, 0)):
                raise ValueError(f"not longer than {name}, {timeout_ms} ms")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (pydantic's signature)
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing behind the caller's back: `load` is the one that reads."""
        return (init_settings,)

    @classmethod
    def load(cls, toml_path: str | Path | None = None, **given: Any) -> Self:
        """Read the settings: `given` over the environment over the TOML file over the defaults.

        The file is `toml_path`, else what ``JANELA_CONFIG`` names, else ``janela.toml`` here if there is one.

        Raises:
            SettingsError: A line for each unknown name, value not allowed, contradiction, unreadable file.
        """
        path, in_file, lines = _read_file(toml_path)
        lines += sorted(_unknown_names(cls, in_file, path))
        for name, value in in_file.items():
            if name.endswith("_file") and isinstance(value, str) and value:
                in_file[name] = str(path.parent / value)
        in_file = {name: value for name, value in in_file.items() if name in cls.model_fields}
        in_environment = {name: os.environ[variable(name)] for name in cls.model_fields if variable(name) in os.environ}
        values = in_file | in_environment | given
        sources = (
            dict.fromkeys(in_file, f"file {path}")
            | {name: f"environment {variable(name)}" for name in in_environment}
            | dict.fromkeys(given, "argument")
        )
        settings, wrong = None, set()
        try:
            settings = cls(**values)
        except ValidationError as error:
            for name, value, reason in _one_a_setting(error):
                wrong.add(name)
                source = sources.get(name, "default")
                lines.append(_line(name, cls.model_fields[name], value, source, reason))
        if "policy_file" not in wrong:
            lines += _policy_lines(values, wrong, sources)
        lines += _access_lines(values, wrong, sources)
        if settings is None or lines:
            raise SettingsError(lines)
        settings._sources = sources
        return settings

    @property
    def expiring_before_ms(self) -> tuple[int, ...]:
        """The thresholds of this setting, longest first. Those in force are the policy's: `policy`."""
        return _parse_thresholds(self.expiring_before)

    @property
    def effects_from_ms(self) -> int:
        """Event time in ms since the epoch; 0 where not set."""
        return (self.effects_from and parse_time(self.effects_from)) or 0

    @property
    def group_instance_id(self) -> str | None:
        """The name under which a worker is a static member of its group; None: it is a dynamic one.

        Raises:
            SettingsError: The worker has no name that stays. Verbs that join no group need none.
        """
        if self.membership == "dynamic":
            return None
        if self.instance_id == _this_instance():
            reason = "instance_id is not set, and its default is another one after each start"
            source = self._sources.get("membership", "argument")
            raise SettingsError([_line("membership", type(self).model_fields["membership"], "static", source, reason)])
        return self.instance_id

    @property
    def connection(self) -> "Connection":
        """How every client reaches the cluster, with secrets and certificates as their files have them now.

        Raises:
            SettingsError: A line for each thing that does not go together, or can't be read.
        """
        sources = self._sources or dict.fromkeys(self.model_fields_set, "argument")
        if lines := _access_lines({name: getattr(self, name) for name in self.model_fields_set}, set(), sources):
            raise SettingsError(lines)
        return self.connect_with()

    def policy(self) -> Policy:
        """Load the policy: the file's, or the default one, with what is set here on top.

        Raises:
            SettingsError: The file can't be read, or contradicts itself or these settings.
        """
        in_force = {field: getattr(self, field) for name, field in OVER_POLICY.items() if name in self.model_fields_set}
        sources = self._sources or dict.fromkeys(self.model_fields_set, "argument")
        return _load_policy(self.policy_file, in_force, dict(self), sources)


OVER_POLICY = {
    "expiring_before": "expiring_before_ms",
    "enforcement": "enforcement",
    "effects_from": "effects_from_ms",
    "emit_accepted": "emit_accepted",
}
"""Settings that, where set, stand over the same word of the policy file, with the policy's field for each."""


def variable(name: str) -> str:
    """Give the environment variable of a setting."""
    return f"{ENV_PREFIX}{name.upper()}"


def without_login(bootstrap_servers: str) -> dict[str, str]:
    """Give the variables by which a program comes to a cluster that asks nobody who he is, whatever its file says."""
    access = Access(bootstrap_servers=bootstrap_servers)
    return {variable(name): "" if value is None else str(value) for name, value in access}


def provenance(settings: Settings) -> dict[str, Provenance]:
    """Tell of each setting what is in force, secrets masked, and where it came from."""
    in_policy = policy_provenance(settings)
    found: dict[str, Provenance] = {}
    for name in type(settings).model_fields:
        value, source = getattr(settings, name), _source(settings, name)
        if source == "default" and name in OVER_POLICY and in_policy[name].source != "default":
            value, source = in_policy[name]
        found[name] = Provenance(_shown(value), source)
    return found


def policy_provenance(settings: Settings) -> dict[str, Provenance]:
    """Tell of each word of the policy what is in force, in the words of its file, and where it came from.

    Raises:
        SettingsError: As `Settings.policy`.
    """
    policy_file, in_force = settings.policy_file, in_text(settings.policy())
    sources = dict.fromkeys(tomllib.loads(policy_file.read_text("utf-8")) if policy_file else (), f"file {policy_file}")
    sources |= {name: _source(settings, name) for name in OVER_POLICY if name in settings.model_fields_set}
    return {key: Provenance(value, sources.get(key, "default")) for key, value in in_force.items()}


def _source(settings: Settings, name: str) -> str:
    return settings._sources.get(name, "argument" if name in settings.model_fields_set else "default")


def allowed(field: FieldInfo) -> str:
    """Say in words what a setting takes."""
    for mark in field.metadata:
        if isinstance(mark, Allowed):
            return mark.words
    if get_origin(field.annotation) is Literal:
        return " or ".join(json.dumps(choice) for choice in get_args(field.annotation))
    if field.annotation is bool:
        return "true or false"
    if field.annotation not in (int, float):
        return "text"
    low = next((f"from {mark.ge}" for mark in field.metadata if isinstance(mark, Ge)), "")
    above = next((f"above {mark.gt}" for mark in field.metadata if isinstance(mark, Gt)), "")
    high = next((f"to {mark.le}" for mark in field.metadata if isinstance(mark, Le)), "")
    number = "a whole number" if field.annotation is int else "a number"
    return " ".join(filter(None, (number, low, above, high)))


def _shown(value: Any) -> str | int | float | bool | None:
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value if value is None or isinstance(value, (int, float, bool)) else masked(str(value))


def _line(name: str, field: FieldInfo, value: Any, source: str, reason: str = "", *, is_ours: bool = False) -> str:
    found = quoted(value)
    if SecretStr in (field.annotation, *get_args(field.annotation)):
        found = MASK if value else "none"
        reason = reason if is_ours else ""  # one of a library's may quote what it speaks of
    because = f", {masked(reason)}" if reason else ""
    return f"{variable(name)} ({name}): found {found} ({source}){because}; allowed: {allowed(field)}"


def _one_a_setting(error: ValidationError) -> Iterator[tuple[str, Any, str]]:
    """Give name, what was found, and the reason where a validator of ours said one."""
    seen: set[str] = set()
    for details in error.errors(include_url=False):
        name = str(details["loc"][0])
        if name not in seen:
            seen.add(name)
            yield name, details["input"], str(details.get("ctx", {}).get("error", ""))


def _read_file(toml_path: str | Path | None) -> tuple[Path, dict[str, Any], list[str]]:
    """Give the file's path, its keys, and a line where it can't be read."""
    named = os.environ.get(CONFIG_ENV)
    path = Path(toml_path or named or "janela.toml")
    if not (toml_path or named or path.exists()):
        return path, {}, []
    try:
        return path, tomllib.loads(path.read_text("utf-8")), []
    except OSError as error:
        reason = error.strerror or "can't be read"
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 at byte {error.start}"
    except tomllib.TOMLDecodeError as error:
        reason = f"not TOML: {error}"
    source = "argument" if toml_path else f"environment {CONFIG_ENV}" if named else "default"
    line = f'{CONFIG_ENV}: found "{path}" ({source}), {reason}; allowed: the path of a TOML file with settings'
    return path, {}, [line]


def _unknown_names(cls: type[Settings], in_file: Mapping[str, Any], path: Path) -> Iterator[str]:
    """Give a line for each name that no setting has. What it was set to may be a secret, and is not shown."""
    for key in in_file.keys() - cls.model_fields.keys():
        yield f"{key} (file {path}): no setting has this name{_near(cls, key, str)}"
    spelled = set(map(variable, cls.model_fields))
    for name, value in os.environ.items():
        if not name.upper().startswith(ENV_PREFIX) or name in NOT_SETTINGS or name in spelled:
            continue
        if _KUBERNETES.fullmatch(name) or (name.endswith("_PORT") and _KUBERNETES_PORT.fullmatch(value)):
            continue
        yield f"{name} (environment): no setting has this name{_near(cls, name, variable)}"


def _near(cls: type[Settings], name: str, spelled: Callable[[str], str]) -> str:
    plain = name.lower().removeprefix(ENV_PREFIX.lower())
    nearest = difflib.get_close_matches(plain, cls.model_fields, n=1)
    return f"; did you mean {spelled(nearest[0])}?" if nearest else ""


def _load_policy(
    policy_file: Path | None, overrides: Mapping[str, Any], values: Mapping[str, Any], sources: Mapping[str, str]
) -> Policy:
    """Read the policy with fields of it that settings decide; `values` and `sources` are of all settings.

    Raises:
        SettingsError: A line for each thing that is wrong, of the setting or the file that says it.
    """
    faults: list[tuple[str, str]]
    try:
        return load_policy(policy_file.read_text("utf-8") if policy_file else "", **overrides)
    except OSError as error:
        faults = [("", error.strerror or "can't be read")]
    except UnicodeDecodeError as error:
        faults = [("", f"not UTF-8 at byte {error.start}")]
    except PolicyError as error:
        faults = list(error.faults)
    lines = []
    for key, reason in faults:
        if key and OVER_POLICY.get(key) not in overrides:
            lines.append(f"{key} (file {policy_file}): {reason}")
        else:
            name, because = (key, f"{reason} (file {policy_file})") if key else ("policy_file", reason)
            source = sources.get(name, "default")
            lines.append(_line(name, Settings.model_fields[name], values.get(name), source, because))
    raise SettingsError(lines)


def _access_lines(values: Mapping[str, Any], wrong: set[str], sources: Mapping[str, str]) -> list[str]:
    """Look at what says how to reach the cluster as a whole, as far as each setting is right by itself."""
    fields = Access.model_fields
    access = Access(**{name: value for name, value in values.items() if name in fields.keys() - wrong})
    return [
        _line(name, fields[name], getattr(access, name), sources.get(name, "default"), reason, is_ours=True)
        for name, reason in faults(access, wrong)
    ]


def _policy_lines(values: Mapping[str, Any], wrong: set[str], sources: Mapping[str, str]) -> list[str]:
    """Try the policy with what may contradict it, so that its errors are told with all others."""
    overrides: dict[str, Any] = {}
    if "expiring_before" in values and "expiring_before" not in wrong:
        overrides["expiring_before_ms"] = _parse_thresholds(values["expiring_before"])
    policy_file = values.get("policy_file")
    try:
        _load_policy(Path(policy_file) if policy_file else None, overrides, values, sources)
    except SettingsError as error:
        return error.lines
    return []
