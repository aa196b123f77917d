"""The verdict on a send, pure: S1-S5, S7, S8, and what the contract says of intent, observation and validity."""

from collections.abc import Callable
from typing import Any, get_args

import pytest

from processor.core.decisions import Accepted, Rejected
from processor.core.events import FREE_FORM_TYPES, Event, Send
from processor.core.policy import Policy
from processor.core.sending import REFUSALS, judged_category
from tests.scene import DAY, HOUR, KEY, MINUTE, SECOND, T0, Scene, consent, echoed, said, sent, template, tick

QUIET = Policy(expiring_before_ms=())
OBSERVE = Policy(expiring_before_ms=(), enforcement="observe")
DIRECT = Policy(expiring_before_ms=(), direct_send=("100200300",))
DIRECT_TYPES = ["text", "image", "video", "document", "interactive"]


def policy(**changes: Any) -> Policy:
    return Policy(expiring_before_ms=(), **changes)


def accepted(scene: Scene) -> Accepted:
    """Give the last decision, which accepts."""
    decision = scene.decisions[-1]
    assert isinstance(decision, Accepted)
    return decision


def rejected(scene: Scene) -> Rejected:
    """Give the last decision, which rejects."""
    decision = scene.decisions[-1]
    assert isinstance(decision, Rejected)
    return decision


# --------------------------------------------------------------------------------------- the window: open, closed, none


@pytest.mark.parametrize("type_", [*sorted(FREE_FORM_TYPES), "hologram"])
def test_free_form_needs_the_window(type_: str) -> None:
    """S1 W13a"""
    scene = Scene(QUIET)
    assert scene.play(sent(0, type_)) == ["rejected s1: no-window"]
    scene.play(said(0))
    assert scene.play(sent(1, type_)) == ["accepted s1: window-open"]
    scene.pass_until(DAY)
    assert scene.play(sent(DAY, type_)) == ["rejected s1: window-closed"]
    assert scene.count("unknown-type") == (3 if type_ == "hologram" else 0)


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (86_399 * SECOND, "accepted s1: window-open"),
        (86_400 * SECOND - 1, "accepted s1: window-open"),
        (86_400 * SECOND, "rejected s1: window-closed"),
        (86_400 * SECOND + 1, "rejected s1: window-closed"),
    ],
)
def test_the_window_carries_a_send_until_its_last_millisecond(after: int, verdict: str) -> None:
    """S1 S8 W4"""
    scene = Scene(QUIET)
    scene.play(said(0))
    assert scene.play(sent(after))[-1] == verdict


def test_a_first_contact_that_is_a_send_has_no_window() -> None:
    """S1"""
    scene = Scene(QUIET)
    scene.play(sent(0))
    assert scene.decisions == [Rejected(KEY, T0, sent(0), "no-window", None, None, None)]


def test_a_rejection_shows_the_last_window_known() -> None:
    """S1"""
    scene = Scene(QUIET)
    scene.play(said(0), tick(DAY + HOUR))
    scene.play(sent(DAY + HOUR))
    assert rejected(scene) == Rejected(KEY, T0 + DAY + HOUR, sent(DAY + HOUR), "window-closed", T0, T0 + DAY, T0 + DAY)


def test_a_rejection_inside_the_window_shows_it_open() -> None:
    """S4"""
    scene = Scene(QUIET)
    scene.play(said(0), consent(1, "all", granted=False), sent(2))
    assert (rejected(scene).expires_at, rejected(scene).closed_at) == (T0 + DAY, None)


def test_a_forgotten_window_is_none() -> None:
    """S1"""
    scene = Scene(QUIET)
    scene.play(said(0), tick(4 * DAY - 1))
    assert scene.play(sent(4 * DAY - 1)) == ["rejected s1: window-closed"]
    assert scene.play(sent(4 * DAY)) == ["rejected s1: no-window"]


@pytest.mark.parametrize("category", ["utility", "authentication"])
def test_a_template_goes_at_any_time(category: str) -> None:
    """S2"""
    scene = Scene(QUIET)
    assert scene.play(template(0, category)) == ["accepted s1: template"]
    scene.play(said(1))
    assert scene.play(template(2, category)) == ["accepted s1: window-open"]
    assert scene.play(template(DAY + 1, category)) == ["closed", "accepted s1: template"]


