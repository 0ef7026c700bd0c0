"""A table of places: what spreadsheets save is read, and what is wrong is told line by line."""

import csv

import pytest

from adapters.agenda.csv_lines import LONGEST_LINE, MOST_ERRORS, _lines, read_csv
from sas_matcher.domain.agenda import MOST_LINES

HEADER = "date;debut;fin;duree;places;mode;type;offres;visibilite"


def table(*lines: str, header: str = HEADER) -> bytes:
    return "\r\n".join([header, *lines, ""]).encode()


def test_what_people_write_is_understood() -> None:
    read = read_csv(
        table(
            "27/11/2026;8h30;12h;15;;;;;",
            "2026-11-28;14:00;18:00;;8;Téléconsultation;sans RDV;enfant, pmr;PRO",
            "",
            "28/11/2026;22h;2h;;4;visite;;;",
            "1/12/2026;9:00;9:20;;;;;;",
        )
    )
    assert read.errors == [] and read.lines == 4
    morning, plage, night, single = read.hours
    assert (morning["first"], morning["start"], morning["end"]) == ("2026-11-27", "08:30", "12:00")
    assert (morning["each_min"], morning["capacity"], morning["mode"]) == (15, None, "cabinet")
    assert (plage["capacity"], plage["mode"], plage["booking_kind"]) == (8, "tele", "walkin")
    assert (plage["offers"], plage["visibility"]) == (["enfant", "pmr"], "pro")
    assert (night["start"], night["end"], night["mode"]) == ("22:00", "02:00", "visite")
    assert (single["first"], single["each_min"]) == ("2026-12-01", 20)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
@pytest.mark.parametrize("separator", [";", ",", "\t"])
def test_encodings_and_separators_of_spreadsheets(encoding: str, separator: str) -> None:
    lines = ["Date;Début;Fin;Durée;Visibilité", "27/11/2026;08:00;09:00;15;public"]
    read = read_csv("\n".join(lines).replace(";", separator).encode(encoding))
    assert read.errors == [] and [one["visibility"] for one in read.hours] == ["public"]


def test_the_same_lines_in_another_order_are_the_same_hours() -> None:
    lines = ("27/11/2026;8h;9h;15;;;;;", "2026-11-28;8:00;9:00;;3;;;;", "27/11/2026;8h;9h;20;;;;;")
    first, again = (read_csv(table(*order)).hours for order in (lines, lines[::-1]))
    assert sorted(one["id"] for one in first) == sorted(one["id"] for one in again)
    assert len({one["id"] for one in first}) == 3


@pytest.mark.parametrize(
    ("line", "column", "word"),
    [
        ("31/02/2026;8h;9h;15;;;;;", "date", "31/02/2026"),
        (";8h;9h;15;;;;;", "date", "n'est pas un jour"),
        ("27/11/1926;8h;9h;15;;;;;", "date", "1926"),
        ("27/11/2026;25h;9h;15;;;;;", "debut", "25h"),
        ("27/11/2026;8h;;15;;;;;", "fin", "n'est pas une heure"),
        ("27/11/2026;4h;23h;15;;;;;", "fin", "16 h au plus"),
        ("27/11/2026;8h;9h;15;4;;;;", "places", "ne vont pas ensemble"),
        ("27/11/2026;8h;18h;;;;;;", "fin", "indiquez duree ou places"),
        ("27/11/2026;8h;9h;90;;;;;", "duree", "90 min ne tiennent pas"),
        ("27/11/2026;8h;9h;2;;;;;", "duree", "5 à 240"),
        ("27/11/2026;8h;9h;;0;;;;", "places", "1 à 200"),
        ("27/11/2026;8h;9h;;1,5;;;;", "places", "1 à 200"),
        ("27/11/2026;8h;9h;15;;bateau;;;", "mode", "cabinet"),
        ("27/11/2026;8h;9h;15;;;peut-être;;", "type", "avec rdv"),
        ("27/11/2026;8h;9h;15;;;;piscine;", "offres", "pmr"),
        ("27/11/2026;8h;9h;15;;;;;secret", "visibilite", "snp"),
        ("27/11/2026;8h;9h;15;;;;;;Mme X", "", "10 cellules pour 9"),
        ('27/11/2026;8h;9h;15;;;;;"', "", "guillemets"),
        ("27/11/2026;8h;9h;15;;;;;" + "x" * 2_001, "", "2000 caractères"),
    ],
)
def test_what_is_wrong_is_named_by_line_and_column_with_the_fix(line: str, column: str, word: str) -> None:
    good = "26/11/2026;8h;9h;15;;;;;"
    read = read_csv(table(good, line))
    assert [(one.line, one.column) for one in read.errors] == [(3, column)], read.errors
    assert word in read.errors[0].message
    assert len(read.hours) == 1


