"""En sus in the twin: what ``008_overflow.sql`` says, function by function."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson

from adapters.memory.claims import claim_seats
from adapters.memory.requests import Answer, lapse_holds
from adapters.memory.rows import Request, Slot
from adapters.memory.slots import upsert_slots
from adapters.memory.tables import Tables
from sas_matcher.domain.lifecycle import ClaimKind
from sas_matcher.ports.asking import Advance
from sas_matcher.ports.ledger import Claim
from sas_matcher.travel import haversine_km

_BOX: Final = (1.36, 2.2)  # degrees: as far as a step may reach
_SEASON: Final = timedelta(days=90)
_LIVES: Final = timedelta(days=3)
_NEVER: Final = datetime.max.replace(tzinfo=UTC)
OVERFLOW: Final = (
    *("name", "source", "territory", "professional", "professional_name", "structure", "structure_name", "source_kind"),
    *("lat", "lon", "insee", "label", "phone", "modes", "profession", "specialty", "offers", "cpts", "zone"),
    *("from_minute", "to_minute", "days", "most_a_day", "minutes", "crisis_calls"),
)
_OF_SLOT: Final = (
    *("territory", "professional", "professional_name", "structure", "structure_name", "source_kind", "lat", "lon"),
    *("landmass", "insee", "label", "phone", "profession", "specialty", "offers"),
)


@dataclass(slots=True)
class Overflow:
    """A consent; ``row`` has the columns that its practice has set, ``landmass`` among them."""

    id: int
    row: dict[str, Any]
    removed: bool = False


@dataclass(slots=True)
class Question:
    """A question that was put."""

    id: str
    request_id: str
    overflow_id: int
    km: int
    asked_at: datetime
    answer_by: datetime
    state: str = "asked"
    said: str | None = None
    reason: str | None = None
    booking_id: str | None = None
    answered_at: datetime | None = None
    version: int = 1


@dataclass(slots=True)
class Asking:
    """How far a request has climbed."""

    request_id: str
    step: int
    wave: int
    next_at: datetime | None
    log: list[dict[str, Any]] = field(default_factory=list)
    version: int = 1

    @property
    def state(self) -> str:
        """Whether more is to come."""
        return "done" if self.next_at is None else "open"


class AskingTables:
    """Consents, questions, askings and ladders beside the ledger's tables, and what is said of them."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.overflows: dict[int, Overflow] = {}
        self.named: dict[tuple[str, str], Overflow] = {}
        self.questions: dict[str, Question] = {}
        self.askings: dict[str, Asking] = {}
        self.ladders: dict[str, dict[str, Any]] = {}
        self.ladder_log: dict[str, list[str]] = {}

    # -- documents

    def overflow_json(self, overflow: Overflow) -> str:
        """Return a consent as its practice sees it."""
        return orjson.dumps({name: overflow.row[name] for name in OVERFLOW}).decode()

    def question_json(self, q: Question) -> str:
        """Return what the practice sees of a question."""
        request, overflow = self.tables.requests[q.request_id], self.overflows[q.overflow_id].row
        return orjson.dumps(
            {
                "question_id": q.id,
                **{name: getattr(q, name) for name in ("state", "version", "reason", "km")},
                "overflow": overflow["name"],
                **{name: overflow[name] for name in ("territory", "professional", "structure", "minutes")},
                "modes": [mode for mode in overflow["modes"] if mode in request.modes],
                **{n: getattr(request, n) for n in ("profession", "needs", "age_band", "tier", "deadline")},
                "own_patient": request.mt is not None and request.mt == overflow["professional"],
                **{name: getattr(q, name) for name in ("asked_at", "answered_at", "booking_id")},
                "answer_by": q.answer_by if q.state == "asked" else None,
            }
        ).decode()

    def of_request(self, request_id: str) -> list[Question]:
        """Return the questions put for a request."""
        return [q for q in self.questions.values() if q.request_id == request_id]

    def asking_json(self, asking: Asking) -> str:
        """Return what its regulator sees."""
        states = [q.state for q in self.of_request(asking.request_id)]
        return orjson.dumps(
            {
                **{n: getattr(asking, n) for n in ("request_id", "state", "step", "wave", "next_at", "version", "log")},
                "asked": len(states),
                "refused": states.count("refused"),
                "open": states.count("asked"),
            }
        ).decode()

    def candidates(self, now: datetime, request: Request) -> list[dict[str, Any]]:
        """Return who may be asked for a request (``overflow_candidates``)."""
        before = {q.overflow_id for q in self.of_request(request.id)}
        found = []
        for overflow in self.overflows.values():
            row = overflow.row
            fits = (
                not overflow.removed
                and row["profession"] == request.profession
                and request.specialty in (None, row["specialty"])
                and not set(row["modes"]).isdisjoint(request.modes)
                and set(request.needs) <= set(row["offers"])
                and f"p{row['professional']}" not in request.excluded
                and overflow.id not in before
                and (
                    (abs(row["lat"] - request.lat) <= _BOX[0] and abs(row["lon"] - request.lon) <= _BOX[1])
                    or row["territory"] == request.territory
                )
            )
            if fits:
                since = now - _SEASON
                mine = [q for q in self.questions.values() if q.overflow_id == overflow.id and q.asked_at > since]
                found.append(
                    {
                        "id": overflow.id,
                        **{name: row[name] for name in ("professional", "lat", "lon", "landmass", "modes", "cpts")},
                        **{n: row[n] for n in ("zone", "from_minute", "to_minute", "days", "most_a_day")},
                        "today": self.today(overflow, now),
                        "answered": sum(q.said is not None or q.answer_by <= now for q in mine),
                        "yes": sum(q.said == "yes" for q in mine),
                    }
                )
        return found

    def today(self, overflow: Overflow, now: datetime) -> int:
        """Return how many questions were put under a consent since its day began."""
        zone = ZoneInfo(overflow.row["zone"])
        day = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
        return sum(q.overflow_id == overflow.id and q.asked_at >= day for q in self.questions.values())

    # -- announcements

    def announce(self, now: datetime, questions: Iterable[Question]) -> None:
        """Tell practices what became of questions."""
        for q in sorted(questions, key=lambda q: q.id):
            row = self.overflows[q.overflow_id].row
            audience = tuple(
                f"{kind}:{row[name]}"
                for kind, name in (("src", "source"), ("p", "professional"), ("s", "structure"))
                if row[name] is not None
            )
            about = (q.id, q.version, "", audience)
            self.tables.say(now, row["territory"], "events", f"question.{q.state}", self.question_json(q), *about)

    def announce_asking(self, now: datetime, asking: Asking) -> None:
        """Tell a regulator how far the request has climbed."""
        request = self.tables.requests[asking.request_id]
        about = (f"asking:{request.id}", asking.version, request.key_id, ())
        self.tables.say(now, request.territory, "events", "asking.changed", self.asking_json(asking), *about)


