"""Consent, pure: two registers, each the newest by its own time (S4, S5)."""

from itertools import permutations

import pytest

from processor.core.consent import Consents, Register
from processor.core.events import Consent
from tests.scene import DAY, HOUR, KEY, OTHER_KEY, T0, Scene, consent, said, sent, template, tick


def register(after: int, granted: bool) -> Register:
    return Register(granted, T0 + after)


def test_a_grant_and_a_revocation_change_their_own_register_only() -> None:
    """S4"""
    consents = Consents()
    assert consents.apply(consent(1, "marketing", granted=True))
    assert consents.apply(consent(2, "all", granted=False))
    assert consents == Consents(register(1, True), register(2, False))


def test_the_newest_by_its_own_time_stands_whatever_the_order_of_arrival() -> None:
    """S4: opt-out then opt-in, out of order."""
    words = [consent(1, "all", granted=True), consent(2, "all", granted=False), consent(3, "all", granted=True)]
    for order in permutations(words):
        consents = Consents()
        for each in order:
            consents.apply(each)
        assert consents.all == register(3, True)


@pytest.mark.parametrize("order", [(True, False), (False, True)])
def test_at_equal_times_the_revocation_stands(order: tuple[bool, bool]) -> None:
    """S4"""
    consents = Consents()
    for granted in order:
        consents.apply(consent(1, "marketing", granted=granted))
    assert consents.marketing == register(1, False)


@pytest.mark.parametrize(
    ("known", "word", "changes"),
    [
        (True, consent(5, "all", granted=True), False),
        (True, consent(5, "all", granted=False), True),
        (False, consent(5, "all", granted=True), False),
        (False, consent(5, "all", granted=False), False),
        (True, consent(4, "all", granted=False), False),
        (False, consent(4, "all", granted=True), False),
        (True, consent(6, "all", granted=True), True),
        (False, consent(6, "all", granted=False), True),
        (False, consent(6, "all", granted=True), True),
        (True, consent(1, "marketing", granted=True), True),
    ],
)
def test_it_says_whether_a_register_changed(known: bool, word: Consent, changes: bool) -> None:
    """S4: in its value or in its time."""
    consents = Consents(all=register(5, known))
    before = Consents(consents.marketing, consents.all)
    assert consents.apply(word) == changes
    assert (consents != before) == changes


def test_only_what_changed_is_written() -> None:
    """S4"""
    scene = Scene()
    assert scene.changed(consent(5, "all", granted=True)) == (set(), {KEY})
    assert scene.changed(consent(5, "all", granted=True), consent(4, "all", granted=False)) == (set(), set())
    assert scene.changed(consent(4, "marketing", granted=False, key=OTHER_KEY)) == (set(), {OTHER_KEY})


def test_a_consent_is_applied_however_late_it_comes() -> None:
    """S4"""
    scene = Scene()
    scene.play(tick(365 * DAY), consent(0, "all", granted=False))
    assert scene.consents().all == register(0, False)


def test_a_consent_never_touches_the_window() -> None:
    """S5"""
    scene = Scene()
    scene.play(said(0))
    before = scene.restarted().window()
    scene.play(consent(HOUR, "all", granted=False), consent(HOUR, "marketing", granted=True))
    assert scene.window() == before
    assert not Scene().play(consent(0, "all", granted=True))


def test_consent_is_of_one_key_alone() -> None:
    """W1 S4"""
    scene = Scene()
    scene.play(consent(0, "all", granted=False), said(0), said(0, key=OTHER_KEY))
    assert scene.play(sent(1), sent(1, key=OTHER_KEY)) == ["rejected s1: opt-out", "accepted s1: window-open"]


def test_consent_is_never_forgotten_and_survives_a_restart() -> None:
    """S5"""
    scene = Scene()
    scene.play(said(0), consent(1, "marketing", granted=True), tick(100 * DAY))
    assert not scene.knows()
    assert scene.restarted().play(template(100 * DAY, "marketing")) == ["accepted s1: template"]


def test_a_new_grant_ends_an_opt_out() -> None:
    """S4"""
    scene = Scene()
    scene.play(said(0), consent(1, "all", granted=False))
    assert scene.play(sent(2)) == ["rejected s1: opt-out"]
    scene.play(consent(3, "all", granted=True))
    assert scene.play(sent(4)) == ["accepted s1: window-open"]


def test_a_grant_for_all_does_not_undo_a_revocation_of_marketing() -> None:
    """S4"""
    scene = Scene()
    scene.play(said(0), consent(1, "marketing", granted=False), consent(2, "all", granted=True))
    assert scene.play(template(3, "marketing")) == ["rejected s1: marketing-opt-out"]
