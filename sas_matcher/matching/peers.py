"""What others do with the same places, for comparison only: the fair human peer and the national search engine.

Both decide one request after the other, in order of arrival, and make each firm at once; neither weighs one patient
against another. Pure: they read the market and the candidates, and return picks as ``engine.decide`` does.

``fcfs-nearest``: the nearest free place. Who finds none waits; the caller of ``choose`` lets him try again, in order of
arrival, at each change.

``official``: the rules of the national engine, as read in its published code (field notes, *Replay as policy
``official``*): slots are grouped into cards, cards are shown in an order in which no time is compared, and the first
card that has a place which fits gives its earliest. Who finds none is not tried again. Where the notes leave a choice:

- a card's place is the nearest place of its slots, which is kind to the engine where a structure has several sites;
- a card is of a profession when it shows a slot of it; only those are read;
- the cards of the médecin traitant are those that show a slot of his, a centre's card included; they are read first,
  as themselves: they take no part in the collapse of a CPTS;
- a card that shows slots of several CPTS belongs to the first by name; the members of a CPTS card are read in the
  order of the page on which it is shown;
- lots of 25 documents are not imitated: as only cards that show a slot are documents, lots change no order.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo
from functools import lru_cache
from itertools import islice
from typing import Final, NamedTuple

import numpy as np
import orjson

from sas_matcher.matching.candidates import Candidates, OpenRequest
from sas_matcher.matching.engine import ALTERNATIVES, HELPED, Pick
from sas_matcher.matching.market import Market
from sas_matcher.matching.partitions import Floats, Ints
from sas_matcher.travel import haversine_km

FCFS_NEAREST: Final = "fcfs-nearest"
OFFICIAL: Final = "official"
PEERS: Final = (FCFS_NEAREST, OFFICIAL)

PAGE: Final = 100  # documents of one answer of the national engine's index
SHOWN_DAYS: Final = 2  # it shows the slots up to the end of the day after tomorrow
_CENTRES: Final = ("sos", "cds")  # sources whose structure is one card; everyone else has a card of his own


@dataclass(frozen=True, slots=True)
class Search:
    """What a search of the national engine sees beside the request.

    Attributes:
        market: the live places.
        now: the instant, epoch seconds.
        zone: local time, which says when the day after tomorrow ends.
        default_radius_km: the circle that the platform draws in this territory; 0 where it sets none.
        seed: for the order of a widened circle, which the engine draws by chance.
    """

    market: Market
    now: float
    zone: tzinfo
    default_radius_km: float = 0.0
    seed: int = 0

    @property
    def until(self) -> float:
        """The end of what is shown: midnight after D+2, local time."""
        today = datetime.fromtimestamp(self.now, self.zone).date()
        return datetime.combine(today + timedelta(days=SHOWN_DAYS + 1), time(), self.zone).timestamp()


class _Found(NamedTuple):
    """A row of the candidates, and the reason code that tells how it came to be read."""

    row: int
    reason: str


def choose(policy: str, batch: Sequence[OpenRequest], found: Sequence[Candidates], search: Search) -> list[Pick]:
    """Let a peer decide a batch, whatever its order: by arrival, equal instants by id.

    Args:
        policy: one of ``PEERS``.
        batch: the open requests.
        found: for each, every place that it could be given now (``candidates.find_candidates``).
        search: what ``official`` sees; ``fcfs-nearest`` needs nothing but the candidates.

    Returns:
        One pick a request, in the order of the batch; method is the policy, ``gap`` −1: nobody looked for an optimum.

    Raises:
        ValueError: the policy is no peer.
    """
    if policy not in PEERS:
        raise ValueError(f"Expected one of {', '.join(PEERS)}, got {policy!r}.")
    taken: Counter[int] = Counter()
    read: list[list[_Found]] = [[] for _ in batch]
    arrival = sorted(range(len(batch)), key=lambda n: (batch[n].created_at, batch[n].id))
    for number in arrival:
        candidates = found[number]
        if policy == FCFS_NEAREST:
            rows = _nearest(candidates, taken)
        else:
            rows = _cards(batch[number], candidates, search, taken)
        read[number] = list(islice(rows, 1 + ALTERNATIVES))
        if read[number]:
            taken[int(found[number].slot_id[read[number][0].row])] += 1
    helped = set([number for number in arrival if not read[number]][:HELPED])
    picks = []
    for number, (request, candidates, rows_read) in enumerate(zip(batch, found, read, strict=True)):
        row = rows_read[0].row if rows_read else -1
        pick = Pick(
            request, candidates, row, policy, len(batch), -1, taken=taken, helped=number in helped, policy=policy
        )
        if rows_read:
            pick.reasons = _reasons(candidates, rows_read[0])
            pick.alternatives = [other.row for other in rows_read[1:] if _is_free(candidates, other.row, taken)]
        picks.append(pick)
    return picks


def _is_free(candidates: Candidates, row: int, taken: Mapping[int, int]) -> bool:
    return int(candidates.left[row]) > taken.get(int(candidates.slot_id[row]), 0)


def _reasons(candidates: Candidates, chosen: _Found) -> list[str]:
    """Reason codes, most telling first (see ``explain.REASON_TEXT``)."""
    codes = ["ONLY_PLACE"] if len(candidates) == 1 else []
    if candidates.is_mt[chosen.row] and chosen.reason != "MEDECIN_TRAITANT":
        codes.insert(0, "MEDECIN_TRAITANT")
    return [*codes, chosen.reason]


def _nearest(candidates: Candidates, taken: Mapping[int, int]) -> Iterator[_Found]:
    """Free rows, nearest first; téléconsultation needs no way. Equally near places go in the order of publication."""
    # the ledger numbers slots as they come
    for row in np.lexsort((candidates.slot_id, candidates.travel_min)).tolist():
        if _is_free(candidates, row, taken):
            yield _Found(row, "NEAREST_FREE" if candidates.travel_min[row] > 0 else "NO_TRAVEL")


# --- the national engine


class _Site(NamedTuple):
    """What a card is made of: its key as text, whose it is, the CPTS that collapses it, and where it is."""

    card: str
    professional: str | None
    cpts: str | None
    lat: float
    lon: float


@lru_cache(maxsize=10_000)
def _site(text: bytes) -> _Site:
    """Read a site (JSON of ``market.SITE_FIELDS``)."""
    site = orjson.loads(text)
    structure, source, who = site["structure"], site["source_kind"], site["professional"]
    lat, lon = site["lat"], site["lon"]
    if source in _CENTRES and structure is not None:
        return _Site(structure, who, None, lat, lon)
    return _Site(f"{who or structure}|{lat}|{lon}", who, structure if source == "cpts" else None, lat, lon)


class _Card(NamedTuple):
    """A card as it stands in the list: kilometres away, whether it is the médecin traitant's, its CPTS."""

    km: float
    is_mt: bool
    cpts: str | None


