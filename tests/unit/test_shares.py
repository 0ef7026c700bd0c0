"""How several matchers share the territories, move them and take over those of who is gone."""

import pytest

from sas_matcher.services.matcher.shares import ORPHANED, Shares

ALL = ["01", "02", "03", "04", "05"]


def matched(*territories: str) -> set[str]:
    return set(ALL) - set(territories)


def test_one_matcher_has_them_all_and_shares_with_nobody() -> None:
    assert Shares(ALL, 0, 1).alone
    assert Shares(ALL, 0, 1).wanted({}, [], []) == ALL


def test_several_have_every_territory_once() -> None:
    parts = [Shares(ALL, share, 3).wanted({}, ALL, []) for share in range(3)]
    assert sorted(name for part in parts for name in part) == ALL
    assert all(parts)


def test_a_territory_moves_to_whom_it_was_given() -> None:
    moved = {"01": 1}
    assert "01" not in Shares(ALL, 0, 2).wanted(moved, ALL, ["01"])
    assert "01" in Shares(ALL, 1, 2).wanted(moved, ALL, [])
    # a share that nobody has: as if it were not moved
    assert "01" in Shares(ALL, 0, 2).wanted({"01": 7}, ALL, [])


def test_an_orphan_is_taken_over_and_not_before_its_own_had_time_to_come_back() -> None:
    shares = Shares(ALL, 0, 2)
    for _ in range(ORPHANED):
        assert "02" not in shares.wanted({}, matched("02"), [])
    assert "02" in shares.wanted({}, matched("02"), [])
    # it stays: its own may never come back
    assert "02" in shares.wanted({}, ALL, ["02"])
    assert "02" not in shares.wanted({"02": 1}, ALL, ["02"])


def test_a_gap_of_one_look_makes_no_orphan() -> None:
    shares = Shares(ALL, 0, 2)
    for _ in range(4):
        assert "02" not in shares.wanted({}, matched("02"), [])
        assert "02" not in shares.wanted({}, ALL, [])


def test_there_is_no_third_of_two() -> None:
    with pytest.raises(ValueError, match="share 2 of 2"):
        Shares(ALL, 2, 2)
