"""Drawn sequences of rules, places, requests and time, and an oracle of what may leave that reads none of the code.

``play`` lets practices, regulators and the real matcher act on a ledger, and judges everything that becomes known of a
place: lists of offers, decisions (place, alternatives, what would help), the national platform's searches (PostgreSQL
only), questions en sus, bookings. Raises ``AssertionError`` on the first that no rule allows.
"""

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson

from adapters.geo import Gazetteer
from adapters.memory import MemoryBus
from adapters.memory.consent import MemoryConsent
from adapters.memory.ledger import MemoryLedger
from adapters.postgres.consent import PostgresConsent
from adapters.postgres.fhir import PostgresFhir
from adapters.postgres.ledger import PostgresLedger
from sas_matcher.matching.terms import Terms
from sas_matcher.ports.ledger import Idempotency, PracticeLimit, SettingChange
from sas_matcher.ports.practice import ConsentBook, ShareRule
from sas_matcher.replay.run import Inbox, VirtualClock
from sas_matcher.services.asking import Asking
from sas_matcher.services.matcher.match import Matcher
from sas_matcher.services.regulate import Regulating
from tests.asking_cases import book_of, overflow_row
from tests.ledger_cases import KEY, SOURCE, TERRITORY, Desk, new_id, slot_row

PARIS: Final = ZoneInfo("Europe/Paris")
BEGIN: Final = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
"""Monday, 7 h in Paris."""
DOCTORS: Final = ("10000000001", "10000000002", "10000000003")
CENTRE: Final = "690000001"
SOURCES: Final = (SOURCE, "editeur")
POINT: Final = (45.757, 4.832)
INSEE: Final = "69382"
STEPS: Final = 60
VISIBILITIES: Final = ("public", "pro", "snp", "cpts")
LADDER: Final = [{"kind": "ask", "name": "Proches", "waves": 3, "at_once": 2, "sure_pct": 90, "wait_min": 5}]


@dataclass
class Place:
    """A slot as the oracle knows it."""

    source: str
    professional: str | None
    structure: str | None
    profession: str
    starts: datetime
    open: bool = True


@dataclass
class Oracle:
    """What the practices have said so far."""

    places: dict[int, Place] = field(default_factory=dict)
    rules: dict[tuple[str, str], ShareRule] = field(default_factory=dict)
    limits: dict[tuple[str, str], PracticeLimit] = field(default_factory=dict)
    consents: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: Counter[tuple[str, Any]] = field(default_factory=Counter)

    def over(self, place: Place) -> list[ShareRule]:
        """Return the rules about a place."""
        names = {f"p:{place.professional}", f"s:{place.structure}"}
        return [
            r for r in self.rules.values() if names & set(r.members) and (r.source == place.source or not r.own_only)
        ]

    def allowing(self, place: Place) -> list[ShareRule]:
        """Return those that let it leave at all."""
        local = place.starts.astimezone(PARIS)
        minute = local.hour * 60 + local.minute
        return [
            r
            for r in self.over(place)
            if local.isoweekday() in r.days
            and r.from_minute <= minute < r.to_minute
            and (not r.professions or place.profession in r.professions)
        ]

    def leaves(self, place: Place, channel: str, now: datetime, mt: str | None = None) -> bool:
        """Tell whether a place may be shown or given now: to a patient of this médecin traitant, or to anybody."""
        if not place.open or place.starts <= now:
            return False
        if not self.over(place):
            return True
        rules = [r for r in self.allowing(place) if channel in r.channels]
        own = mt is not None and mt == place.professional
        return any(
            own or r.own_first_min is None or now >= place.starts - timedelta(minutes=r.own_first_min) for r in rules
        )

    def rule(self, place: Place) -> str:
        """Return what a trace has to say of it."""
        return ",".join(sorted(r.name for r in self.allowing(place)))


