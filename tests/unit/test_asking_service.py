"""The climbing of ladders on the ledger in memory: one step after the other, by the clock, to the end."""

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from adapters.memory import MemoryLedger
from sas_matcher.services.asking import Asking, steps_in_french
from tests.asking_cases import Asker
from tests.conftest import Recorder
from tests.ledger_cases import KEY, NOW, Desk, StillClock, TwinDesk, minutes, new_id

ASK: dict[str, Any] = {"kind": "ask", "name": "Proches", "waves": 2, "at_once": 1, "sure_pct": 100, "wait_min": 5}
MMG: dict[str, Any] = {"kind": "tell", "name": "Garde", "what": "mmg", "text": "rue Fictive", "wait_min": 10}
END: dict[str, Any] = {"kind": "tell", "name": "Fin", "what": "reorient", "text": None, "wait_min": 1}


class _Ids:
    def uuid(self) -> str:
        return new_id()


class Climb:
    """A territory's ladder, its climber and a clock."""

    def __init__(self, desk: Desk, clock: StillClock) -> None:
        self.clock, self.asker = clock, Asker(desk)
        self.asking = Asking(self.asker.book, clock, _Ids(), lambda _insee: 0, lambda _code: ZoneInfo("Europe/Paris"))

    async def at(self, after: float) -> int:
        """Step so many minutes after the beginning."""
        self.clock.instant = NOW + minutes(after)
        return await self.asking.step()

    async def log(self, request_id: str) -> list[str]:
        """Return what its regulator reads."""
        found = orjson.loads(await self.asker.book.asking(request_id, KEY) or "")
        return [entry["sentence"] for entry in found["log"]]


@pytest.fixture
async def climb(recorder: Recorder) -> Climb:
    """A climb on the ledger in memory."""
    clock = StillClock(NOW)
    return Climb(await TwinDesk(MemoryLedger(recorder, clock), clock).open(), clock)


async def test_wave_after_wave_to_the_end_as_the_clock_goes(climb: Climb) -> None:
    await climb.asker.ladder(ASK, MMG, END)
    await climb.asker.consent("a", "b", "c")
    request = await climb.asker.waits()
    looked = [await climb.at(after) for after in (0, 1, 4.9, 5, 10, 19, 20, 21, 100)]
    assert looked == [1, 0, 0, 1, 1, 0, 1, 0, 0]
    assert await climb.log(request) == [
        "Proches, vague 1 : 1 professionnel sollicité sur 3 ; étape suivante à 09 h 05 sans réponse.",
        "Proches, vague 2 : 1 professionnel sollicité sur 2 ; étape suivante à 09 h 10 sans réponse.",
        "Garde : proposer la maison médicale de garde — rue Fictive.",
        "Fin : réorienter : aucun professionnel n'a pu être trouvé.",
    ]


async def test_without_anybody_left_the_end_is_said_once(climb: Climb) -> None:
    await climb.asker.ladder(ASK)
    await climb.asker.consent("a")
    request = await climb.asker.waits()
    assert [await climb.at(after) for after in (0, 5, 10)] == [1, 1, 0]
    assert (await climb.log(request))[1].startswith("Fin de l'échelle")


async def test_requests_of_one_moment_do_not_ask_one_doctor_more_than_he_allows(climb: Climb) -> None:
    await climb.asker.ladder({**ASK, "waves": 1}, END)
    await climb.asker.consent("a", most_a_day=2)
    requests = [await climb.asker.waits() for _ in range(3)]
    assert await climb.at(0) == 3
    first = [(await climb.log(request))[0] for request in requests]
    assert [line.startswith("Proches, vague 1 : 1 professionnel") for line in first] == [True, True, False]
    assert first[2].endswith("(Proches : personne à solliciter maintenant).")


async def test_a_yes_ends_the_climb_and_a_question_of_a_closed_request_is_closed(climb: Climb) -> None:
    await climb.asker.ladder(ASK, END)
    await climb.asker.consent("a", "b")
    request = await climb.asker.waits()
    await climb.at(0)
    (question,) = map(orjson.loads, await climb.asker.book.questions("cds-lyon", [], [], "asked", 9))
    assert await climb.asker.accept(question["question_id"], now=NOW + minutes(1)) == "accepted"
    assert await climb.at(5) == 0
    assert len(await climb.log(request)) == 1
    other = await climb.asker.waits(deadline=NOW + timedelta(minutes=8))
    await climb.at(6)
    await climb.asker.desk.ledger.close_unserved(NOW + minutes(9))
    await climb.at(9)
    (closed,) = map(orjson.loads, await climb.asker.book.questions("cds-lyon", [], [], "closed", 9))
    assert (closed["reason"], await climb.asker.desk.status(other)) == ("unserved", "unserved")


async def test_quiet_hours_put_nobody_in_the_night(climb: Climb) -> None:
    await climb.asker.ladder(ASK, END)
    await climb.asker.consent("a", to_minute=9 * 60)  # it is 9 h in Paris
    request = await climb.asker.waits()
    await climb.at(0)
    assert (await climb.log(request))[0].startswith("Fin : réorienter")


def test_a_ladder_reads_in_french() -> None:
    lines = steps_in_french([{**ASK, "cpts": ["690000001"]}, {**ASK, "only_mt": True}, MMG])
    assert lines == [
        "1. Proches : 2 vague(s) de 1 au plus, dans le rayon de la demande, CPTS 690000001 ; 5 min avant la suite",
        "2. Proches : le médecin traitant, seul ; 5 min avant la suite",
        "3. Garde : proposer la maison médicale de garde — rue Fictive ; 10 min avant la suite",
    ]


@pytest.mark.faults("asking.move")
async def test_a_request_whose_ladder_cannot_be_climbed_does_not_keep_the_others_from_asking(climb: Climb) -> None:
    """It stays due, and is not counted: else the next look would follow at once, for ever."""
    await climb.asker.ladder({**ASK, "waves": 1}, END)
    await climb.asker.consent("a", most_a_day=9)
    requests = [await climb.asker.waits() for _ in range(2)]
    due, climb.asking._landmass_of = climb.asking._book.due, lambda _insee: 1 // 0
    assert await climb.at(0) == 0
    climb.asking._landmass_of = lambda _insee: 0

    async def first_broken(now: Any, limit: int) -> list[Any]:
        found = await due(now, limit)
        return [one._replace(steps=[{"kind": "?"}]) if n == 0 else one for n, one in enumerate(found)]

    climb.asking._book.due = first_broken  # type: ignore[method-assign]
    assert await climb.at(0) == 1
    climbed = [await climb.asker.book.asking(request, KEY) for request in requests]
    assert [one is not None for one in climbed] == [False, True]