def put_overflow(on: AskingTables, row: Mapping[str, Any]) -> Overflow:
    """Set or change a consent.

    Raises:
        ValueError: a value that no consent may have.
    """
    fits = (
        0 <= row["from_minute"] < row["to_minute"] <= 1440
        and 1 <= row["most_a_day"] <= 50
        and 5 <= row["minutes"] <= 240
        and row["modes"]
        and row["days"]
        and set(row["days"]) <= set(range(1, 8))
        and (row["professional"] or row["structure"])
    )
    if not fits:
        raise ValueError(f"Expected a lawful consent, got {row}.")
    name = (row["source"], row["name"])
    overflow = on.named.get(name) or Overflow(len(on.overflows) + 1, {})
    overflow.row, overflow.removed = {"crisis_calls": False, **row}, False
    on.overflows[overflow.id] = on.named[name] = overflow
    return overflow


def ask_mt(on: AskingTables, now: datetime, request: Request) -> None:
    """Say what the médecin traitant of a new request may give, and ask him where he may have one (``009_mt.sql``)."""
    tables = on.tables
    minutes = tables.settings[request.territory]["mt_ask_min"]
    has_place = any(
        slot.professional == request.mt
        and slot.status == "open"
        and now < slot.starts <= request.deadline
        and slot.profession == request.profession
        and slot.mode in request.modes
        and set(request.needs) <= set(slot.offers)
        and tables.left(slot) > 0
        for slot in tables.slots.values()
    )
    if has_place:
        request.mt_said = "place"
    elif request.tier == "T0" or request.deadline - now < 10 * timedelta(minutes=minutes):
        request.mt_said = "too_short"
    else:
        mine = [o for o in on.overflows.values() if minutes and o.row["professional"] == request.mt]
        overflow = next((o for o in mine if _covers(o, now, request)), None)
        if overflow is None or on.today(overflow, now) >= overflow.row["most_a_day"]:
            request.mt_said = "not_askable"
            return
        request.mt_said, request.mt_until = "asked", now + timedelta(minutes=minutes)
        km = round(float(haversine_km(request.lat, request.lon, overflow.row["lat"], overflow.row["lon"])))
        number = UUID(hashlib.md5(f"mt:{request.id}".encode(), usedforsecurity=False).hexdigest())
        question = Question(str(number), request.id, overflow.id, km, now, request.mt_until)
        on.questions[question.id] = question
        on.announce(now, [question])


