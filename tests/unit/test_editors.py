"""Editors of agendas without any store: rhythm, the file, places on the map, what people are told."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import orjson
import pytest

from adapters.directory import FileDirectory
from adapters.fhir.asking import Flow
from adapters.fhir.editors import EditorsError, FhirEditor, read_editors
from adapters.fhir.identifiers import Kind, NationalId
from adapters.fhir.placing import Placing, plain_name
from adapters.fhir.reading import Offered, Searchset, Site
from adapters.fhir.searchsets import Frame, practitioners_bundle
from adapters.geo import Gazetteer
from adapters.memory import MemoryBus
from sas_matcher.ports.bus import ARRIVAL, REQUESTS_STREAM, Entry
from sas_matcher.ports.editors import EditorFailedError, EditorState
from sas_matcher.ports.ledger import Announcement
from sas_matcher.services.editors.polling import Looks, Polling
from sas_matcher.services.editors.rhythm import FASTEST_S, NIGHT_S, SLOWEST_S, interval_s
from sas_matcher.services.editors.view import TOO_OLD, mute_s, sentence
from tests.fhir_cases import place
from tests.ledger_cases import StillClock
from tests.network import Network

NOW = datetime(2026, 11, 27, 9, tzinfo=UTC)


# -- rhythm ------------------------------------------------------------------------------------------------------------


def test_agendas_are_asked_for_more_often_where_something_happens() -> None:
    quiet = interval_s(15, 0.0, 0)
    assert quiet == SLOWEST_S
    assert interval_s(15, 1.0, 0) < quiet and interval_s(15, 0.0, 4) < quiet and interval_s(9, 0.0, 0) < quiet
    # before the peak, not only in it
    assert interval_s(19.5, 0.5, 0) < interval_s(19.4, 0.5, 0)
    assert interval_s(15, 1.0, 8) > interval_s(9, 1.0, 8)


@pytest.mark.parametrize("moving", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("looks", [0, 1, 50, 10_000])
def test_the_rhythm_keeps_its_bounds(moving: float, looks: int) -> None:
    for quarter in range(96):
        seconds = interval_s(quarter / 4, moving, looks)
        assert FASTEST_S <= seconds <= SLOWEST_S or (seconds == NIGHT_S and looks < 1 and moving < 0.05)


def test_at_night_only_what_stirs_is_asked_for() -> None:
    assert interval_s(3, 0.0, 0) == NIGHT_S == interval_s(22, 0.0, 0)
    assert interval_s(3, 0.0, 1) < NIGHT_S and interval_s(3, 0.5, 0) < NIGHT_S
    assert TOO_OLD.total_seconds() > NIGHT_S, "else a quiet night would withdraw everything"


def test_looks_are_those_of_ten_minutes_in_these_territories() -> None:
    looks = Looks()
    for at, territory in ((0, "69"), (500, "69"), (550, "01"), (590, "42")):
        looks.note(at, territory, f"r{at}")
    assert looks.count(600, {"69", "01"}) == 3
    looks.note(600, "69", "r500")
    assert looks.count(601, {"69", "01"}) == 2, "a request that is told again is one"
    looks.note(0, "69", "after the clock was put back")
    assert looks.count(1, {"69", "01"}) == 1


@pytest.mark.faults("editors.looks")
async def test_requests_on_their_way_to_the_matcher_are_looks() -> None:
    """They are told before they are written, and with a claim that writes them as such alone.

    What cannot be read is left behind: the polling goes on.
    """
    bus, rest = MemoryBus(StillClock(NOW)), cast(Any, None)
    polling = Polling([], rest, rest, bus, rest, StillClock(NOW), rest, rest)
    following = asyncio.create_task(polling._follow_looks())
    await asyncio.sleep(0.01)  # it begins with what comes from now on
    told = [(ARRIVAL, "a"), ("open", "b"), (ARRIVAL, "c"), ("open", "c"), ("closed", "d")]
    await bus.publish([Announcement(0, NOW, "69", "requests", kind, name, 1, "k", (), "{}") for kind, name in told])
    async with asyncio.timeout(5):
        while polling._looks.count(NOW.timestamp(), {"69"}) < 3:  # noqa: ASYNC110 - the poller sets no event
            await asyncio.sleep(0.01)
        real, lame = bus.read, [Entry(REQUESTS_STREAM, "1-0", {})]

        async def read(*args: Any, **more: Any) -> list[Entry]:
            return [lame.pop()] if lame else await real(*args, **more)

        bus.read = read  # type: ignore[method-assign]
        await bus.publish([Announcement(0, NOW, "69", "requests", "open", "e", 1, "k", (), "{}")])
        while lame or polling._looks.count(NOW.timestamp(), {"69"}) < 4:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    assert not following.done()
    following.cancel()


# -- the file ----------------------------------------------------------------------------------------------------------

FILE = """
[[editor]]
name = "agenda"
label = "Agenda Fictif"
url = "https://agenda.example/fhir"
flows = ["ps", "sos"]
people = "people.txt"
"""


def read(folder: Path, text: str = FILE, people: str = "810000000001\n") -> Any:
    (folder / "editors.toml").write_text(text, encoding="utf-8")
    (folder / "people.txt").write_text(people, encoding="utf-8")
    return read_editors(folder / "editors.toml")


def test_people_are_asked_for_by_25_and_sites_by_10(tmp_path: Path) -> None:
    lines = [f"{10_000_000_000 + n}" for n in range(60)] + [f"3{99_000_000_000_000 + n}" for n in range(11)]
    # twice the same, prefixed or not, and a comment
    (editor,) = read(tmp_path, people="\n".join([*lines, "810000000000 # encore", "", "# fin"]))
    sizes = [(batch.flow, len(batch.identifiers)) for batch in editor.batches]
    assert sizes == [("ps", 25), ("ps", 25), ("ps", 10), ("sos", 10), ("sos", 1)]
    assert editor.batches[0].identifiers[0] == "810000000000" and editor.batches[0].owners[0] == "10000000000"
    assert len({batch.key for batch in editor.batches}) == 5
    (superset,) = read(tmp_path, FILE.replace('"ps", "sos"', '"ps", "cpts"'), "\n".join(lines))
    assert {batch.flow for batch in superset.batches} == {"cpts"}


@pytest.mark.parametrize(
    ("text", "people", "words"),
    [
        (FILE.replace("name", "nom"), "", "editor.0.name"),
        (FILE.replace('"agenda"', '"Agenda !"'), "", "editor.0.name"),
        (FILE.replace("https:", "ftp:"), "", "editor.0.url"),
        (FILE.replace('"sos"', '"msp"'), "", "editor.0.flows"),
        (FILE + FILE, "", "deux éditeurs"),
        ("[[editor", "", "TOML"),
        ("", "", "editor"),
        (FILE, "810000000001\n12\n", "ligne 2"),
        (FILE, "1690000001\n", "ligne 1"),
        (FILE.replace("people.txt", "absent.txt"), "", "absent.txt"),
    ],
)
def test_a_wrong_file_is_named_with_its_place(tmp_path: Path, text: str, people: str, words: str) -> None:
    with pytest.raises(EditorsError, match=words):
        read(tmp_path, text, people)


# -- on the map --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def geography() -> Gazetteer:
    return Gazetteer.load()


def offered(**changes: Any) -> Offered:
    place = {"id": "s1", "name": "Cabinet fictif", "line": "1 rue", "city": "LYON", "postcode": "69002"}
    known: dict[str, Any] = {
        "slot_id": "c1",
        "practitioner": NationalId(Kind.RPPS, "10000000001"),
        "family": "FICTIF",
        "given": "Anne",
        "site": Site(**{**place, "phone": None, "structure": None, **changes.pop("site", {})}),
        "structures": (),
        "start": NOW,
        "end": NOW + timedelta(minutes=15),
        "modes": ("cabinet",),
        "visibilities": ("PUBLIC", "SNP"),
        "specialties": ("SM54",),
        "motives": (),
        "bookable": True,
        "url": "https://agenda.example/a?x=1",
    }
    return Offered(**(known | changes))


def placed(geography: Gazetteer, *found: Offered, directory: str = "", flow: Flow = Flow.PS) -> Any:
    from collections import Counter

    placing = Placing(geography, FileDirectory(directory.splitlines()))
    return placing.answer(Searchset(list(found), Counter(), None), flow, "sas")


@pytest.mark.parametrize(
    ("site", "insee"),
    [
        ({}, "69382"),
        ({"city": "Lyon 2e", "postcode": "69002"}, "69382"),
        ({"city": "ST ETIENNE", "postcode": "42000"}, "42218"),
        ({"city": "LYON CEDEX 03", "postcode": "69431"}, "69123"),
        ({"city": "AJACCIO", "postcode": "20000"}, "2A004"),
        ({"city": "Saint-Denis", "postcode": "97400"}, "97411"),
        ({"city": "VILLE INCONNUE", "postcode": "99999"}, None),
        ({"city": None, "postcode": None}, None),
    ],
)
def test_a_place_stands_in_its_commune_or_is_counted(
    geography: Gazetteer, site: dict[str, Any], insee: str | None
) -> None:
    answer = placed(geography, offered(site=site))
    if insee is None:
        assert answer.slots == [] and answer.dropped == {"no_commune": 1}
    else:
        (slot,) = answer.slots
        assert slot["location"]["insee"] == insee
        commune = geography.by_code(insee)
        assert commune is not None and (slot["location"]["lat"], slot["location"]["lon"]) == (commune.lat, commune.lon)


@pytest.mark.parametrize(
    ("changes", "profession"),
    [
        ({"specialties": ("SM40",)}, "PED"),
        ({"specialties": (), "specialty_texts": ("masseur-kinésithérapeute",)}, "KINE"),
        ({"specialties": ("SM99",)}, None),
        ({"specialties": ()}, None),
        ({"specialties": (), "practitioner": None}, "MG"),
    ],
)
def test_a_profession_is_known_or_the_slot_is_left_out(
    geography: Gazetteer, changes: dict[str, Any], profession: str | None
) -> None:
    answer = placed(geography, offered(**changes))
    assert [slot["profession"] for slot in answer.slots] == ([profession] if profession else [])
    assert answer.dropped == ({} if profession else {"no_profession": 1})


def test_the_directory_knows_a_profession_that_the_editor_does_not_tell(geography: Gazetteer) -> None:
    line = '{"kind": "person", "rpps": "10000000001", "family": "FICTIF", "given": "Anne", "specialty": "SM38"}'
    (slot,) = placed(geography, offered(specialties=()), directory=line).slots
    assert slot["profession"] == "SPE"


def test_one_slot_of_two_consultation_types_is_two_places_at_one_time(geography: Gazetteer) -> None:
    first, second = placed(geography, offered(modes=("cabinet", "tele"))).slots
    assert (first["external_id"], second["external_id"]) == ("c1", "c1|tele")
    assert (first["mode"], second["mode"]) == ("cabinet", "tele") and first["start"] == second["start"]


@pytest.mark.parametrize(
    ("changes", "link"),
    [
        ({}, "https://agenda.example/a?x=1&origin=sas"),
        ({"bookable": False}, None),
        ({"url": None}, None),
        ({"url": "javascript:alert(1)"}, None),
        ({"url": "data:text/html,x"}, None),
    ],
)
def test_only_a_web_page_is_a_link(geography: Gazetteer, changes: dict[str, Any], link: str | None) -> None:
    (slot,) = placed(geography, offered(**changes)).slots
    assert slot["link"] == link and slot["visibility"] == "snp"


def test_names_of_cities_compare_without_their_clothes() -> None:
    assert plain_name("St-Étienne") == plain_name("SAINT ETIENNE") == "SAINT ETIENNE"
    assert plain_name("L'Haÿ-les-Roses Cedex 2") == "L HAY LES ROSES"


async def test_an_editor_that_pages_is_followed_on_its_own_host_only(geography: Gazetteer, tmp_path: Path) -> None:
    (editor,) = read(tmp_path)
    frame = Frame("https://agenda.example/fhir", "https://agenda.example/fhir/Slot", "b1")
    when = {"start": NOW + timedelta(hours=1), "end": NOW + timedelta(hours=2)}
    heard: list[str] = []

    async def send(request: httpx.Request) -> httpx.Response:
        heard.append(request.url.host)
        number = len(heard)
        bundle = practitioners_bundle([place(number, **when)], frame)
        target = "/fhir/suite" if number == 1 else "https://ailleurs.example/fhir/suite"
        bundle["link"].append({"relation": "next", "url": target})
        return httpx.Response(200, content=orjson.dumps(bundle))

    placing = Placing(geography, FileDirectory())
    asked = FhirEditor(editor, placing, asyncio.Semaphore(1), transport=Network(send))
    answer = await asked.ask(editor.batches[0], (NOW, NOW + timedelta(hours=72)))
    await asked.close()
    assert [slot["external_id"] for slot in answer.slots] == ["1", "2"]
    assert heard == ["agenda.example", "agenda.example"], "our certificate is shown to nobody else"


@pytest.mark.parametrize("breaks", [1, 2])
async def test_a_connection_that_breaks_once_costs_nothing(geography: Gazetteer, tmp_path: Path, breaks: int) -> None:
    (editor,) = read(tmp_path)
    frame = Frame("https://agenda.example/fhir", "https://agenda.example/fhir/Slot", "b1")
    calls = 0

    async def send(request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        if calls <= breaks:
            raise httpx.RemoteProtocolError("closed", request=request)
        return httpx.Response(200, content=orjson.dumps(practitioners_bundle([], frame)))

    asked = FhirEditor(editor, Placing(geography, FileDirectory()), asyncio.Semaphore(1), transport=Network(send))
    work = asked.ask(editor.batches[0], (NOW, NOW + timedelta(hours=72)))
    if breaks == 1:
        assert (await work).slots == []
    else:
        with pytest.raises(EditorFailedError, match="connexion rompue"):
            await work
    assert calls == 2
    await asked.close()


# -- what people are told ----------------------------------------------------------------------------------------------


def test_a_moment_is_no_silence_and_a_silence_is_told_with_its_length_and_reason() -> None:
    answers = EditorState("x", last_ok=NOW)
    assert mute_s(answers, NOW) == 0 and sentence("X", answers, NOW) == "éditeur X : dernière réponse il y a 0 s"
    failing = answers._replace(silent_since=NOW, failures=1, error="erreur 503")
    assert mute_s(failing, NOW + timedelta(seconds=59)) == 0
    assert mute_s(failing._replace(open_until=NOW), NOW + timedelta(seconds=20)) == 20
    told = sentence("X", failing, NOW + timedelta(minutes=4, seconds=10))
    assert told.startswith("éditeur X muet depuis 4 min (erreur 503) ; ses dernières places")
    assert "ne sont plus proposées" in sentence("X", failing, NOW + TOO_OLD)
    assert sentence("X", EditorState("x"), NOW) == "éditeur X pas encore interrogé"