def test_an_acceptance_shows_the_window_only_where_it_is_open() -> None:
    """S1 S2"""
    scene = Scene(QUIET)
    scene.play(said(0), template(1))
    assert (accepted(scene).opened_at, accepted(scene).expires_at) == (T0, T0 + DAY)
    scene.play(template(DAY))
    assert (accepted(scene).opened_at, accepted(scene).expires_at) == (None, None)


# --------------------------------------------------------------------------------------------------- by the send's time


def test_a_send_at_the_very_time_of_the_message_comes_after_it() -> None:
    """S8: two messages and a send in the same second."""
    scene = Scene(QUIET)
    assert scene.play(said(0), said(0, id_="m2"), sent(0)) == ["opened", "accepted s1: window-open"]


def test_a_late_send_is_judged_by_its_own_time_though_the_end_was_announced() -> None:
    """S8"""
    scene = Scene(QUIET)
    scene.play(said(0), tick(2 * DAY))
    assert scene.play(sent(DAY - 1)) == ["accepted s1: window-open"]
    assert (accepted(scene).opened_at, accepted(scene).expires_at) == (T0, T0 + DAY)
    assert scene.play(sent(DAY)) == ["rejected s1: window-closed"]


def test_there_is_no_lower_bound() -> None:
    """S8"""
    scene = Scene(QUIET)
    scene.play(said(0))
    assert scene.play(sent(-5 * DAY)) == ["accepted s1: window-open"]


def test_a_late_send_is_judged_by_the_last_window_known_also_where_that_is_a_newer_one() -> None:
    """S8"""
    scene = Scene(QUIET)
    scene.play(said(0), said(3 * DAY))
    assert scene.play(sent(2 * DAY)) == ["accepted s1: window-open"]
    assert accepted(scene).opened_at == T0 + 3 * DAY


# ---------------------------------------------------------------------------------------------------------- direct send


@pytest.mark.parametrize("type_", [*sorted(FREE_FORM_TYPES), "hologram"])
@pytest.mark.parametrize("category", ["utility", "authentication", "marketing", "service", None])
def test_direct_send_carries_some_types_of_two_categories(type_: str, category: str | None) -> None:
    """S3"""
    goes = type_ in DIRECT_TYPES and category in ("utility", "authentication")
    verdict = "accepted s1: direct-send" if goes else "rejected s1: no-window"
    assert Scene(DIRECT).play(sent(0, type_, category)) == [verdict]


@pytest.mark.parametrize(
    ("businesses", "goes"),
    [((), False), (("100200300",), True), (("*",), True), (("100200301",), False), (("1", "*"), True)],
)
def test_direct_send_is_for_the_business_numbers_that_the_policy_names(businesses: tuple[str, ...], goes: bool) -> None:
    """S3"""
    scene = Scene(policy(direct_send=businesses))
    assert scene.play(sent(0, "text", "utility")) == ["accepted s1: direct-send" if goes else "rejected s1: no-window"]


def test_in_the_window_a_direct_send_goes_by_the_window() -> None:
    """S3 S1"""
    scene = Scene(DIRECT)
    assert scene.play(said(0), sent(1, "text", "utility"))[-1] == "accepted s1: window-open"


@pytest.mark.parametrize(
    ("type_", "category", "judged"),
    [
        ("text", None, "service"),
        ("text", "", "service"),
        ("text", "UTILITY", "utility"),
        ("text", "Authentication", "authentication"),
        ("text", "marketing", "marketing"),
        ("text", "service", "service"),
        ("text", "newsletter", "service"),
        ("template", "Utility", "utility"),
        ("template", "MARKETING", "marketing"),
        ("template", "newsletter", "marketing"),
        ("template", "service", "marketing"),
        ("template", "", "marketing"),
    ],
)
def test_a_category_is_taken_in_any_case_and_what_is_unknown_by_its_kind(
    type_: str, category: str | None, judged: str
) -> None:
    """S3 S4"""
    assert judged_category(type_, category) == judged