def _covers(overflow: Overflow, now: datetime, request: Request) -> bool:
    """Tell whether a consent lets somebody be asked now for a request, wherever it is."""
    row = overflow.row
    local = now.astimezone(ZoneInfo(row["zone"]))
    return (
        not overflow.removed
        and row["profession"] == request.profession
        and request.specialty in (None, row["specialty"])
        and not set(row["modes"]).isdisjoint(request.modes)
        and set(request.needs) <= set(row["offers"])
        and local.isoweekday() in row["days"]
        and row["from_minute"] <= 60 * local.hour + local.minute < row["to_minute"]
    )


def advance_asking(on: AskingTables, now: datetime, move: Advance) -> str:
    """Take a step of the ladder: advanced, conflict or not_waiting."""
    request = on.tables.requests.get(move.request_id)
    if request is None or request.status != "waiting" or request.deadline <= now:
        return "not_waiting"
    asking = on.askings.get(request.id)
    if move.was != (0 if asking is None else asking.version):
        return "conflict"
    before = {q.overflow_id for q in on.of_request(request.id)}
    put = []
    for wish in move.questions:
        overflow = on.overflows[wish["overflow_id"]]
        if overflow.removed or overflow.id in before or on.today(overflow, now) >= overflow.row["most_a_day"]:
            continue
        question = Question(wish["id"], request.id, overflow.id, wish["km"], now, wish["answer_by"])
        on.questions[question.id] = question
        put.append(question)
    if asking is None:
        asking = on.askings[request.id] = Asking(request.id, move.step, move.wave, move.next_at)
    else:
        asking.step, asking.wave, asking.next_at = move.step, move.wave, move.next_at
        asking.version += 1
    asking.log.append({**move.entry, "at": now, "asked": len(put)})
    on.announce(now, put)
    on.announce_asking(now, asking)
    return "advanced"


def accept_question(
    on: AskingTables,
    now: datetime,
    question_id: str,
    starts: datetime,
    mode: str,
    booking_id: str,
    hold_until: datetime,
    decision: str,
) -> Answer:
    """Say yes: the first gets the patient, as a slot for this request alone and a hold on it."""
    question = on.questions.get(question_id)
    if question is None:
        return "not_found", None
    tables = on.tables
    request, overflow = tables.requests[question.request_id], on.overflows[question.overflow_id]
    if question.state == "accepted":
        word = "already"
    elif question.state == "refused":
        word = "conflict"
    elif question.state != "asked" or request.status != "waiting" or request.deadline <= now:
        word = "too_late"
        if question.said is None:
            question.said, question.answered_at = "yes", now
    else:
        ends = starts + timedelta(minutes=overflow.row["minutes"])
        row = {
            "external_id": f"en-sus-{question.id}",
            **{name: overflow.row[name] for name in _OF_SLOT},
            **{"starts": starts, "ends": ends, "capacity": 1, "mode": mode, "booking_kind": "routine"},
            **{"visibility": "snp", "valid_at": now},
        }
        word = _why_not(tables, now, request, overflow.row["source"], row)
        if not word:
            (verdict,) = upsert_slots(tables, now, overflow.row["source"], [row])
            slot = tables.slots[verdict["slot_id"]]
            # the consent to be asked lets it leave, whatever the rules say of other places
            slot.for_request, slot.rule = request.id, f"en_sus:{overflow.row['name']}"
            slot.shut, slot.platform, slot.own_until = False, False, None
            told = orjson.loads(decision)
            if "place" in told:
                told["place"]["slot_id"] = slot.id
            text = orjson.dumps(told).decode()
            claim = Claim(request.id, slot.id, booking_id, hold_until, text, ClaimKind.HOLD)
            waited = request.mt_until is not None and request.mt_until > now
            if request.mt_said == "asked" and overflow.row["professional"] == request.mt:
                request.mt_said, request.mt_until = "accepted", None
            claim_seats(tables, now, [claim])  # nothing comes between looking and taking: it is held
            question.state, question.said, question.answered_at = "accepted", "yes", now
            question.booking_id = booking_id
            question.version += 1
            on.announce(now, [question])
            close_questions(on, now, request.id, "other_accepted")
            if waited:
                tables.tell_matcher(now, request, "closed")
            word = "accepted"
    return word, on.question_json(question)


