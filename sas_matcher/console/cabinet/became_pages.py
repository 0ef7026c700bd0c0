"""What my places became: filled, honoured, missed, handed back, unused; a picture, a table, a file."""

import csv
import io
from collections import Counter
from datetime import datetime, timedelta
from typing import Final

from starlette.responses import Response

from sas_matcher.console.cabinet.became import DaySum, chart_of, sums_of, total_of
from sas_matcher.console.cabinet.board import Place, place_of, visitor_of, window_of
from sas_matcher.console.cabinet.here import Here, here_of, pages
from sas_matcher.console.visit import Visit
from sas_matcher.domain.errors import InvalidInputError

_DAYS: Final = {"7": 7, "30": 30}
_PAGE: Final = 1_000
_MOST: Final = 10_000  # places of a month; who has more chooses a professional or a structure
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
    text = io.StringIO()
    rows = csv.writer(text, delimiter=";")
    rows.writerow(title for _, title in _COLUMNS)
    rows.writerows([getattr(one, name) for name, _ in _COLUMNS] for one in sums)
    headers = {"Content-Disposition": f'attachment; filename="bilan-{sums[0].date}-{sums[-1].date}.csv"'}
    # with a mark, spreadsheets read it as UTF-8
    return Response("\ufeff" + text.getvalue(), 200, headers, media_type="text/csv; charset=utf-8")
