"""The policy: its defaults are Meta's rules, its text is TOML, its values are held to each other (W2, E1, S3, S5)."""

import re
from typing import Any

import msgspec
import pytest

from processor.core.policy import DAY_MS, HOUR_MS, Policy, PolicyError, load_policy, parse_duration

MINUTE_MS = HOUR_MS // 60


def test_the_defaults_are_the_rules() -> None:
    """W2 W7 W13a S3 S5 E1"""
    policy = Policy()
    assert policy.window_ms == {"default": 86_400_000}
    assert policy.expiring_before_ms == (7_200_000,)
    assert policy.closed_retention_ms == 72 * 3_600_000
    assert policy.safety_margin_ms == 60_000
    assert (policy.reactions_open, policy.unknown_types_open) == (False, True)
    assert policy.unsupported_opens == {"131051": True, "131060": False}
    assert policy.call_permission_reply_opens == ("user_action",)
    assert policy.direct_send == ()
    assert policy.marketing_needs_opt_in == "outside-window"
    assert (policy.enforcement, policy.effects_from_ms, policy.emit_accepted) == ("enforce", 0, True)


def test_no_text_is_the_default_policy() -> None:
    assert load_policy("") == Policy()


def test_a_policy_is_read_from_toml() -> None:
    """W2 W7 W13a S3 S5 E1"""
    text = """
        name = "2026-11"
        expiring_before = ["15m", "4h", "1h"]
        closed_retention = "8d"
        safety_margin = "90s"
        reactions_open = true
        unknown_types_open = false
        call_permission_reply_opens = ["user_action", "automatic"]
        direct_send = ["106540352242922"]
        marketing_needs_opt_in = "always"
        enforcement = "observe"
        emit_accepted = false
        [window]
        default = "24h"
        telegram = "7d"
        [unsupported_opens]
        131052 = true
    """
    assert load_policy(text) == Policy(
        name="2026-11",
        window_ms={"default": DAY_MS, "telegram": 7 * DAY_MS},
        expiring_before_ms=(4 * HOUR_MS, HOUR_MS, 15 * MINUTE_MS),
        closed_retention_ms=8 * DAY_MS,
        safety_margin_ms=90_000,
        reactions_open=True,
        unknown_types_open=False,
        unsupported_opens={"131052": True},
        call_permission_reply_opens=("user_action", "automatic"),
        direct_send=("106540352242922",),
        marketing_needs_opt_in="always",
        enforcement="observe",
        emit_accepted=False,
    )


def test_settings_overrule_the_text() -> None:
    policy = load_policy('enforcement = "observe"', enforcement="enforce", expiring_before_ms=(HOUR_MS,))
    assert (policy.enforcement, policy.expiring_before_ms) == ("enforce", (HOUR_MS,))


def test_no_warning_at_all_is_a_policy() -> None:
    """E1"""
    assert load_policy("expiring_before = []").expiring_before_ms == ()


