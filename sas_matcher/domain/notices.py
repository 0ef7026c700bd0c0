"""What a practice may be told of, and in which words: no identity, no health data, only which, when and what to do."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo


class NoticeKind(StrEnum):
    """Kinds of events that a practice subscribes to."""

    MADE = "booking.made"
    TO_ACCEPT = "booking.to_accept"
    ACCEPTED = "booking.accepted"
    MOVED = "booking.moved"
    CANCELLED = "booking.cancelled"
    REFUSED = "booking.refused"
    QUESTION = "question.asked"
    QUESTION_CLOSED = "question.closed"
    QUESTION_RELEASED = "question.released"
    CALLED = "crisis.called"
    CALLED_IN_DRILL = "crisis.drill"
    HANDED_BACK = "places.handed_back"
    REMIND_ACCEPT = "reminder.accept"
    REMIND_OUTCOME = "reminder.outcome"


TEST: Final = "test"
"""Kind of the notice that a practice asks for to see whether it arrives."""

CONFIRM: Final = "confirm"
"""Kind of the first notice to an address of mail: whoever reads there answers with its code."""

SENTENCES: Final[Mapping[str, str]] = {
    NoticeKind.MADE: "Un rendez-vous est pris",
    NoticeKind.TO_ACCEPT: "Un rendez-vous est à accepter",
    NoticeKind.ACCEPTED: "Un rendez-vous est accepté",
    NoticeKind.MOVED: "Un rendez-vous est déplacé",
    NoticeKind.CANCELLED: "Un rendez-vous est annulé",
    NoticeKind.REFUSED: "Un rendez-vous est refusé, retiré ou resté sans réponse : le patient a été replacé",
    NoticeKind.QUESTION: "Une question en sus attend votre réponse",
    NoticeKind.QUESTION_CLOSED: "Une question en sus est close",
    NoticeKind.QUESTION_RELEASED: "Une place acceptée en sus n'a finalement pas été prise",
    NoticeKind.CALLED: "Votre territoire est sous tension ou en crise : on vous appelle à ouvrir des places",
    NoticeKind.CALLED_IN_DRILL: "EXERCICE : on vous appelle à ouvrir des places ; il n'y a rien à faire d'autre",
    NoticeKind.HANDED_BACK: "Des places inutilisées vous sont rendues",
    NoticeKind.REMIND_ACCEPT: "Rappel : un rendez-vous est encore à accepter",
    NoticeKind.REMIND_OUTCOME: "Rappel : la suite de rendez-vous passés reste à dire",
    CONFIRM: "Confirmez que cette adresse est la vôtre",
    TEST: "Ceci est un essai : les notifications de votre cabinet arrivent",
}
_DAYS: Final = ("lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche")
_MONTHS: Final = (
    *("janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre"),
    *("novembre", "décembre"),
)


class Told(NamedTuple):
    """A notice in words: a subject, and lines."""

    subject: str
    lines: tuple[str, ...]


def in_words(kind: str, body: Mapping[str, Any], zone: ZoneInfo) -> Told:
    """Say a notice to people.

    Args:
        kind: see ``NoticeKind``.
        body: ids and times of what it is about (``Notice.body``).
        zone: whose wall clock people read.
    """
    subject = SENTENCES[kind]
    lines = [f"{subject}."]
    if code := body.get("code"):
        lines.append(f"Un cabinet demande à être prévenu à cette adresse. Si c'est le vôtre, son code est {code}.")
        lines.append("Sinon, ne faites rien : rien d'autre ne viendra.")
    if start := body.get("start"):
        word = "Depuis le" if kind == NoticeKind.REMIND_OUTCOME else "Heure :"
        lines.append(f"{word} {_hour(start, zone)}.")
    if until := body.get("until"):
        lines.append(f"Répondez avant le {_hour(until, zone)}.")
    if seats := body.get("seats"):
        lines.append(f"Places rendues : {seats}.")
    if bookings := body.get("bookings"):
        lines.append(f"Rendez-vous concernés : {bookings}.")
    for name, what in (
        ("booking_id", "Rendez-vous"),
        ("question_id", "Question"),
        ("slot_id", "Créneau"),
        ("call_id", "Appel"),
    ):
        if name in body:
            lines.append(f"{what} {body[name]}")
    return Told(subject, tuple(lines))


def _hour(text: str, zone: ZoneInfo) -> str:
    at = datetime.fromisoformat(text).astimezone(zone)
    return f"{_DAYS[at.weekday()]} {at.day} {_MONTHS[at.month - 1]} à {at:%H h %M}"