@pytest.mark.parametrize(
    ("header", "column", "word"),
    [
        ("date;debut;fin;patient", "patient", "colonne inconnue"),
        ("date;debut;fin;debut", "debut", "deux fois"),
        ("date;debut", "fin", "manque"),
        ("", "date", "manque"),
        ("date;debut;fin\x00", "", "octet nul"),
    ],
)
def test_a_header_that_is_not_one(header: str, column: str, word: str) -> None:
    read = read_csv(table("27/11/2026;8h;9h;15", header=header))
    assert [(one.line, one.column) for one in read.errors] == [(1, column)] and word in read.errors[0].message
    assert read.hours == []


def test_a_line_told_twice_and_a_table_without_lines() -> None:
    line = "27/11/2026;8h;9h;15;;;;;"
    twice = read_csv(table(line, "27/11/2026;08:00;09:00;15;;;;;"))
    assert [one.message for one in twice.errors] == ["répète la ligne 2 ; ôtez-la, ou augmentez ses places"]
    assert "aucune ligne" in read_csv(table()).errors[0].message
    assert read_csv(b"").errors and read_csv(b"\xff\xfe\x00").errors


def big(count: int) -> list[str]:
    days = [f"{1 + n % 28:02d}/{1 + n // 28 % 12:02d}/{2027 + n // 336}" for n in range(1_000)]
    return [f"{days[n % 1_000]};{8 + n // 1_000}h;{9 + n // 1_000}h;15;;;;;" for n in range(count)]


def test_ten_thousand_lines_are_read_and_no_more() -> None:
    read = read_csv(table(*big(MOST_LINES)))
    assert (read.lines, len(read.hours), read.errors) == (MOST_LINES, MOST_LINES, [])
    more = read_csv(table(*big(MOST_LINES), "01/01/2030;8h;9h;15;;;;;"))
    assert [one.line for one in more.errors] == [MOST_LINES + 2]
    wrong = read_csv(table(*["x;8h;9h;15;;;;;"] * MOST_LINES))
    assert len(wrong.errors) == MOST_ERRORS


def test_what_says_nothing_is_not_read_for_ever() -> None:
    """Eight megabytes of blank lines or empty cells were seconds of a thread, and counted for nothing."""
    line = "27/11/2026;8h;9h;15;;;;;"
    for blank in ("", ";;;;;", "   "):
        read = read_csv(table(*[blank] * MOST_LINES, line))
        assert (read.lines, read.errors) == (1, [])
        read = read_csv(table(*[blank] * (MOST_LINES + 5), line))
        assert [(one.line, one.message) for one in read.errors] == [
            (MOST_LINES + 2, f"plus de {MOST_LINES} lignes vides ; ôtez-les"),
            (2, "aucune ligne sous les titres de colonnes"),
        ]
    # empty cells at the end of a line are no cells
    many = ";" * 100_000
    text = table(line + many, many, header=HEADER + many).decode()
    assert [len(row) for row in csv.reader(_lines(text, ";"), delimiter=";")] == [9, 4, 0]
    read = read_csv(text.encode())
    assert (read.lines, read.errors) == (1, [])
    # at its beginning they are, up to the length of a line
    for header, lines, number in ((many + "x", (), 1), (HEADER, (line, many + "x", line), 3)):
        (error,) = read_csv(table(*lines, header=header)).errors
        assert (error.line, error.message.split(" ;")[0]) == (number, f"ligne de plus de {LONGEST_LINE} caractères")
    read = read_csv(table(*[";" * 1_000 + "x"] * MOST_LINES))
    assert len(read.errors) == MOST_ERRORS and read.lines == MOST_ERRORS
