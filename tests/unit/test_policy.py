"""The policy: its defaults are Meta's rules, its text is TOML, its values are held to each other (W2, E1, S3, S5)."""

import re
from typing import Any

import msgspec
import pytest

from processor.core.policy import DAY_MS, HOUR_MS, Policy, PolicyError
from processor.policy_file import ALLOWED, in_text, load_policy, parse_duration

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
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "key", "told"),
    [
        ("windows = 1", "windows", "no policy has this key; did you mean window?"),
        ("zookeeper = 'hunter2'", "zookeeper", "no policy has this key"),
        ("closed_retention_ms = 1", "closed_retention_ms", "no policy has this key; did you mean closed_retention?"),
        ("expiring_before_ms = []", "expiring_before_ms", "no policy has this key; did you mean expiring_before?"),
        ("effects_from_ms = 1", "effects_from_ms", "no policy has this key; did you mean effects_from?"),
        ("name = ''", "name", 'found "", "" can\'t be one'),
        ("name = 'a b'", "name", 'found "a b", "a b" can\'t be one'),
        ('name = "a\\nb"', "name", 'found "a\\nb", "a\\nb" can\'t be one'),
        (f"name = '{'a' * 65}'", "name", f'found "{"a" * 65}"'),
        ("name = 7", "name", "found 7"),
        ("[window]\ntelegram = '1h'", "window", 'found {"telegram": "1h"}, there is no entry `default`'),
        ("[window]\ndefault = 'a day'", "window", """found {"default": "a day"}, 'a day' is not a duration"""),
        ("[window]\ndefault = 24", "window", 'found {"default": 24}, 24 is not a duration'),
        ("window = '24h'", "window", 'found "24h"'),
        ("window = {default = '24h', WhatsApp = '12h'}", "window", '"WhatsApp" can\'t be one'),
        ("closed_retention = '4000d'\nwindow.default = '3651d'", "window", "is not above 0 and at most 3650d"),
        ("expiring_before = '2h'", "expiring_before", 'found "2h"'),
        ("expiring_before = ['2h', '2h']", "expiring_before", "they are not different, longest first"),
        ("expiring_before = ['120m', '2h']", "expiring_before", "they are not different, longest first"),
        ("expiring_before = ['24h']", "expiring_before", 'found ["24h"], not shorter than the shortest window, 24h'),
        (
            "window.default = '1h'",
            "expiring_before",
            'found ["2h"] (default), not shorter than the shortest window, 1h',
        ),
        ("window = {default = '24h', sms = '1h'}", "expiring_before", "not shorter than the shortest window, 1h"),
        ("expiring_before = ['soon']", "expiring_before", "'soon' is not a duration"),
        (f"expiring_before = {[f'{n}m' for n in range(1, 10)]}", "expiring_before", "9 thresholds"),
        ("closed_retention = '1x'", "closed_retention", "found \"1x\", '1x' is not a duration"),
        ("closed_retention = '23h'", "closed_retention", 'found "23h", shorter than the longest window, 24h'),
        ("closed_retention = 72", "closed_retention", "found 72, 72 is not a duration"),
        ("closed_retention = '3651d'", "closed_retention", 'found "3651d", longer than 3650d'),
        ("window = {default = '24h', telegram = '7d'}", "closed_retention", "shorter than the longest window, 7d"),
        ("safety_margin = '24h'", "safety_margin", 'found "24h", not from 0 to less than the shortest window, 24h'),
        ("reactions_open = 'yes'", "reactions_open", 'found "yes"; allowed: true or false'),
        ("reactions_open = 1", "reactions_open", "found 1; allowed: true or false"),
        ("marketing_needs_opt_in = 'sometimes'", "marketing_needs_opt_in", 'found "sometimes"; allowed: "off", '),
        ("enforcement = 'warn'", "enforcement", 'found "warn"; allowed: "enforce" or "observe"'),
        ("direct_send = '*'", "direct_send", 'found "*"'),
        ("direct_send = [106540352242922]", "direct_send", "found [106540352242922]"),
        ("direct_send = ['+1']", "direct_send", 'found ["+1"], "+1" can\'t be one'),
        ("call_permission_reply_opens = ['user_acton']", "call_permission_reply_opens", '"user_acton" can\'t be one'),
        ("unsupported_opens.131051 = 'yes'", "unsupported_opens", 'found {"131051": "yes"}'),
        ("unsupported_opens.abc = true", "unsupported_opens", '"abc" can\'t be one'),
        ("effects_from = 1795373239000", "effects_from", "found 1795373239000, not a time with a zone"),
        ("effects_from = '1795373239'", "effects_from", "not a time with a zone"),
        ("effects_from = 2026-11-22T18:47:19", "effects_from", "not a time with a zone"),
    ],
)
def test_a_policy_that_can_not_be_used_says_of_which_key_what_was_found_and_what_is_allowed(
    text: str, key: str, told: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy(text)
    line = next(line for line in str(caught.value).splitlines() if line.startswith(f"{key}: "))
    assert told in line
    assert key not in ALLOWED or line.endswith(f"; allowed: {ALLOWED[key]}")


def test_a_text_that_is_no_toml_is_one_fault_of_no_key() -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy("name = ")
    ((key, reason),) = caught.value.faults
    assert (key, reason[:10]) == ("", "not TOML: ")


def test_all_that_is_wrong_with_a_policy_is_told_at_once_and_once() -> None:
    text = """
        nam = "x"
        name = ""
        closed_retention = "23h"
        expiring_before = ["2h", "2h", "24h"]
        safety_margin = "1x"
    """
    with pytest.raises(PolicyError) as caught:
        load_policy(text)
    keys = [fault.key for fault in caught.value.faults]
    assert keys == ["nam", "name", "safety_margin", "expiring_before", "expiring_before", "closed_retention"]


def test_of_a_window_that_can_not_be_read_nothing_else_is_held_to_the_default_one() -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy("window.default = '7 d'\nexpiring_before = ['48h']\nclosed_retention = '8d'")
    assert [fault.key for fault in caught.value.faults] == ["window"]


@pytest.mark.parametrize("toml", ['"2026-11-22T15:47:19-03:00"', "2026-11-22T18:47:19Z", "2026-11-22T15:47:19-03:00"])
def test_effects_from_is_a_time_as_the_setting_of_that_name_takes_it(toml: str) -> None:
    policy = load_policy(f"effects_from = {toml}")
    assert policy.effects_from_ms == 1_795_373_239_000
    assert in_text(policy)["effects_from"] == "2026-11-22T18:47:19.000Z"


def test_a_policy_in_the_words_of_its_text_is_what_its_text_says() -> None:
    assert in_text(Policy()) == {
        "name": "default",
        "window": {"default": "24h"},
        "expiring_before": ["2h"],
        "closed_retention": "3d",
        "safety_margin": "1m",
        "reactions_open": False,
        "unknown_types_open": True,
        "unsupported_opens": {"131051": True, "131060": False},
        "call_permission_reply_opens": ["user_action"],
        "direct_send": [],
        "marketing_needs_opt_in": "outside-window",
        "enforcement": "enforce",
        "effects_from": "",
        "emit_accepted": True,
    }
    assert in_text(load_policy("window.default = '36h'\nsafety_margin = '90s'"))["window"] == {"default": "36h"}
    assert in_text(load_policy("safety_margin = '90s'"))["safety_margin"] == "90s"


@pytest.mark.parametrize(
    "changes",
    [
        {"expiring_before_ms": (HOUR_MS, 2 * HOUR_MS)},
        {"expiring_before_ms": (HOUR_MS, HOUR_MS)},
        {"expiring_before_ms": (0,)},
        {"expiring_before_ms": (1500,)},
        {"expiring_before_ms": (DAY_MS,)},
        {"expiring_before_ms": tuple(n * 60_000 for n in range(9, 0, -1))},
        {"closed_retention_ms": DAY_MS - 1},
        {"closed_retention_ms": 3_650 * DAY_MS + 1},
        {"window_ms": {"default": 3_651 * DAY_MS}, "closed_retention_ms": 3_651 * DAY_MS},
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
    Policy(window_ms={"default": 3_650 * DAY_MS}, closed_retention_ms=3_650 * DAY_MS)
    load_policy(f"name = '{'a' * 64}'\nexpiring_before = {[f'{n}m' for n in range(1, 9)]}")


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