def _why_not(tables: Tables, now: datetime, request: Request, source: str, row: Mapping[str, Any]) -> str:
    """Return why the slot that a yes would be cannot be taken; empty when it can."""
    columns = {name: value for name, value in row.items() if name != "external_id"}
    slot = Slot(id=0, source=source, external_id="", **columns, checked_at=now, changed_at=now, version=0)
    lapse_holds(tables, now, [slot], 100)
    if not now < slot.starts <= request.deadline or slot.mode not in request.modes or tables.blocked(slot):
        return "slot_full"
    if tables.limits.rows and tables.limits.reached(slot, request):
        return "limit_reached"
    return ""


def close_questions(on: AskingTables, now: datetime, request_id: str, reason: str) -> None:
    """Close what is still open of a request's questions, and tell who was asked."""
    still = [q for q in on.of_request(request_id) if q.state == "asked"]
    for q in still:
        q.state, q.reason, q.answered_at = "closed", reason, now
        q.version += 1
        # nobody is blamed for what others were quicker at
        if q.answer_by > now:
            q.answer_by = _NEVER
    on.announce(now, still)


def refuse_question(on: AskingTables, now: datetime, question_id: str, reason: str) -> Answer:
    """Say no; when nobody is left to answer, the next step is due at once."""
    question = on.questions.get(question_id)
    if question is None:
        return "not_found", None
    if question.state == "refused":
        word = "already"
    elif question.state in ("accepted", "released"):
        word = "conflict"
    elif question.state == "closed":
        word, question.said = "too_late", question.said or "no"
    else:
        question.state, question.said, question.reason, question.answered_at = "refused", "no", reason, now
        question.version += 1
        asking = on.askings.get(question.request_id)
        nobody = all(q.state != "asked" for q in on.of_request(question.request_id))
        if nobody and asking is not None and asking.next_at is not None and asking.next_at > now:
            asking.next_at = now
            asking.version += 1
        on.announce(now, [question])
        request = on.tables.requests[question.request_id]
        mine = on.overflows[question.overflow_id].row["professional"] == request.mt
        first = request.mt_said == "asked" and request.mt_until is not None and request.mt_until > now
        if mine and first and request.status == "waiting":
            # others are looked for at once
            request.mt_said, request.mt_until = "refused", now
            request.version += 1
            on.tables.tell_matcher(now, request, "open")
        word = "refused"
    return word, on.question_json(question)


def settle_questions(on: AskingTables, now: datetime) -> None:
    """Close the questions of requests that wait no more; let go of who said yes where the place was not taken."""
    open_ones = dict.fromkeys(q.request_id for q in on.questions.values() if q.state == "asked")
    for request_id in sorted(open_ones):
        status = on.tables.requests[request_id].status
        if status != "waiting":
            close_questions(on, now, request_id, status if status in ("cancelled", "unserved") else "other_place")
    ended = [
        q
        for q in on.questions.values()
        if q.state == "accepted"
        and q.asked_at > now - _LIVES
        and on.tables.bookings[q.booking_id or ""].ended_at is not None
    ]
    for q in ended:
        q.state, q.reason = "released", "not_taken"
        q.version += 1
        # the slot that the yes made, wherever the practice has moved the patient since
        slot = on.tables.slot_of[on.overflows[q.overflow_id].row["source"], f"en-sus-{q.id}"]
        if slot.status == "open":
            on.tables.withdraw(now, slot)
            on.tables.announce_gone(now, [slot])
    on.announce(now, ended)


def change_ladder(
    on: AskingTables,
    now: datetime,
    key_id: str,
    territory: str,
    steps: Sequence[Mapping[str, Any]],
    why: str,
    version: int | None,
) -> Answer:
    """Change a territory's ladder, with a trace.

    Raises:
        ValueError: no reason is given.
    """
    fresh = {"territory": territory, "steps": [], "version": 0, "changed_at": None}
    before = on.ladders.get(territory, fresh)
    if version not in (None, before["version"]):
        return "conflict", orjson.dumps(before).decode()
    if list(steps) == before["steps"]:
        return "unchanged", orjson.dumps(before).decode()
    if not why:
        raise ValueError("Expected a reason.")
    after = {**before, "steps": list(steps), "version": before["version"] + 1, "changed_at": now.isoformat()}
    on.ladders[territory] = after
    entry = {
        **{"territory": territory, "version": after["version"], "at": now, "key_id": key_id},
        **{"before": before, "after": after, "why": why},
    }
    data = orjson.dumps(entry).decode()
    on.ladder_log.setdefault(territory, []).append(data)
    about = (f"ladder:{territory}", after["version"], key_id, (f"t:{territory}", "t:*"))
    on.tables.say(now, territory, "events", "ladder.changed", data, *about)
    return "changed", orjson.dumps(after).decode()