# -------------------------------------------------------------------------------------------------------------- consent


@pytest.mark.parametrize("open_", [False, True])
@pytest.mark.parametrize(
    ("send", "refused"),
    [
        (sent(5), True),
        (sent(5, "text", "utility"), True),
        (sent(5, "text", "marketing"), True),
        (sent(5, "text", "authentication"), False),
        (template(5, "utility"), True),
        (template(5, "marketing"), True),
        (template(5, "authentication"), False),
    ],
)
def test_who_revoked_all_gets_authentication_only(open_: bool, send: Send, refused: bool) -> None:
    """S4"""
    scene = Scene(DIRECT)
    scene.play(*([said(0)] if open_ else []), consent(1, "all", granted=False))
    assert ("rejected s1: opt-out" in scene.play(send)) == refused


@pytest.mark.parametrize("open_", [False, True])
@pytest.mark.parametrize(
    ("send", "refused"),
    [
        (sent(5, "text", "marketing"), True),
        (template(5, "marketing"), True),
        (template(5, "unheard of"), True),
        (template(5, "utility"), False),
        (sent(5, "text", "utility"), False),
    ],
)
@pytest.mark.parametrize("needs", ["off", "outside-window", "always"])
def test_who_revoked_marketing_gets_none_in_and_out_of_the_window(
    open_: bool, send: Send, refused: bool, needs: str
) -> None:
    """S4"""
    scene = Scene(policy(direct_send=("*",), marketing_needs_opt_in=needs))
    scene.play(*([said(0)] if open_ else []), consent(1, "marketing", granted=False))
    assert ("rejected s1: marketing-opt-out" in scene.play(send)) == refused


@pytest.mark.parametrize("open_", [False, True])
@pytest.mark.parametrize("needs", ["off", "outside-window", "always"])
@pytest.mark.parametrize("granted", [None, "all", "marketing"])
def test_marketing_needs_a_grant_in_its_own_register_by_policy(open_: bool, needs: str, granted: str | None) -> None:
    """S5 S4"""
    scene = Scene(policy(marketing_needs_opt_in=needs))
    scene.play(*([said(0)] if open_ else []), *([consent(1, granted, granted=True)] if granted else []))
    asks = needs == "always" or (needs == "outside-window" and not open_)
    refused = asks and granted != "marketing"
    assert ("rejected s1: no-consent" in scene.play(template(5, "marketing"))) == refused


def test_marketing_as_free_form_in_the_window_asks_for_consent_only_under_always() -> None:
    """S5"""
    assert Scene(QUIET).play(said(0), sent(1, "text", "marketing"))[-1] == "accepted s1: window-open"
    always = Scene(policy(marketing_needs_opt_in="always"))
    assert always.play(said(0), sent(1, "text", "marketing"))[-1] == "rejected s1: no-consent"
    assert always.play(sent(2))[-1] == "accepted s1: window-open"


def test_a_message_opens_the_window_but_is_no_opt_in() -> None:
    """S5"""
    scene = Scene(policy(marketing_needs_opt_in="always"))
    assert scene.play(said(0), template(1, "marketing"))[-1] == "rejected s1: no-consent"


def test_consent_outlives_the_window() -> None:
    """S5"""
    scene = Scene(QUIET)
    scene.play(consent(0, "marketing", granted=True), said(0), tick(30 * DAY))
    assert scene.play(template(30 * DAY, "marketing")) == ["accepted s1: template"]
    scene.play(consent(30 * DAY, "all", granted=False), tick(60 * DAY))
    assert scene.play(template(60 * DAY, "marketing")) == ["rejected s1: opt-out"]


def test_consent_is_judged_as_last_known_not_as_of_the_sends_time() -> None:
    """S4"""
    scene = Scene(QUIET)
    scene.play(said(0), consent(HOUR, "all", granted=False))
    assert scene.play(sent(1)) == ["rejected s1: opt-out"]


STAGES: list[tuple[str, Callable[[], list[Event]]]] = [
    ("opt-out", lambda: [consent(0, "all", granted=False), consent(0, "marketing", granted=False)]),
    ("marketing-opt-out", lambda: [consent(0, "marketing", granted=False)]),
    ("no-window", list),
]


