"""The batches beside a recorded day log (`sas-batches/1`): what the live matcher decided together, and on which seats.

JSON Lines like the day log, in the order in which the matcher heard and decided. ``after`` counts the events of the day
log that come before a line; several lines may stand after the same event.

- ``meta``, the first line: ``format``, ``territory`` and ``start`` of the day log it belongs to.
- ``batch``: at the instant ``t``, ``requests`` were decided together under ``policy``. ``slots`` says which slot was
  chosen for each (null: none, or none of this log), ``lost`` who did not get it, as it had just been taken;
  ``said`` what came of it in the ledger's words (null: nothing was claimed);
  ``measures`` what the territory had set beside (radius, places kept or lent …), where it was not the default;
  ``mt_first`` whether a free place at the médecin traitant's came first. Where a desk decides, ``asked`` are those who
  had just called, in the order in which it heard of them, the others were decided by its plan; ``step`` is what became
  of that: ``made`` and taken over at once, ``begun`` (it is being made elsewhere), ``taken`` over since it has come, or
  null. A batch of a desk may decide for nobody. ``planned``: the professions of a plan that was made or begun;
  ``answered``: to whom the desk gave an answer, in this order (null for both: not known, in files of before).
  ``unheard``: slots that are withdrawn by then, and of which the matcher had not heard that, while it knew whom it sent
  away. ``released``: the instant for which places kept for urgent requests were released last, where some are kept.
  ``made``: when those of ``asked`` called whose line in the day log bears a later instant (lines are in order).
  ``promised``: the slot behind the promise of those of ``asked`` who had one.
  ``opened``: the desk was new; ``expected``: from how many days it learned that were drawn, not recorded. ``ceded``:
  slots of which a seat went to an urgent request of another territory, and which request was displaced for it (null:
  who had it moved).
- ``seats``: from here on the matcher saw ``left`` free seats on a slot, whatever a replay would have; ``hidden`` of its
  places were taken before the log began.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson

from sas_matcher.domain.policy import WEIGHED
from sas_matcher.replay.daylog import DayLog, Instant
from sas_matcher.replay.daylog_file import DayLogError
from sas_matcher.services.matcher.desks import Step

FORMAT: Final = "sas-batches/1"


@dataclass(frozen=True, slots=True)
class Meta:
    """Which day log the batches belong to: its territory, and the instant at which it starts."""

    territory: str
    start: Instant


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that were decided together, and what was chosen for each (parallel); ``lost`` did not get it.

    ``said`` is parallel too. ``step`` is one of ``services.matcher.desks.Step``, None without a plan. In files of
    before there were desks all have been ``asked``, and nothing is known to be ``said``.
    """

    t: Instant
    after: int
    requests: tuple[str, ...]
    slots: tuple[str | None, ...]
    lost: frozenset[str]
    policy: str
    mt_first: bool
    said: tuple[str | None, ...]
    asked: tuple[str, ...]
    step: Step | None = None
    measures: Mapping[str, Any] = field(default_factory=dict)
    opened: bool = False
    ceded: tuple[tuple[str, str | None], ...] = ()
    planned: tuple[str, ...] | None = None
    answered: tuple[str, ...] | None = None
    unheard: tuple[str, ...] = ()
    released: Instant | None = None
    made: Mapping[str, Instant] = field(default_factory=dict)
    promised: Mapping[str, str] = field(default_factory=dict)
    expected: int = 0


@dataclass(frozen=True, slots=True)
class Seats:
    """A slot had ``left`` free seats from here on; ``hidden`` more were taken before the log began."""

    t: Instant
    after: int
    slot_id: str
    left: int
    hidden: int = 0


Mark: TypeAlias = Batch | Seats


def base_name(slot_id: str) -> str:
    """The name of a recorded slot without the number that it bears when it comes back: ``s0000000028.1``."""
    return slot_id.partition(".")[0]


def slot_name(number: int, times: int = 0) -> str:
    """The name of a slot in a recorded log: its number in the ledger, and how often it has come back."""
    # of one width, so that names sort as numbers do
    return f"s{number:010d}" + (f".{times}" if times else "")


def slot_number(slot_id: str) -> int | None:
    """The number in the ledger that a recorded slot's name holds; None for a name that ``slot_name`` did not give."""
    digits = base_name(slot_id).removeprefix("s")
    return int(digits) if digits.isdecimal() and slot_name(int(digits)) == base_name(slot_id) else None