@pytest.mark.parametrize(
    ("text", "ms"),
    [("1s", 1000), ("90m", 5_400_000), ("24h", 86_400_000), ("3d", 259_200_000), (" 2h ", 7_200_000)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, ms: int) -> None:
    """E1"""
    assert parse_duration(text) == ms


@pytest.mark.parametrize(
    "text",
    ["", "0h", "-1h", "1.5h", "2", "h", "2 h", "1h30m", "2H", "1w", "01h", "٢h", "9999999999s", "1e3s", "2h\n2h"],
)
def test_anything_else_is_no_duration(text: str) -> None:
    """E1"""
    with pytest.raises(PolicyError, match=re.escape(repr(text))):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name = ", "not TOML"),
        ("windows = 1", "windows"),
        ("[window]\ntelegram = '1h'", "window: .*default"),
        ("[window]\ndefault = 'a day'", "'a day'"),
        ("window = '24h'", "window"),
        ("expiring_before = '2h'", "expiring_before"),
        ("expiring_before = ['2h', '2h']", "expiring_before: .*different"),
        ("expiring_before = ['120m', '2h']", "expiring_before: .*different"),
        ("expiring_before = ['24h']", "expiring_before: .*less than 86400000"),
        ("expiring_before = ['2h']\n[window]\ndefault = '24h'\nsms = '1h'", "expiring_before: .*less than 3600000"),
        ("expiring_before = ['soon']", "'soon'"),
        ("closed_retention = '23h'", "closed_retention: .*86400000"),
        ("closed_retention = 72", "'72'"),
        ("[window]\ndefault = '24h'\ntelegram = '7d'", "closed_retention: .*604800000"),
        ("safety_margin = '24h'", "safety_margin"),
        ("reactions_open = 'yes'", "reactions_open"),
        ("reactions_open = 1", "reactions_open"),
        ("marketing_needs_opt_in = 'sometimes'", "marketing_needs_opt_in"),
        ("enforcement = 'warn'", "enforcement"),
        ("direct_send = '*'", "direct_send"),
        ("direct_send = [106540352242922]", "direct_send"),
        ("[unsupported_opens]\n131051 = 'yes'", "unsupported_opens"),
    ],
)
def test_a_policy_that_can_not_be_used_says_what_is_wrong(text: str, named: str) -> None:
    with pytest.raises(PolicyError, match=named):
        load_policy(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"expiring_before_ms": (HOUR_MS, 2 * HOUR_MS)},
        {"expiring_before_ms": (HOUR_MS, HOUR_MS)},
        {"expiring_before_ms": (0,)},
        {"expiring_before_ms": (1500,)},
        {"expiring_before_ms": (DAY_MS,)},
        {"closed_retention_ms": DAY_MS - 1},
        {"safety_margin_ms": -1},
        {"safety_margin_ms": DAY_MS},
        {"window_ms": {"whatsapp": DAY_MS}},
        {"window_ms": {}},
        {"window_ms": {"default": 0}, "expiring_before_ms": ()},
    ],
)
def test_values_that_contradict_each_other_are_refused_however_they_come(changes: dict[str, Any]) -> None:
    """E1 W2"""
    with pytest.raises(PolicyError):
        Policy(**changes)
    with pytest.raises(PolicyError):
        load_policy("", **changes)


def test_what_just_fits_is_taken() -> None:
    """E1 W2"""
    Policy(expiring_before_ms=(DAY_MS - 1000, 1000), closed_retention_ms=DAY_MS, safety_margin_ms=0)


def test_a_channel_has_its_own_length_or_the_default() -> None:
    """W1 W2"""
    policy = Policy(window_ms={"default": DAY_MS, "sms": 3 * HOUR_MS}, expiring_before_ms=())
    assert policy.window_ms_of(b"sms:1:2") == 3 * HOUR_MS
    assert policy.window_ms_of(b"whatsapp:sms:2") == DAY_MS
    assert policy.window_ms_of(b"sm:1:2") == DAY_MS


def test_a_policy_can_not_be_changed() -> None:
    with pytest.raises(AttributeError):
        Policy().enforcement = "observe"  # type: ignore[misc]


def test_the_version_is_the_name_and_a_digest() -> None:
    assert re.fullmatch(r"default-[0-9a-f]{8}", Policy().version)
    assert load_policy('name = "2026-11"').version.startswith("2026-11-")


def test_one_content_has_one_version_however_it_was_written() -> None:
    one = load_policy("expiring_before = ['2h', '1h']\n[window]\ndefault = '24h'\nsms = '3h'")
    other = load_policy("window = {sms = '180m', default = '1d'}\nexpiring_before = ['60m', '2h']")
    assert one.version == other.version


@pytest.mark.parametrize("field", Policy.__struct_fields__)
def test_every_field_is_part_of_the_version(field: str) -> None:
    other: dict[str, Any] = {
        "name": "other",
        "window_ms": {"default": 2 * DAY_MS},
        "expiring_before_ms": (HOUR_MS,),
        "closed_retention_ms": 4 * DAY_MS,
        "safety_margin_ms": 0,
        "reactions_open": True,
        "unknown_types_open": False,
        "unsupported_opens": {"131051": True},
        "call_permission_reply_opens": (),
        "direct_send": ("*",),
        "marketing_needs_opt_in": "always",
        "enforcement": "observe",
        "effects_from_ms": 1,
        "emit_accepted": False,
    }
    changed = msgspec.structs.replace(Policy(), **{field: other[field]})
    assert changed.version != Policy().version
