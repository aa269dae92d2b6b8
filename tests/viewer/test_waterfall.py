from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from flask_bodytrace.viewer.model import Span
from flask_bodytrace.viewer.waterfall import Row, Waterfall, waterfall

START = 1_700_000_000 * 10**9


def shape(whole: Waterfall) -> list[tuple[int, int]]:
    return [(int(row.span.span_id, 16), row.depth) for row in whole.rows]


def path(rows: Sequence[Row]) -> list[tuple[int, float, float]]:
    """Who is waited for, when, in ms from the start."""
    found = [
        ((start - START) / 10**6, (end - START) / 10**6, int(row.span.span_id, 16))
        for row in rows
        for start, end in row.critical
    ]
    return [(number, start, end) for start, end, number in sorted(found)]


def test_children_are_below_their_parent_by_start(make_span: Callable[..., Span]) -> None:
    spans = [
        make_span(5, 9, id=3, parent=1),
        make_span(0, 10, id=1),
        make_span(2, 3, id=4, parent=2),
        make_span(1, 4, id=2, parent=1),
    ]
    assert shape(waterfall(spans)) == [(1, 0), (2, 1), (4, 2), (3, 1)]


def test_the_critical_path_covers_the_root_without_gaps(make_span: Callable[..., Span]) -> None:
    spans = [
        make_span(0, 100, id=1),
        make_span(10, 40, id=2, parent=1),
        make_span(30, 90, id=3, parent=1),
        make_span(50, 60, id=4, parent=3),
    ]
    # 2 still ran when 3 began, so nobody waited for it.
    assert path(waterfall(spans).rows) == [
        (1, 0, 30),
        (3, 30, 50),
        (4, 50, 60),
        (3, 60, 90),
        (1, 90, 100),
    ]


def test_a_child_that_outlives_its_parent_counts_until_its_end(
    make_span: Callable[..., Span],
) -> None:
    spans = [make_span(0, 50, id=1), make_span(20, 80, id=2, parent=1)]
    whole = waterfall(spans)
    assert path(whole.rows) == [(1, 0, 20), (2, 20, 50)]
    assert whole.duration == 80 * 10**6


def test_clock_skew_is_shown_as_it_is(make_span: Callable[..., Span]) -> None:
    spans = [make_span(10, 50, id=1), make_span(4, 20, id=2, parent=1)]
    whole = waterfall(spans)
    assert [row.skew for row in whole.rows] == [0, 6 * 10**6]
    assert whole.start == START + 4 * 10**6


def test_a_missing_parent_is_said(make_span: Callable[..., Span]) -> None:
    rows = waterfall([make_span(0, 5, id=2, parent=99), make_span(1, 2, id=3, parent=2)]).rows
    assert [row.orphan for row in rows] == [True, False]


def test_cycles_and_self_parents_are_cut(make_span: Callable[..., Span]) -> None:
    spans = [
        make_span(0, 9, id=1),
        make_span(1, 5, id=2, parent=3),
        make_span(2, 4, id=3, parent=2),
        make_span(3, 4, id=4, parent=4),
    ]
    rows = waterfall(spans).rows
    assert sorted(int(row.span.span_id, 16) for row in rows) == [1, 2, 3, 4]


def test_own_time_is_what_no_child_covers(make_span: Callable[..., Span]) -> None:
    spans = [
        make_span(0, 100, id=1),
        make_span(10, 40, id=2, parent=1),
        make_span(30, 60, id=3, parent=1),
    ]
    assert waterfall(spans).rows[0].own == 50 * 10**6


def test_a_chain_of_thousands_does_not_recurse(make_span: Callable[..., Span]) -> None:
    spans = [make_span(0, 10, id=n, parent=n - 1 if n > 1 else None) for n in range(1, 3001)]
    assert waterfall(spans).rows[-1].depth == 2999


@given(
    st.lists(
        st.tuples(st.integers(-5, 50), st.integers(-5, 50), st.integers(0, 12)),
        min_size=1,
        max_size=12,
    )
)
def test_whatever_comes_every_span_has_one_row_and_nothing_is_waited_for_twice(
    raw: list[tuple[int, int, int]],
) -> None:
    spans = [
        Span(
            "1" * 32, f"{number:016x}", f"{parent:016x}" if parent else None, "", 1,
            START + start * 10**6, START + end * 10**6, 0, "", "", "", "", {}, {}, [], [],
        )
        for number, (start, end, parent) in enumerate(raw, 1)
    ]  # fmt: skip
    rows = waterfall(spans).rows
    assert sorted(row.span.span_id for row in rows) == [span.span_id for span in spans]
    stretches = path(rows)
    for (_, _, end), (_, start, _) in itertools.pairwise(stretches):
        assert end == start
    assert all(end > start for _, start, end in stretches)
