"""Reading CSV files: an error costs one line, and every line is accounted for."""

import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.load.csv_records import FIELD_LIMIT, Records
from runtime.load.rows import LoadReport, UnreadableFile, read_rows
from tests.support.growth import growth


def rows_of(path: Path, content: bytes) -> tuple[list[list[str]], LoadReport]:
    """The rows read from a file with the columns a and b."""
    path.write_bytes(content)
    report = LoadReport()
    return [[row["a"], row["b"]] for _, row in read_rows(path, ["a", "b"], report)], report


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.csv"


@pytest.mark.parametrize(
    ("content", "rows", "broken_lines"),
    [
        (b'"x,1\ny,2\nz,3\n', [["y", "2"], ["z", "3"]], [2]),
        (b'"x,1\n"y",2\nz,3\n', [["y", "2"], ["z", "3"]], [2]),
        (b'x,"1\ny,2\n"z, Z","3"\n', [["y", "2"], ["z, Z", "3"]], [2]),
        (b'"x,1\n"y,2\nz,3\n', [["z", "3"]], [2, 3]),
        (b'"Say" Hello,1\ny,2\n', [["y", "2"]], [2]),
        (b'"two\nlines",1\ny,2\n', [["two\nlines", "1"], ["y", "2"]], []),
        (b'"two\nlines"\ny,2\n', [["y", "2"]], [2, 3]),
        (b'x\n"y",2,3\nz,3', [["z", "3"]], [2, 3]),
        (b"x,1\r\n\r\ny,2\r\n", [["x", "1"], ["y", "2"]], []),
        (b"x,1\ry,2\r", [["x", "1"], ["y", "2"]], []),
        (b"x\0,1\nLatin\xe9,1\ny,2\n", [["y", "2"]], [2, 3]),
        (b"x" * (FIELD_LIMIT + 1) + b",1\ny,2\n", [["y", "2"]], [2]),
        (b'"' + b"x\n" * FIELD_LIMIT + b"y,2\n", [["y", "2"]], [*range(2, FIELD_LIMIT + 2)]),
        (b'"The ""Real"" Thing",1\n', [['The "Real" Thing', "1"]], []),
        (b'"",1\n', [["", "1"]], []),
        (b'un"closed,1\ny,2\n', [["y", "2"]], [2]),
        (b'unclosed "quote,1\ny,"2"\n', [["y", "2"]], [2]),
        (b'The "Real" Thing,"1"\ny,2\n', [["y", "2"]], [2]),
        (b' "x",1\n"y, ""Z""",""\n', [['y, "Z"', ""]], [2]),
        (b'"two\n""li,""nes",x"1\n"y\n,""z","2"\n', [['y\n,"z', "2"]], [2, 3]),
    ],
)
def test_a_broken_row_costs_its_own_line(
    file: Path, content: bytes, rows: list[list[str]], broken_lines: list[int]
) -> None:
    found, report = rows_of(file, b"a,b\n" + content)
    assert found == rows
    assert [broken.line for broken in report.broken] == broken_lines
    assert report.rows == len(found) + len(report.broken)


def test_what_breaks_a_row_is_named(file: Path) -> None:
    _, report = rows_of(file, b'a,b\nN\0,1\nLatin\xe9\0,1\nun"quoted,1\n')
    assert [broken.reason for broken in report.broken] == [
        "a NUL character, which no text may hold",
        "not valid UTF-8 text",
        "a quote in a field that is not quoted",
    ]


def test_a_mark_of_the_byte_order_is_no_part_of_the_first_column(file: Path) -> None:
    assert rows_of(file, b"\xef\xbb\xbfa , b\r\nx,1\r\n")[0] == [["x", "1"]]


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (b"a,b,a\n", "has the column(s) a twice"),
        (b"a,b,c,c\n", "has the column(s) c twice"),
        (b'"a,b\n', "a header that is no line of CSV"),
        ("a,b\n".encode("utf-16"), "it is not UTF-8 text"),
        (b"a;b\n", "lacks the column(s) a, b"),
        (b"", "is empty"),
        (b"\n\n", "is empty"),
    ],
)
def test_a_header_that_leaves_doubt_is_refused(file: Path, header: bytes, says: str) -> None:
    with pytest.raises(UnreadableFile, match=re.escape(says)):
        rows_of(file, header)


def test_a_spare_comma_behind_every_line_is_no_column_twice(file: Path) -> None:
    assert rows_of(file, b"a,b,,\nx,1,,\n")[0] == [["x", "1"]]


@given(
    st.lists(
        st.lists(st.text("ab\",'\n\r é\u2028", max_size=5), min_size=1, max_size=3), max_size=5
    )
)
def test_csv_is_read_as_it_was_written(rows: list[list[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    records = [
        record for record in Records(io.StringIO(text.getvalue(), newline="")) if not record.broken
    ]
    assert [record.values for record in records] == rows


@given(st.text('ab",\n\r\0é', max_size=60))
def test_reading_ends_and_no_line_is_left_out(text: str) -> None:
    lines = list(io.StringIO(text, newline=""))
    read = list(Records(lines))
    starts = [record.line for record in read]
    assert starts == sorted({*starts})
    for number, line in enumerate(lines, 1):
        before = max(
            (record for record in read if record.line <= number), default=None, key=lambda r: r.line
        )
        blank = not line.strip("\r\n")
        assert blank or (before is not None and (before.line == number or not before.broken)), (
            number,
            read,
        )


def test_many_quotes_that_are_not_closed_take_no_more_than_their_length() -> None:
    assert (
        growth(lambda lines: sum(1 for _ in Records(['"' + "x" * 98 + "\n"] * lines)), 2_000) <= 3
    )