@pytest.mark.parametrize(("reason", "before"), STAGES, ids=[reason for reason, _ in STAGES])
def test_the_first_reason_that_applies_is_told(reason: str, before: Callable[[], list[Event]]) -> None:
    """S1 S4 S5"""
    scene = Scene(policy(marketing_needs_opt_in="always"))
    scene.play(*before())
    assert scene.play(sent(1, "text", "marketing")) == [f"rejected s1: {reason}"]


def test_the_reasons_stand_in_the_order_in_which_they_are_tried() -> None:
    """S1 S4 S5"""
    assert list(REFUSALS) == ["opt-out", "marketing-opt-out", "window-closed", "no-window", "no-consent"]
    assert {reason: code for reason, (code, _) in REFUSALS.items() if code} == {
        "marketing-opt-out": 131050,
        "window-closed": 131047,
        "no-window": 131047,
    }
    assert {remedy for _, remedy in REFUSALS.values()} == {"none", "send-template", "ask-consent"}


# ------------------------------------------------------------------------------------------------------- echoes, intent


def test_an_echo_is_never_judged() -> None:
    """S7"""
    scene = Scene(QUIET)
    scene.play(consent(0, "all", granted=False))
    assert scene.play(echoed(1)) == []
    assert not scene.knows()


def test_a_done_send_is_told_only_where_the_rules_would_have_refused_it() -> None:
    """S1: intent."""
    scene = Scene(QUIET)
    assert scene.play(sent(0, done=True)) == ["rejected s1: no-window"]
    assert scene.play(said(1), sent(2, done=True)) == ["opened"]
    assert scene.play(template(3, done=True)) == []


def test_accepted_sends_can_be_kept_quiet_and_still_answer() -> None:
    """S1 E3"""
    scene = Scene(policy(emit_accepted=False))
    assert scene.play(said(0), sent(1)) == ["opened"]
    assert scene.window().last_answer_at == T0 + 1
    assert scene.play(sent(DAY))[-1] == "rejected s1: window-closed"


def test_a_send_that_comes_twice_is_judged_twice() -> None:
    """S8: its events have the same id (see the codec), which a consumer can drop."""
    scene = Scene(QUIET)
    assert scene.play(said(0), sent(1), sent(1))[1:] == ["accepted s1: window-open"] * 2


# ---------------------------------------------------------------------------------------------------------- valid until


@pytest.mark.parametrize(
    ("send", "rests"),
    [
        (sent(5), True),
        (sent(5, "text", "utility"), True),
        (template(5, "utility"), False),
        (template(5, "marketing"), True),  # without a grant only the window lets it pass
    ],
)
def test_a_verdict_that_rests_on_the_window_is_valid_until_a_minute_before_its_end(send: Send, rests: bool) -> None:
    """S1 S5"""
    scene = Scene(QUIET)
    scene.play(said(0), send)
    assert accepted(scene).valid_until == (T0 + DAY - MINUTE if rests else None)


def test_a_verdict_that_a_grant_or_direct_send_would_give_too_does_not_rest_on_the_window() -> None:
    """S3 S5"""
    scene = Scene(DIRECT)
    scene.play(said(0), consent(1, "marketing", granted=True))
    for send in (template(2, "marketing"), sent(2, "text", "utility")):
        scene.play(send)
        assert (accepted(scene).reason, accepted(scene).valid_until) == ("window-open", None)


def test_the_margin_before_the_end_is_policy_and_counts_from_the_announced_end_too() -> None:
    """S8"""
    scene = Scene(policy(safety_margin_ms=0))
    scene.play(said(0), tick(DAY), sent(DAY - 1))
    assert accepted(scene).valid_until == T0 + DAY


# ---------------------------------------------------------------------------------------------------------- observation


def test_observation_accepts_all_and_says_what_would_have_been_refused() -> None:
    """S1"""
    scene = Scene(OBSERVE)
    scene.play(sent(0))
    assert accepted(scene) == Accepted(KEY, T0, sent(0), None, None, None, None, "no-window")
    scene.play(said(1), tick(2 * DAY), sent(2 * DAY))
    assert (accepted(scene).reason, accepted(scene).would_reject) == (None, "window-closed")