class _Shown(NamedTuple):
    """The slots that the engine shows to a request, by slot id: arrays of the same length."""

    slot_id: Ints
    site: Ints
    km: Floats

    def sites_of(self, slot_id: Ints) -> list[int]:
        """Return the site of each of these slots, −1 for those not shown."""
        if not len(self.slot_id):
            return [-1] * len(slot_id)
        at = np.minimum(self.slot_id.searchsorted(slot_id), len(self.slot_id) - 1)
        sites: list[int] = np.where(self.slot_id[at] == slot_id, self.site[at], -1).tolist()
        return sites


def _shown(request: OpenRequest, search: Search, taken: Mapping[int, int]) -> _Shown:
    """Every slot of the profession with a free place, whatever its mode, inside the request's circle and in time.

    The circle applies to téléconsultation as well: it is the card that has a place on the map.
    """
    market, until = search.market, search.until
    parts: list[tuple[Ints, Ints, Floats]] = []
    for mode in sorted(market.modes_of(request.profession)):
        for part in market.near(request.profession, mode, request.lat, request.lon, request.radius_km):
            window = part.window(int(np.ceil(search.now)), int(np.ceil(until)) - 1)
            free = part.column("left")[window] > 0
            rows = free.nonzero()[0] + window.start
            km = haversine_km(request.lat, request.lon, part.column("lat")[rows], part.column("lon")[rows])
            rows, km = rows[km <= request.radius_km], km[km <= request.radius_km]
            parts.append((part.column("slot_id")[rows], part.column("site")[rows].astype(np.int64), km))
    slot_id = np.concatenate([np.empty(0, np.int64), *(part[0] for part in parts)])
    full = [slot for slot, count in taken.items() if market.left_of(slot) <= count]
    order = np.argsort(slot_id)
    order = order[~np.isin(slot_id[order], full)]
    site = np.concatenate([np.empty(0, np.int64), *(part[1] for part in parts)])
    km = np.concatenate([np.empty(0), *(part[2] for part in parts)])
    return _Shown(slot_id[order], site[order], km[order])


