"""The scenario of a load: how much, when, of whom, of what, and what goes wrong on the way.

Values come from the command line, else from a TOML file, else they are what the profile wants, else the defaults below.
All that is wrong is told at once, as with the settings.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from processor.access import Allowed
from processor.core.events import FREE_FORM_TYPES, OPENING_TYPES
from processor.settings import SettingsError, Share, Whole, allowed
from processor.shown import quoted

DAY_SECONDS: Final = 86_400
CAMPAIGN_CONTACTS: Final = 500_000
SPIKE: Final = 10
"""A spike is ten times the rate for a tenth of the time, where nobody says otherwise."""

INBOUND_TYPES: Final = OPENING_TYPES | {
    "call", "reaction", "edit", "unsupported", "call_permission_reply", "consent", "contact_changed", "revoke",
    "history", "system",
}  # fmt: skip
OUTBOUND_TYPES: Final = FREE_FORM_TYPES | {"template", "call", "status", "echo"}

Weights = dict[str, float]


def _weights(value: Any) -> Any:
    """Take `text=6,image=1` as the table that it is short for."""
    if not isinstance(value, str):
        return value
    pairs = [pair.partition("=") for pair in value.split(",")]
    return {name.strip(): weight if equals else "" for name, equals, weight in pairs}


def _known(names: frozenset[str]) -> AfterValidator:
    def check(value: Weights) -> Weights:
        if unknown := sorted(value.keys() - names):
            raise ValueError(f"no such type: {', '.join(unknown)}")
        if min(value.values(), default=0) < 0 or not sum(value.values()):
            raise ValueError("no weight above 0" if not any(value.values()) else "a weight below 0")
        return value

    return AfterValidator(check)


def _types(names: frozenset[str]) -> Allowed:
    return Allowed(f'a weight for each type, such as "text=6,image=1", of {", ".join(sorted(names))}')


InboundTypes = Annotated[Weights, BeforeValidator(_weights), _known(INBOUND_TYPES), _types(INBOUND_TYPES)]
OutboundTypes = Annotated[Weights, BeforeValidator(_weights), _known(OUTBOUND_TYPES), _types(OUTBOUND_TYPES)]
Rate = Annotated[Share, Field(gt=0, le=10_000_000)]
Seconds = Annotated[Share, Field(gt=0, le=31 * DAY_SECONDS)]
OfAll = Annotated[Share, Field(ge=0, le=1)]


class Scenario(BaseModel):
    """All that decides which records there are and when they are due; the rest is the start, and where they go.

    `Scenario.load()` reads the file. `Scenario(...)` takes what it is given, the profile's wants, and the defaults.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)

    seed: Whole = 1
    """The same seed, scenario and start give the same bytes."""
    profile: Literal["constant", "ramp", "spike", "day", "campaign"] = "constant"
    """How the rate goes: as it is; from one to another; with a spike in its middle; as the hours of a business's day
    have it; a campaign, in which each contact writes once."""
    rate: Rate = 1000
    """Events a second: the spike's sides, the ramp's end, the day's mean. A campaign's is what its contacts make."""
    seconds: Seconds = 60
    """How long it goes on (s)."""
    from_rate: Annotated[Share, Field(ge=0, le=10_000_000)] = 0
    """Where a ramp begins (events a second)."""
    peak_rate: Rate = 10_000
    """How high a spike goes (events a second). Default: ten times the rate."""
    peak_seconds: Seconds = 6
    """How long a spike lasts (s). Default: a tenth of the whole."""
    speed: Annotated[Share, Field(gt=0, le=100_000)] = 1
    """How fast the time of the events goes by, for one second of the schedule. Default: 1; of a day, what makes 24
    hours of it."""
    contacts: Annotated[Whole, Field(ge=1, le=100_000_000)] = 100_000
    """Customers that there are. Default: 100,000; in a campaign 500,000."""
    popularity: Literal["uniform", "zipf", "once"] = "uniform"
    """Whose event the next one is: any contact's; the nth one's with a weight of n to the power of -zipf_exponent; or
    each contact writes once, and is written to a second later or more."""
    zipf_exponent: Annotated[Share, Field(gt=0, le=10)] = 1
    """How steep a Zipf distribution is."""
    outbound: OfAll = 0.45
    """Share of the business's side. Default: 0.45; in a campaign 0."""
    inbound_types: InboundTypes = {"text": 8, "image": 1, "audio": 1}
    """Weights of the types on messages.inbound."""
    outbound_types: OutboundTypes = {"text": 8, "image": 1, "template": 1}
    """Weights of the types on messages.outbound."""
    doubles: OfAll = 0
    """Share of the events that are a record which its partition has had already, byte for byte."""
    doubles_within: Annotated[Whole, Field(ge=1, le=100_000)] = 1000
    """How many records of its partition ago, at most, a double was first put there."""
    disorder: OfAll = 0
    """Share of the events whose time lies up to disorder_ms before that of their neighbours."""
    disorder_ms: Annotated[Whole, Field(ge=1, le=3_600_000)] = 2000
    """How far (ms) what is out of order may lie back."""
    late: OfAll = 0
    """Share of the events that come up to late_seconds after their time."""
    late_seconds: Seconds = 129_600
    """How late (s) what is late may be. Default: 36 hours, half as much again as a window."""
    bad: OfAll = 0
    """Share of the events that can't be read: dead letters, of each kind as many."""
    text_bytes: Annotated[Whole, Field(ge=0, le=32_768)] = 60
    """How long the text of a record is."""
    business_id: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9._-]{1,160}$"), Allowed("1 to 160 letters, digits, '.', '_' and '-'")
    ] = "106540352242922"
    """The business number that all is for."""

    @model_validator(mode="before")
    @classmethod
    def _with_what_the_profile_wants(cls, values: Any) -> Any:
        return _wants(values) | values if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.bad + self.doubles + self.late + self.disorder > 1:
            raise ValueError("bad, doubles, late and disorder are more than 1 together")
        if self.profile == "spike" and self.peak_seconds >= self.seconds:
            raise ValueError(f"a peak of {self.peak_seconds:g} s does not fit into {self.seconds:g} s")
        return self

    @classmethod
    def load(cls, toml_path: Path | None = None, given: Mapping[str, Any] | None = None) -> Self:
        """Read a scenario: `given` over the TOML file.

        Raises:
            SettingsError: A line for each unknown name, value not allowed, contradiction, or for an unreadable file.
        """
        given = given or {}
        in_file, lines = _read(toml_path)
        unknown = sorted(in_file.keys() - cls.model_fields.keys())
        lines += [f"{name} (file {toml_path}): no scenario has this{_near(name)}" for name in unknown]
        in_file = {name: value for name, value in in_file.items() if name in cls.model_fields}
        try:
            scenario = cls(**in_file | dict(given))
        except ValidationError as error:
            lines += _lines(error, {**dict.fromkeys(in_file, f"file {toml_path}"), **dict.fromkeys(given, "argument")})
        else:
            if not lines:
                return scenario
        raise SettingsError(lines)


