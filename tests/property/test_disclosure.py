"""What is not told cannot be worked out from what is."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sas_matcher.domain.disclosure import HIDDEN, LEAST, gini, rounded, share, tell

ROWS = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=2), st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=12
)


@settings(max_examples=60)
@given(ROWS)
def test_no_small_count_is_told_or_left_as_the_rest_of_a_total(rows: dict[str, tuple[int, int]]) -> None:
    told = tell(rows)
    assert told.keys() == rows.keys()
    for name, row in told.items():
        met, unmet = rows[name]
        for shown, count in ((row.asked, met + unmet), (row.met, met), (row.unmet, unmet)):
            assert shown is None or (shown == count and not 0 < shown < LEAST)
        # the parts of a row hide together, for its sum is known
        assert (row.met is None) == (row.unmet is None)
    hidden = [name for name, row in told.items() if row is HIDDEN]
    if hidden and any(row is not HIDDEN and row.asked for row in told.values()):
        # whoever knows the total learns a sum of several groups, and no small one
        assert len(hidden) > 1 and sum(sum(rows[name]) for name in hidden) >= LEAST


def test_nothing_small_hides_nothing() -> None:
    assert tell({"a": (7, 5), "b": (0, 0), "c": (9, 0)})["a"] == (12, 7, 5)
    assert tell({"a": (7, 5), "b": (3, 0), "c": (9, 0)}) == {"a": (12, 7, 5), "b": HIDDEN, "c": HIDDEN}


def test_public_counts_are_tens_and_shares_need_people() -> None:
    assert [rounded(n) for n in (0, 1, 9, 10, 14, 15, 26)] == [0, None, None, 10, 10, 20, 30]
    assert [share(7, 9), share(40, 49), share(45, 60), share(60, 60)] == [None, None, 75, 100]


def test_gini() -> None:
    assert gini([]) is None and gini([0, 0]) is None
    assert gini([3, 3, 3]) == 0 and gini([0, 0, 0, 4]) == 0.75