def _cards(request: OpenRequest, candidates: Candidates, search: Search, taken: Mapping[int, int]) -> Iterator[_Found]:
    """Rows in the order in which an operator comes upon them: of each card the earliest that fits."""
    shown = _shown(request, search, taken)
    cards: dict[str, _Card] = {}
    numbers, first = np.unique(shown.site, return_index=True)
    for number, km in zip(numbers.tolist(), shown.km[first].tolist(), strict=True):
        site = _site(search.market.site(number))
        known = cards.get(site.card, _Card(km, False, None))
        is_mt = known.is_mt or (request.mt is not None and site.professional == request.mt)
        cpts = min(filter(None, (known.cpts, site.cpts)), default=None)
        cards[site.card] = _Card(min(km, known.km), is_mt, cpts)
    earliest, of_mt = _earliest(request, candidates, shown, search, taken)
    for name in _ranked(of_mt):
        yield _Found(earliest[name], "MEDECIN_TRAITANT")
    # pass A, an address search
    ranked = _ranked({name: card.km for name, card in cards.items() if not card.is_mt})
    radius = min(search.default_radius_km or request.radius_km, request.radius_km)
    inside = [name for name in ranked if cards[name].km <= radius]
    for name in _read(cards, inside, lambda _: inside):
        if name in earliest:
            yield _Found(earliest[name], "FIRST_CARD")
    if radius >= request.radius_km:
        return

    # pass B: the circle is widened by hand, which the engine takes as a search without an address; distances do not
    # count any more, and each page is cut from a permutation of its own
    def drawn(page: int) -> list[str]:
        def rank(name: str) -> str:
            return hashlib.sha256(f"{search.seed}|{request.id}|{page}|{name}".encode()).hexdigest()

        return sorted(ranked, key=rank, reverse=True)

    for name in _read(cards, ranked, drawn):
        if name in earliest and cards[name].km > radius:
            yield _Found(earliest[name], "WIDER_CIRCLE")


def _ranked(km_of: Mapping[str, float]) -> list[str]:
    """Cards by distance, equal ones by descending id, as the engine sorts an address search."""
    return sorted(sorted(km_of, reverse=True), key=km_of.__getitem__)


def _earliest(
    request: OpenRequest, candidates: Candidates, shown: _Shown, search: Search, taken: Mapping[int, int]
) -> tuple[dict[str, int], dict[str, float]]:
    """Return the earliest free row of each card, and how far the médecin traitant's cards are, whatever the circle."""
    market, until = search.market, search.until
    sites = shown.sites_of(candidates.slot_id)
    earliest: dict[str, int] = {}
    of_mt: dict[str, float] = {}
    for row in np.lexsort((candidates.slot_id, candidates.start)).tolist():
        number = sites[row]
        if candidates.is_mt[row] and number < 0 and (located := market.find(int(candidates.slot_id[row]))) is not None:
            number = int(located[0].column("site")[located[1]])
        if number < 0 or candidates.start[row] >= until or not _is_free(candidates, row, taken):
            continue
        site = _site(market.site(number))
        earliest.setdefault(site.card, row)
        if candidates.is_mt[row]:
            km = float(haversine_km(request.lat, request.lon, np.array([site.lat]), np.array([site.lon]))[0])
            of_mt[site.card] = min(km, of_mt.get(site.card, km))
    return earliest, of_mt


def _read(cards: Mapping[str, _Card], names: Sequence[str], order: Callable[[int], Sequence[str]]) -> Iterator[str]:
    """Read cards page after page; a CPTS is one card where its first member stands, and opens to all its members.

    Each page is its slice of an order of its own: where the orders differ, some cards come twice and others never.
    """
    shown: set[str] = set()
    opened: set[str] = set()
    for first in range(0, len(names), PAGE):
        ordered = order(first // PAGE)
        for name in ordered[first : first + PAGE]:
            cpts = cards[name].cpts
            if name in shown:
                continue
            shown.add(name)
            if cpts is None:
                yield name
            elif cpts not in opened:
                opened.add(cpts)
                yield from (other for other in ordered if cards[other].cpts == cpts)
