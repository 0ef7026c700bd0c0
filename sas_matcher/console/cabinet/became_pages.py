"""What my places became, in a picture, a table and a file; and the statement of what taking part gives back."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final

from starlette.responses import Response

from sas_matcher.console.cabinet.became import DaySum, chart_of, sums_of, total_of
from sas_matcher.console.cabinet.board import Place, place_of, visitor_of, window_of
from sas_matcher.console.cabinet.here import Here, here_of, pages
from sas_matcher.console.visit import Visit
from sas_matcher.domain.errors import InvalidInputError
from sas_matcher.services.statement import ACT_COLUMNS, WEEK_COLUMNS, as_csv

_DAYS: Final = {"7": 7, "30": 30}
_PAGE: Final = 1_000
_MOST: Final = 10_000  # places of a month; who has more chooses a professional or a structure
_TABLES: Final = {"acts": ACT_COLUMNS, "weeks": WEEK_COLUMNS}
_COLUMNS: Final = (
    ("date", "date"),
    ("published", "places publiées"),
    ("filled", "pourvues"),
    ("honoured", "patients venus"),
    ("missed", "patients absents"),
    ("expected", "sans réponse"),
    ("returned", "rendues au cabinet"),
    ("unused", "restées libres"),
)


def _window(here: Here) -> tuple[tuple[datetime, datetime], int]:
    asked = here.visit.request.query_params.get("jours", "7")
    if asked not in _DAYS:
        raise InvalidInputError.of("jours", "7 ou 30")
    days = _DAYS[asked]
    begun, end = window_of(here.visit.now, here.zone, 1)
    first = datetime.combine(begun.date() - timedelta(days=days - 1), begun.timetz())
    return (first, end), days


async def _sums(here: Here) -> tuple[list[DaySum], bool]:
    window, days = _window(here)
    places: list[Place] = []
    after = 0
    while len(places) < _MOST:
        rows = await here.visit.wire.publishing.published(here.publisher, window, after, _PAGE)
        places += map(place_of, rows)
        if len(rows) < _PAGE:
            break
        after = places[-1].slot_id
    return sums_of(places, window[0].date(), days, here.zone), len(places) >= _MOST


@pages.get("/cabinet/bilan")
async def became(visit: Visit) -> Response:
    """Show what became of the places of the last days."""
    here = await here_of(visit)
    sums, cut = await _sums(here)
    window, days = _window(here)
    visitors = [visitor_of(one, visit.now) for one in await visit.wire.bookings.page(here.publisher, window, _PAGE)]
    gone = Counter(one.booking["state"] for one in visitors if one.state == "gone")
    return here.show(
        "became.html", sums=sums, total=total_of(sums), chart=chart_of(sums), days=days, gone=gone, cut=cut
    )


@pages.get("/cabinet/bilan.csv")
async def became_file(visit: Visit) -> Response:
    """Return the same as a table."""
    here = await here_of(visit)
    sums, _ = await _sums(here)
    rows = [{title: _plain(getattr(one, name)) for name, title in _COLUMNS} for one in sums]
    return _table(rows, [title for _, title in _COLUMNS], f"bilan-{sums[0].date}-{sums[-1].date}.csv")


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    # with a mark, spreadsheets read it as UTF-8
    return Response("\ufeff" + as_csv(rows, columns), 200, headers, media_type="text/csv; charset=utf-8")


# -- the statement -----------------------------------------------------------------------------------------------------


@pages.get("/cabinet/releve")
async def statement(visit: Visit) -> Response:
    """Show what taking part gives back in a month: hours, patients, and each act with the facts of its supplement."""
    here = await here_of(visit)
    month, found = await _statement(here)
    return here.show("statement.html", month=month, statement=found, now=visit.now)


@pages.get("/cabinet/releve.csv")
async def statement_file(visit: Visit) -> Response:
    """Return one of its two tables."""
    here = await here_of(visit)
    what = visit.request.query_params.get("quoi", "acts")
    if what not in _TABLES:
        raise InvalidInputError.of("quoi", "acts ou weeks")
    month, found = await _statement(here)
    return _table(found[what], _TABLES[what], f"releve-{month}-{'actes' if what == 'acts' else 'semaines'}.csv")


async def _statement(here: Here) -> tuple[str, dict[str, Any]]:
    month = here.visit.request.query_params.get("mois") or f"{here.visit.now.astimezone(here.zone):%Y-%m}"
    if re.fullmatch(r"20[2-9][0-9]-(0[1-9]|1[0-2])", month) is None:
        raise InvalidInputError.of("mois", "par exemple 2026-11")
    begin = datetime.fromisoformat(f"{month}-01").replace(tzinfo=here.zone)
    # 32 days later lies in the next month, whatever the month
    end = (begin + timedelta(days=32)).replace(day=1)
    publisher = here.publisher
    every = publisher.source if "*" in publisher.professionals else None
    owners = (every, sorted(publisher.professionals), sorted(publisher.structures))
    return month, await here.visit.wire.statements.of(owners, (begin, end))