def option(name: str) -> str:
    """Give the option of the command line for a field."""
    return f"--{name.replace('_', '-')}"


def _near(name: str) -> str:
    nearest = difflib.get_close_matches(name, Scenario.model_fields, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def _wants(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give what the profile wants where nobody says otherwise. What is no number is left to its validator."""
    seconds = _number(values.get("seconds"), 60)
    match values.get("profile"):
        case "campaign":
            contacts = _number(values.get("contacts"), CAMPAIGN_CONTACTS)
            return {
                "contacts": CAMPAIGN_CONTACTS,
                "rate": contacts / seconds,
                "popularity": "once",
                "outbound": 0,
                "inbound_types": {"button": 1},
            }
        case "day":
            return {"speed": DAY_SECONDS / seconds}
        case "spike":
            return {"peak_rate": SPIKE * _number(values.get("rate"), 1000), "peak_seconds": seconds / SPIKE}
    return {}


def _number(value: Any, default: float) -> float:
    try:
        return float(value) if value is not None and float(value) > 0 else default
    except (TypeError, ValueError):
        return default


def _read(path: Path | None) -> tuple[dict[str, Any], list[str]]:
    if path is None:
        return {}, []
    try:
        return tomllib.loads(path.read_text("utf-8")), []
    except OSError as error:
        reason = error.strerror or "can't be read"
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 at byte {error.start}"
    except tomllib.TOMLDecodeError as error:
        reason = f"not TOML: {error}"
    return {}, [f'--scenario: found "{path}", {reason}; allowed: the path of a TOML file with a scenario']


def _lines(error: ValidationError, sources: Mapping[str, str]) -> Iterator[str]:
    """Give a line for each field that is wrong, and for each contradiction."""
    seen: set[str] = set()
    for details in error.errors(include_url=False):
        reason = str(details.get("ctx", {}).get("error", ""))
        if not details["loc"]:
            yield f"scenario: {reason}"
        elif (name := str(details["loc"][0])) not in seen:
            seen.add(name)
            found = quoted(details["input"])
            because = f", {reason}" if reason else ""
            words = allowed(Scenario.model_fields[name])
            yield f"{name} ({option(name)}): found {found} ({sources.get(name, 'default')}){because}; allowed: {words}"