def mark_line(mark: Meta | Mark) -> bytes:
    """The line that says this, with its line feed."""
    record: dict[str, Any] = asdict(mark)
    if isinstance(mark, Meta):
        record = {"type": "meta", "format": FORMAT, "territory": mark.territory, "start": mark.start.iso()}
    else:
        record = {"type": type(mark).__name__.lower(), **record, "t": mark.t.iso()}
    if isinstance(mark, Batch):
        record["lost"] = sorted(mark.lost)
        record["released"] = None if mark.released is None else mark.released.iso()
        record["made"] = {name: at.iso() for name, at in mark.made.items()}
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def read_marks(lines: Iterable[bytes], day: DayLog) -> Iterator[Mark]:
    """Read the batches of a day log.

    Raises:
        DayLogError: A line cannot be read, does not fit the day log, or the file belongs to another one.
    """
    requests = {made.request.id for made in day.requests}
    slots = {event.slot.id for event in day.slots}
    after = 0
    number = 0
    for number, line in enumerate(lines, 1):
        try:
            record = orjson.loads(line)
            if number == 1:
                _check_meta(record, day)
                continue
            mark = _mark(record)
        except orjson.JSONDecodeError:
            raise DayLogError(number, "JSON illisible.") from None
        except KeyError as missing:
            raise DayLogError(number, f"clé « {missing.args[0]} » manquante.") from None
        except (TypeError, ValueError, AttributeError, OverflowError) as wrong:
            raise DayLogError(number, f"valeur incorrecte : {wrong}") from None
        if isinstance(mark, Seats):
            named, asked = {mark.slot_id}, set[str]()
        else:
            named = {
                *(name for name in mark.slots if name is not None),
                *(slot for slot, _ in mark.ceded),
                *mark.unheard,
                *mark.promised.values(),
            }
            displaced = {loser for _, loser in mark.ceded if loser is not None}
            asked = {*mark.requests, *mark.lost, *mark.asked, *displaced, *(mark.answered or ())}
            asked |= mark.made.keys() | mark.promised.keys()
        if unknown := sorted((named - slots) | (asked - requests)):
            raise DayLogError(number, f"« {unknown[0]} » n'est pas dans le journal.")
        if not after <= mark.after <= len(day.events):
            raise DayLogError(number, f"« after » : de {after} à {len(day.events)} attendu, reçu {mark.after}.")
        after = mark.after
        yield mark
    if not number:
        raise DayLogError(1, "le fichier est vide, « meta » attendu.")


def _check_meta(record: Any, day: DayLog) -> None:
    if record["type"] != "meta" or record["format"] != FORMAT:
        raise ValueError(f"la première ligne doit être « meta », de format « {FORMAT} ».")
    if (record["territory"], Instant.parse(record["start"])) != (day.meta.territory, day.meta.start):
        raise ValueError("ces lots sont ceux d'un autre journal.")


def _mark(record: Any) -> Mark:
    t, after = Instant.parse(record["t"]), _whole(record["after"])
    if record["type"] == "seats":
        return Seats(t, after, str(record["slot_id"]), _whole(record["left"]), _whole(record.get("hidden", 0)))
    if record["type"] != "batch":
        raise ValueError(f"type « {record['type']} » inconnu.")
    requests, slots = tuple(record["requests"]), tuple(record["slots"])
    if len(requests) != len(slots):
        raise ValueError("« requests » et « slots » doivent avoir la même longueur.")
    lost = frozenset(record["lost"])
    said = tuple(record.get("said", (None,) * len(requests)))
    if len(said) != len(requests):
        raise ValueError("« requests » et « said » doivent avoir la même longueur.")
    asked, step = tuple(record.get("asked", requests)), record.get("step")
    policy, mt_first = str(record["policy"]), bool(record["mt_first"])
    measures = dict(record.get("measures", {}))
    if unknown := sorted(measures.keys() - set(WEIGHED)):
        raise ValueError(f"« measures » : {unknown[0]} inconnu.")
    fixed = (t, after, requests, slots, lost, policy, mt_first, said, asked)
    ceded = tuple((str(slot), None if loser is None else str(loser)) for slot, loser in record.get("ceded", ()))
    planned, answered = (None if record.get(k) is None else tuple(map(str, record[k])) for k in ("planned", "answered"))
    return Batch(
        *fixed,
        step=None if step is None else Step(step),
        measures=measures,
        opened=bool(record.get("opened", False)),
        expected=_whole(record.get("expected", 0)),
        ceded=ceded,
        planned=planned,
        answered=answered,
        unheard=tuple(map(str, record.get("unheard", ()))),
        made={str(name): Instant.parse(at) for name, at in record.get("made", {}).items()},
        promised={str(name): str(slot) for name, slot in record.get("promised", {}).items()},
        released=None if record.get("released") is None else Instant.parse(record["released"]),
    )


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"entier positif attendu, reçu {value}.")
    return value


def read_batches(path: Path, day: DayLog) -> list[Mark]:
    """Read the file of batches that belongs to a day log.

    Raises:
        DayLogError: As ``read_marks``.
        OSError: The file cannot be opened.
    """
    with path.open("rb") as file:
        return list(read_marks(file, day))
