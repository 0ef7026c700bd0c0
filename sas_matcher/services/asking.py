"""En sus in the running service: whom to ask for requests that found no place, step by step of the territory's ladder.

Runs beside the matcher; several may run, as of two who take the same step the ledger lets one.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import structlog

from sas_matcher.faults import attempt, tell_fault
from sas_matcher.matching.asking import Move, Person, Step, next_move
from sas_matcher.matching.terms import Terms
from sas_matcher.ports.asking import Advance, AskingBook, Due
from sas_matcher.ports.world import Clock, Ids
from sas_matcher.services.matcher.known import open_request

_log = structlog.get_logger(__name__)
_EVERY_S: Final = 0.5  # between two looks for ladders with a step that is due
_AT_ONCE: Final = 100  # requests between two breaths
TOLD: Final = {
    "tele": "proposer une téléconsultation",
    "mmg": "proposer la maison médicale de garde",
    "reorient": "réorienter : aucun professionnel n'a pu être trouvé",
}
"""What a regulator is told where there is nobody to ask, by the step's ``what``."""


def step_of(document: Mapping[str, Any]) -> Step:
    """Read a step of a ladder as it is stored."""
    if document["kind"] == "tell":
        return Step(
            name=document["name"],
            ask=False,
            what=document["what"],
            text=document.get("text"),
            communes=tuple(document.get("communes", ())),
            wait=timedelta(minutes=document["wait_min"]),
        )
    return Step(
        name=document["name"],
        ask=True,
        radius_km=document.get("radius_km"),
        cpts=tuple(document.get("cpts", ())),
        only_mt=document.get("only_mt", False),
        communes=tuple(document.get("communes", ())),
        waves=document["waves"],
        at_once=document["at_once"],
        sure=document["sure_pct"] / 100,
        wait=timedelta(minutes=document["wait_min"]),
    )


def _person(document: Mapping[str, Any]) -> Person:
    lists = {name: tuple(document[name]) for name in ("modes", "days")}
    return Person(**{**document, **lists, "zone": ZoneInfo(document["zone"])})


class Asking:
    """Climbs the ladder of each request that finds no place: asks who may be asked, a few at a time, step by step."""

    def __init__(
        self,
        book: AskingBook,
        clock: Clock,
        ids: Ids,
        landmass_of: Callable[[str], int],
        zone_of: Callable[[str], Any],
        terms: Terms | None = None,
    ) -> None:
        """Take the parts.

        Args:
            book: the ledger's part about en sus.
            clock: what questions are due by.
            ids: of questions.
            landmass_of: the landmass of a commune (INSEE).
            zone_of: the clock of a territory, for what people are told.
            terms: what a way costs; the day log's by default.
        """
        self._book, self._clock, self._ids = book, clock, ids
        self._landmass_of, self._zone_of = landmass_of, zone_of
        self._terms = terms or Terms()

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            busy = await attempt("asking.step", self.step) or 0
            await asyncio.sleep(0 if busy >= _AT_ONCE else _EVERY_S)

    async def step(self) -> int:
        """Close what is over and take the steps that are due; returns how many requests were looked at.

        Raises:
            UnavailableError: the ledger is away.
        """
        now = self._clock.now()
        await self._book.settle(now)
        # read again after each: the questions of one request count for the next one's
        due = await self._book.due(now, _AT_ONCE)
        asked: dict[int, int] = {}
        looked_at = 0
        for one in due:
            try:
                move = self._move(one, asked, now)
            except Exception as unforeseen:
                # it stays due: who comes after it is asked for all the same
                tell_fault("asking.move", unforeseen, request=one.request.get("request_id"))
                continue
            looked_at += 1
            if await self._book.advance(now, self._advance(one, move, now)) == "advanced" and move is not None:
                for question in move.asked:
                    asked[question.person.id] = asked.get(question.person.id, 0) + 1
        return looked_at

    def _move(self, due: Due, asked: Mapping[int, int], now: datetime) -> Move | None:
        request = open_request(due.request, self._landmass_of(due.request["insee"]))
        persons = [_person({**p, "today": p["today"] + asked.get(p["id"], 0)}) for p in due.persons]
        ladder = [step_of(step) for step in due.steps]
        return next_move(ladder, request, due.request["insee"], persons, _at(due), now, self._terms)

    def _advance(self, due: Due, move: Move | None, now: datetime) -> Advance:
        request_id = due.request["request_id"]
        was = 0 if due.asking is None else due.asking["version"]
        if move is None:
            sentence = "Fin de l'échelle : plus personne à solliciter ; les questions posées restent ouvertes."
            entry: dict[str, Any] = {"name": None, "of": 0, "what": None, "passed": [], "sentence": sentence}
            return Advance(request_id, was, *_at(due), None, entry, [])
        step = step_of(due.steps[move.step])
        zone = self._zone_of(due.request["territory"])
        entry = {
            "name": step.name,
            "of": move.of,
            "what": step.what,
            "passed": list(move.passed),
            "sentence": _sentence(step, move, zone),
        }
        by = now + step.wait
        questions = [
            {"id": self._ids.uuid(), "overflow_id": asked.person.id, "km": round(asked.km), "answer_by": by}
            for asked in move.asked
        ]
        return Advance(request_id, was, move.step, move.wave, move.next_at, entry, questions)


def _at(due: Due) -> tuple[int, int]:
    """Return the rung and the wave of the last step; zeros before the first."""
    return (0, 0) if due.asking is None else (due.asking["step"], due.asking["wave"])


def _sentence(step: Step, move: Move, zone: Any) -> str:
    """Say a step as people do."""
    passed = f" ({', '.join(move.passed)} : personne à solliciter maintenant)" if move.passed else ""
    if step.what is not None:
        return f"{step.name} : {TOLD[step.what]}{f' — {step.text}' if step.text else ''}{passed}."
    number = len(move.asked)
    then = (
        "dernière vague"
        if move.next_at is None
        else f"étape suivante à {move.next_at.astimezone(zone):%H h %M} sans réponse"
    )
    plural = "s" if number > 1 else ""
    people = f"{number} professionnel{plural} sollicité{plural} sur {move.of}"
    return f"{step.name}, vague {move.wave} : {people} ; {then}{passed}."


def steps_in_french(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say a ladder, a line a step."""
    lines = []
    for number, document in enumerate(steps, 1):
        step = step_of(document)
        if step.what is not None:
            text = f"{TOLD[step.what]}{f' — {step.text}' if step.text else ''}"
        else:
            where = "dans le rayon de la demande" if step.radius_km is None else f"jusqu'à {step.radius_km:g} km"
            text = f"{step.waves} vague(s) de {step.at_once} au plus, {where}"
            text = "le médecin traitant, seul" if step.only_mt else text
            text += f", CPTS {', '.join(step.cpts)}" if step.cpts else ""
        minutes = step.wait.total_seconds() / 60
        lines.append(f"{number}. {step.name} : {text} ; {minutes:g} min avant la suite")
    return lines