def test_observation_says_nothing_of_what_would_have_passed() -> None:
    """S1"""
    scene = Scene(OBSERVE)
    scene.play(said(0), sent(1))
    assert (accepted(scene).reason, accepted(scene).would_reject) == ("window-open", None)
    assert accepted(scene).valid_until == T0 + DAY - MINUTE


@pytest.mark.parametrize(
    ("send", "reason"),
    [
        (sent(5), None),
        (sent(5, "audio", "utility"), None),
        (sent(5, "text", "marketing"), None),
        (sent(5, "text", "utility"), "direct-send"),
        (template(5, "utility"), "template"),
        (template(5, "marketing"), "template"),
    ],
)
def test_an_observed_send_has_a_reason_only_where_one_holds(send: Send, reason: str | None) -> None:
    """S1 S2 S3 S4"""
    scene = Scene(policy(direct_send=("*",), enforcement="observe"))
    scene.play(consent(0, "all", granted=False), send)
    assert (accepted(scene).reason, accepted(scene).would_reject) == (reason, "opt-out")


def test_an_observed_opt_out_in_the_window_shows_the_window_and_no_end_of_validity() -> None:
    """S4"""
    scene = Scene(OBSERVE)
    scene.play(said(0), consent(1, "all", granted=False), sent(2))
    assert accepted(scene) == Accepted(KEY, T0 + 2, sent(2), "window-open", T0, T0 + DAY, None, would_reject="opt-out")


def test_observation_says_nothing_of_a_done_send_and_takes_it_as_an_answer() -> None:
    """E3"""
    scene = Scene(OBSERVE)
    scene.play(said(0), consent(1, "all", granted=False))
    assert scene.play(sent(2, done=True)) == []
    assert scene.window().last_answer_at == T0 + 2
    scene.play(sent(3))
    assert scene.window().last_answer_at == T0 + 3


# --------------------------------------------------------------------------------------------------------- effects from


def test_what_became_true_before_effects_from_changes_state_and_emits_nothing() -> None:
    """W2 E1 W4 S1"""
    scene = Scene(Policy(effects_from_ms=T0 + DAY))
    assert scene.play(said(0), sent(1), sent(2, "text"), template(DAY - 1, "marketing")) == []
    assert scene.pass_until(DAY) == ["closed"]  # true from that very moment on
    assert scene.window().last_answer_at == T0 + 2
    assert scene.play(said(DAY + 1), sent(DAY + 2)) == ["opened", "accepted s1: window-open"]


def test_what_became_true_at_that_very_time_is_emitted() -> None:
    """W2 S1"""
    scene = Scene(Policy(effects_from_ms=T0 + 1))
    assert scene.play(said(0), sent(0)) == []
    scene = Scene(Policy(effects_from_ms=T0))
    assert scene.play(said(0), sent(0)) == ["opened", "accepted s1: window-open"]


def test_a_late_warning_is_true_from_its_deadline_on() -> None:
    """E1a"""
    scene = Scene(Policy(effects_from_ms=T0 + 22 * HOUR + 1))
    scene.play(tick(23 * HOUR))
    assert scene.play(said(0)) == []
    later = Scene(Policy(effects_from_ms=T0 + 22 * HOUR))
    later.play(tick(23 * HOUR))
    assert later.play(said(0)) == ["expiring 7200"]


def test_every_decision_is_signed_with_the_key_and_the_time_at_which_it_became_true() -> None:
    """S8"""
    scene = Scene()
    scene.play(said(0), sent(HOUR), tick(DAY), sent(DAY + 1))
    assert [decision.time_ms - T0 for decision in scene.decisions] == [0, HOUR, 22 * HOUR, DAY, DAY + 1]
    assert {decision.key for decision in scene.decisions} == {KEY}


def test_the_modes_of_opt_in_are_those_of_the_rules() -> None:
    """S5"""
    assert set(get_args(Policy.__annotations__["marketing_needs_opt_in"])) == {"off", "outside-window", "always"}
