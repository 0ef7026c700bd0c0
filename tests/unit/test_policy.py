"""Which policy decides, by what the territory has chosen, allowed and declared."""

import itertools

import pytest

from sas_matcher.domain.policy import (
    DEFAULT_SETTING,
    LIVE_POLICIES,
    MOST_AGEING_PCT_PER_H,
    Policy,
    effective,
    needs_leave,
)
from sas_matcher.domain.vocabulary import DELAY_SPAN, Tier, tier_of
from sas_matcher.matching.terms import Terms


@pytest.mark.parametrize(
    ("allowed", "declared", "expected"),
    [
        (False, False, Policy.AUTO),
        (True, False, Policy.AUTO),
        (False, True, Policy.AUTO),
        (True, True, Policy.CRISIS),
    ],
)
def test_auto_breaks_promises_only_where_a_crisis_is_allowed_and_declared(
    allowed: bool, declared: bool, expected: Policy
) -> None:
    assert effective(Policy.AUTO, allowed, declared) is expected


def test_crisis_displaces_nobody_without_leave() -> None:
    assert effective(Policy.CRISIS, True, False) is Policy.CRISIS
    assert effective(Policy.CRISIS, False, True) is Policy.PROMISE


def test_every_other_policy_is_what_it_is() -> None:
    for policy in set(Policy) - {Policy.AUTO, Policy.CRISIS}:
        for allowed, declared in itertools.product((False, True), repeat=2):
            assert effective(policy, allowed, declared) is policy


def test_a_policy_that_has_no_name_is_none() -> None:
    assert effective("auto", True, True) is Policy.CRISIS
    with pytest.raises(ValueError, match="later"):
        effective("later", True, True)


def test_a_crisis_needs_leave_whether_declared_or_chosen() -> None:
    assert needs_leave(["firm", "crisis"], crisis=False)
    assert needs_leave(["firm", "auto"], crisis=True)
    assert not needs_leave(["firm", "promise", "auto"], crisis=False)


def test_where_nothing_is_changed_every_place_is_firm() -> None:
    assert DEFAULT_SETTING["policy"] == dict.fromkeys(Tier, "firm")
    assert not needs_leave(DEFAULT_SETTING["policy"].values(), crisis=DEFAULT_SETTING["crisis"])


def test_no_patient_is_matched_by_a_policy_that_is_there_to_be_compared_with() -> None:
    assert set(LIVE_POLICIES) == {"firm", "promise", "crisis", "auto"}


def test_the_oldest_request_never_outweighs_a_fresh_one_of_a_higher_tier() -> None:
    tiers = Terms().tiers
    windows = {tier: max(span for delay, span in DELAY_SPAN.items() if tier_of(delay) is tier) for tier in Tier}
    for higher, lower in itertools.pairwise(Tier):
        hours = windows[lower].total_seconds() / 3600
        assert tiers[lower].value * (1 + MOST_AGEING_PCT_PER_H / 100 * hours) < tiers[higher].value