class Game:
    """One sequence on one ledger."""

    def __init__(self, desk: Desk, seed: int) -> None:
        self.rng, self.desk, self.oracle = Random(seed), desk, Oracle()
        ledger: Any = desk.ledger
        self.clock, self.ledger, self.inbox = VirtualClock(BEGIN.timestamp()), ledger, ledger_inbox(ledger)
        self.memory = isinstance(ledger, MemoryLedger)
        self.consent: ConsentBook = MemoryConsent(ledger) if self.memory else PostgresConsent(ledger)
        self.fhir = None if self.memory else PostgresFhir(ledger)
        geography = Gazetteer.load()
        ids = _Ids()
        self.matcher = Matcher(
            ledger=ledger,
            bus=MemoryBus(self.clock),
            clock=self.clock,
            ids=ids,
            holder="matcher",
            territories=[TERRITORY],
            zone_of=lambda _: PARIS,
            landmass_of=lambda _: 0,
            terms=Terms(exclusive_times=True),
            policy=self.rng.choice(("firm", "promise")),
        )
        self.regulating = Regulating(ledger, self.clock, ids, geography, self.consent)
        self.book = book_of(desk)
        self.asking = Asking(self.book, self.clock, ids, lambda _: 0, lambda _: PARIS)
        self.requests: dict[str, str | None] = {}  # of each, its médecin traitant
        self.promised: set[str] = set()
        self.seen: set[str] = set()  # bookings and questions that were judged
        self.shown: list[tuple[str, int, str]] = []
        self.names = itertools.count(1)

    @property
    def now(self) -> datetime:
        return self.clock.now()

    async def play(self, steps: int) -> Counter[str]:
        """Act; returns how often each kind of exposure was judged."""
        self.judged: Counter[str] = Counter()
        once = Idempotency(KEY, new_id(), b"body")
        changes = {"mt_rule": self.rng.choice(("bonus", "first"))}
        await self.ledger.change_setting(self.now, SettingChange(TERRITORY, changes, "essai", None), once)
        await self.book.change_ladder(self.now, TERRITORY, LADDER, "essai", None, Idempotency(KEY, new_id(), b"body"))
        await self.matcher.load()
        # longer than the matcher's own, which is renewed by whoever runs it
        await self.ledger.take_leases("matcher", [TERRITORY], 3600)
        acts = (
            *[self.publish] * 4,
            *[self.ask] * 4,
            *[self.rules] * 4,
            *[self.pass_time] * 3,
            *[self.browse] * 2,
            *[self.search] * 2,
            *[self.answer] * 3,
            *[self.take] * 2,
            *[self.limit] * 2,
            self.withdraw,
            *[self.overflow] * 3,
            *[self.questions] * 2,
        )
        for _ in range(steps):
            await self.rng.choice(acts)()
            await self.decide()
        await self.trace()
        return self.judged

    # -- practices

    async def publish(self) -> None:
        """Publish some places."""
        source = self.rng.choice(SOURCES)
        for _ in range(self.rng.randint(1, 3)):
            professional = self.rng.choice((*DOCTORS, None))
            structure = CENTRE if professional is None or self.rng.random() < 0.5 else None
            profession = self.rng.choice(("MG", "MG", "PED"))
            name = f"s{next(self.names)}"
            row = slot_row(
                name,
                professional=professional,
                structure=structure,
                profession=profession,
                capacity=self.rng.choice((1, 1, 2)),
                visibility=self.rng.choice(VISIBILITIES),
                lat=POINT[0],
                lon=POINT[1],
                landmass=0,
                insee=INSEE,
                valid_at=self.now,
            )
            starts = self.now + timedelta(minutes=self.rng.randint(10, 700))
            row |= {"starts": starts, "ends": starts + timedelta(minutes=15)}
            (verdict,) = await self.ledger.upsert_slots(self.now, source, [row])
            self.oracle.places[verdict["slot_id"]] = Place(source, professional, structure, profession, starts)

    async def withdraw(self) -> None:
        """Take a place back."""
        if not self.oracle.places:
            return
        number = self.rng.choice(list(self.oracle.places))
        place = self.oracle.places[number]
        record = orjson.loads((await self.ledger.slot_record(number))["record"])
        await self.ledger.withdraw_slots(self.now, place.source, [record["external_id"]], None, None, "absence")
        place.open = False

    async def rules(self) -> None:
        """Set, change or take back a rule."""
        source, name = self.rng.choice(SOURCES), self.rng.choice(("a", "b"))
        if self.rng.random() < 0.3:
            await self.consent.remove_rule(self.now, source, name)
            self.oracle.rules.pop((source, name), None)
            return
        start = self.rng.choice((0, 0, 8 * 60, 10 * 60))
        rule = ShareRule(
            source=source,
            name=name,
            own_only=self.rng.random() < 0.3,
            zone="Europe/Paris",
            from_minute=start,
            to_minute=self.rng.randint(start + 60, 1440),
            days=self.rng.choice(((1, 2, 3, 4, 5, 6, 7), (1, 2, 3), (2, 3))),
            professions=self.rng.choice((None, None, ("MG",), ("PED",))),
            channels=self.rng.choice((("sas",), ("platform",), ("platform", "sas"))),
            own_first_min=self.rng.choice((None, None, 30, 120, 600)),
            members=tuple(self.rng.sample([f"p:{one}" for one in DOCTORS] + [f"s:{CENTRE}"], self.rng.randint(1, 3))),
        )
        await self.consent.put_rule(self.now, rule)
        self.oracle.rules[source, name] = rule

    async def limit(self) -> None:
        """Set or take back a quota."""
        source = self.rng.choice(SOURCES)
        if self.rng.random() < 0.3:
            await self.ledger.remove_limit(self.now, source, "quota")
            self.oracle.limits.pop((source, "quota"), None)
            return
        members = tuple(f"p:{one}" for one in self.rng.sample(DOCTORS, 2))
        limit = PracticeLimit(
            source, "quota", "patients", "day", self.rng.randint(0, 2), None, "Europe/Paris", False, members
        )
        await self.ledger.put_limit(self.now, limit)
        self.oracle.limits[source, "quota"] = limit

    async def overflow(self) -> None:
        """Consent to be asked, or take that back."""
        name = self.rng.choice(("x", "y"))
        if self.rng.random() < 0.3:
            await self.book.remove_overflow(self.now, SOURCE, name)
            self.oracle.consents.pop(name, None)
            return
        start = self.rng.choice((0, 9 * 60, 12 * 60))
        row = overflow_row(name, professional=self.rng.choice(DOCTORS), lat=POINT[0], lon=POINT[1], insee=INSEE)
        row |= {"from_minute": start, "to_minute": self.rng.randint(start + 60, 1440)}
        row |= {"days": self.rng.choice(([1, 2, 3, 4, 5], [2, 3])), "most_a_day": self.rng.randint(1, 3)}
        await self.book.put_overflow(self.now, row)
        self.oracle.consents[name] = row

    # -- regulators

    async def ask(self) -> None:
        """Ask for a place."""
        mt = self.rng.choice((*DOCTORS, None, None))
        hours = self.rng.choice((1, 4, 8, 24))
        request = await self.desk.ask(
            now=self.now,
            mt=mt,
            profession=self.rng.choice(("MG", "MG", "PED")),
            tier={1: "T0", 4: "T1"}.get(hours, "T2"),
            deadline=self.now + timedelta(hours=hours),
            lat=POINT[0],
            lon=POINT[1],
            insee=INSEE,
        )
        self.requests[request] = mt

    async def answer(self) -> None:
        """Confirm, decline or cancel."""
        if self.requests:
            request = self.rng.choice(list(self.requests))
            act = self.rng.choice((self.desk.confirm, self.desk.confirm, self.desk.decline, self.desk.cancel))
            await act(request, now=self.now)

    async def take(self) -> None:
        """Take a place by hand, whether it may be or not."""
        if self.requests and self.oracle.places:
            request, number = self.rng.choice(list(self.requests)), self.rng.choice(list(self.oracle.places))
            until = self.now + timedelta(minutes=3)
            await self.desk.act("take", request, number, new_id(), until, '{"by":"hand"}', now=self.now)

    async def browse(self) -> None:
        """Look at the list of offers."""
        wish = {
            **{"lat": POINT[0], "lon": POINT[1], "insee": None, "profession": self.rng.choice(("MG", "PED"))},
            **{"specialty": None, "modes": ["cabinet"], "needs": [], "radius_km": 30.0, "visibility": VISIBILITIES},
        }
        found = await self.regulating.offers(wish, KEY)
        places = [p["slot_id"] for card in found["cards"] for hours in card["buckets"].values() for p in hours]
        self.judge("offers", places, "sas")

    async def search(self) -> None:
        """The national platform searches."""
        if self.fhir is not None:
            window = (self.now, self.now + timedelta(days=2))
            rows = await self.fhir.places_of_practitioners(self.now, DOCTORS, window, VISIBILITIES)
            self.judge("platform", [row["id"] for row in rows], "platform")
            number = self.rng.choice(list(self.oracle.places) or [1])
            row = await self.fhir.place(number, self.now, VISIBILITIES)
            self.judge("platform", [] if row is None else [row["id"]], "platform")

    async def questions(self) -> None:
        """Whoever is asked answers."""
        found = map(orjson.loads, await self.book.questions(SOURCE, [], [], "asked", 10))
        for question in found:
            once = Idempotency(SOURCE, new_id(), b"body")
            if self.rng.random() < 0.5:
                await self.ledger.change_booking(
                    "refuse_question", self.now, question["question_id"], ("complet",), once
                )
                continue
            start = self.now + timedelta(minutes=self.rng.randint(20, 120))
            document = '{"place": {"slot_id": 0}, "none": null}'
            arguments = (start, "cabinet", new_id(), self.now + timedelta(minutes=20), document)
            await self.ledger.change_booking("accept_question", self.now, question["question_id"], arguments, once)

    async def pass_time(self) -> None:
        """Let some minutes pass, and what time decides."""
        self.clock.seconds += 60 * self.rng.choice((1, 5, 20, 60))
        for step in ("lapse_holds", "close_unserved", "open_for_all"):
            await getattr(self.ledger, step)(self.now)

    # -- what comes of it

    async def decide(self) -> None:
        """Let the matcher hear and decide, the ladders be climbed; judge what is new."""
        changed: set[str] = set()
        for _ in range(2):
            said = self.inbox.take()
            changed |= {a.aggregate for a in said}
            self.matcher.hear(said)
            await self.asking.step()
            await self.matcher.step()
        last = self.inbox.take()
        changed |= {a.aggregate for a in last}
        self.matcher.hear(last)
        for request, mt in list(self.requests.items()):
            # the seat behind a promise moves in silence
            if request not in changed and request not in self.promised:
                continue
            document = orjson.loads(await self.ledger.request_document(request, KEY) or "{}")
            await self._judge_request(document, mt)
        for text in await self.book.questions(SOURCE, [], [], None, 1000):
            question = orjson.loads(text)
            if question["question_id"] not in self.seen:
                self.seen.add(question["question_id"])
                self._judge_question(question)

    async def _judge_request(self, document: dict[str, Any], mt: str | None) -> None:
        decision = document["decision"] or {}
        stamp = f"{document['request_id']} {decision.get('decided_at')}"
        if decision.get("decided_at") and stamp not in self.seen and "EN_SUS" not in decision["reasons"]:
            self.seen.add(stamp)
            helping = (decision["none"] or {}).get("would_help") or ()
            named = [decision["place"], *decision["alternatives"], *(way["place"] for way in helping)]
            # a seat that was promised before its practice changed its mind stays promised, and is told in time
            held = document["booking"]
            kept = held["slot_id"] if held is not None and held["booking_id"] in self.seen else None
            self.judge("proposed", [one["slot_id"] for one in named if one and one["slot_id"] != kept], "sas", mt)
        (self.promised.add if document["status"] == "promised" else self.promised.discard)(document["request_id"])
        booking = document["booking"]
        if booking is None or booking["booking_id"] in self.seen:
            return
        self.seen.add(booking["booking_id"])
        number = booking["slot_id"]
        if number in self.oracle.places:
            self.judge("booked", [number], "sas", mt)
            await self._judge_limits(self.oracle.places[number])

    async def _judge_limits(self, place: Place) -> None:
        """No quota is exceeded by who was just booked."""
        for limit in self.oracle.limits.values():
            if f"p:{place.professional}" not in limit.members:
                continue
            day = place.starts.astimezone(PARIS).date()
            taken = 0
            for request in self.requests:
                document = orjson.loads(await self.ledger.request_document(request, KEY) or "{}")
                held = document["booking"]
                theirs = None if held is None else self.oracle.places.get(held["slot_id"])
                active = held is not None and held["state"] in ("promised", "held", "firm", "fulfilled", "noshow")
                if active and theirs is not None and f"p:{theirs.professional}" in limit.members:
                    taken += theirs.starts.astimezone(PARIS).date() == day
            self.judged["limit"] += 1
            assert limit.most is not None
            assert taken <= limit.most, (limit, taken)

    def _judge_question(self, question: dict[str, Any]) -> None:
        """Whoever is asked consented, at this hour, and not more often a day than they said."""
        row = self.oracle.consents.get(question["overflow"])
        assert row is not None, question
        local = self.now.astimezone(PARIS)
        assert local.isoweekday() in row["days"], (question, row)
        assert row["from_minute"] <= 60 * local.hour + local.minute < row["to_minute"], (question, row)
        key = (question["overflow"], local.date())
        self.oracle.asked[key] += 1
        assert self.oracle.asked[key] <= row["most_a_day"], (question, row)
        self.judged["asked"] += 1

    def judge(self, what: str, numbers: Iterable[int], channel: str, mt: str | None = None) -> None:
        """Judge places that became known now."""
        for number in numbers:
            place = self.oracle.places.get(number)
            assert place is not None, f"a slot of an en sus answer was shown: {number}"
            assert self.oracle.leaves(place, channel, self.now, mt), (
                what,
                number,
                place,
                self.now,
                self.oracle.over(place),
            )
            self.judged[what] += 1
            if what in ("offers", "platform"):
                self.shown.append((what, number, self.oracle.rule(place)))

    async def trace(self) -> None:
        """Whatever was shown is in the list that its practice reads, with the rule of that moment."""
        window = (BEGIN, self.now + timedelta(minutes=1))
        found = await self.consent.exposures("", DOCTORS, [CENTRE], window, 100_000)
        listed = Counter((one.what, one.slot_id, one.rule) for one in found if one.what in ("offers", "platform"))
        assert listed == Counter(self.shown), (listed, self.shown)
        assert all(one.role == "regulator" for one in found if one.what != "platform")


def ledger_inbox(ledger: Any) -> Inbox:
    """Return the inbox that a ledger of these games announces to."""
    inbox: Inbox = ledger._publisher
    return inbox


class _Ids:
    """UUIDs that no other game has used."""

    def uuid(self) -> str:
        return new_id()


async def play(desk: Desk, seed: int, steps: int = STEPS) -> Counter[str]:
    """Play a sequence on a fresh ledger whose publisher is an ``Inbox``; returns what was judged, by kind."""
    return await Game(desk, seed).play(steps)


async def fresh_memory(seed: int) -> Counter[str]:
    """Play a sequence on a twin of its own."""
    from tests.ledger_cases import TwinDesk

    inbox = Inbox()
    clock: Any = VirtualClock(BEGIN.timestamp())
    desk: Any = await TwinDesk(MemoryLedger(inbox, clock), clock).open()
    return await play(desk, seed)


async def fresh_postgres(url: str, seed: int, steps: int = STEPS) -> Counter[str]:
    """Play a sequence on an empty database."""
    ledger = await PostgresLedger.connect(url, Inbox())
    try:
        return await play(await Desk(ledger, url).open(), seed, steps)
    finally:
        await ledger.close()
