"""The mock editor: invented agendas of a département behind the national contract, and the file that has it polled."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import httpx
import uvicorn

from adapters.fhir import names
from adapters.fhir.agenda import split_name
from adapters.fhir.identifiers import Kind, NationalId
from adapters.fhir.mock import Manners, MockEditor
from adapters.fhir.outcomes import read_outcome
from adapters.fhir.searchsets import Cpts, Place, Site
from adapters.geo import Gazetteer
from adapters.system import SystemClock
from sas_matcher.cli.french import FailureError, InputError
from sas_matcher.demo import identity
from sas_matcher.demo.plan import Day, places_of, world_of
from sas_matcher.demo.world import Json
from sas_matcher.domain.vocabulary import PROFESSION_LABELS, Profession

NAME: Final = "editeur-fictif"
_DAYS: Final = 3  # the platform looks 72 hours ahead
_FAMILY_DOCTOR: Final = "SM54"
_CALL_S: Final = 10.0
_OTHERS: Final = 500_000  # serial numbers of people and structures whom no demonstration has


def agendas(territory: str, now: datetime, share: float = 1.0) -> list[Place]:
    """Return the places that an invented editor of a département may show in the coming days.

    Args:
        territory: code of the département.
        now: what has begun is left out.
        share: of the invented practitioners whose agenda is with this editor.

    Raises:
        InputError: there is no such département.
    """
    geography = Gazetteer.load()
    if territory not in geography.territories:
        raise InputError(f"« {territory} » n'est pas un département")
    world = world_of(NAME + territory, geography.communes_of(territory), geography.territories)
    zone = ZoneInfo(geography.territories[territory].timezone)
    today = now.astimezone(zone).date()
    drawn: list[Json] = []
    for ahead in range(_DAYS):
        drawn += places_of(world, NAME + territory, Day(today + timedelta(days=ahead), (8, 20), ""), now)
    kept = round(share * len(world.professionals))
    mine = {person.rpps for person in world.professionals[:kept]}
    return [
        _place(number, slot, geography, zone)
        for number, slot in enumerate(drawn)
        if slot["professional"] is None or slot["professional"]["rpps"] in mine
    ]


def _elsewhere(identifier: str) -> str:
    """Return an invented identifier of the same kind that the demonstration's own world does not have."""
    return identity.fictitious_id(_OTHERS + int(identifier[len(identity.FICTION_PREFIX) : -1]), len(identifier))


def _place(number: int, slot: Json, geography: Gazetteer, zone: ZoneInfo) -> Place:
    location, person, structure = slot["location"], slot["professional"], slot["structure"]
    commune = geography.by_code(location["insee"])
    if commune is None:  # pragma: no cover - drawn from the same gazetteer
        raise LookupError(location["insee"])
    of_sos = slot["source_kind"] == "sos" or person is None
    finess = _elsewhere(structure["finess"]) if structure else None
    rpps = _elsewhere(person["rpps"]) if person else ""
    owner = NationalId(Kind.FINESS, finess) if finess else None
    family, given = split_name(person["name"]) if person else ("", "")
    if of_sos:
        owner = NationalId(Kind.SIRET, identity.fictitious_id(int((finess or "0")[2:]), 14))
        family, given = (structure or location)["name"], ""
    cpts = (Cpts(finess, structure["name"], None),) if finess and slot["visibility"] == "cpts" else ()
    visibility = slot["visibility"].upper()
    return Place(
        slot_id=f"c{number}",
        rpps=None if of_sos else rpps,
        family=family,
        given=given,
        site=Site(
            id=finess or rpps,
            system="https://editeur-fictif.example",
            name=location["label"],
            line=f"{number % 90 + 1} rue Fictive",
            city=commune.name,
            postcode=commune.postcodes[0] if commune.postcodes else commune.code,
            phone=location["phone"],
            structure=owner,
        ),
        start=datetime.fromisoformat(slot["start"]),
        end=datetime.fromisoformat(slot["end"]),
        zone=zone,
        modes=(slot["mode"],),
        visibilities=(visibility if not of_sos or visibility in ("PUBLIC", "SNP") else "SNP",),
        booking_kind=slot["booking_kind"],
        specialty=slot["specialty"] or (_FAMILY_DOCTOR if slot["profession"] == "MG" else None),
        profession=PROFESSION_LABELS[Profession(slot["profession"])],
        url="",
        cpts=cpts,
    )


def identifiers(places: Iterable[Place]) -> list[str]:
    """Return whom an editor can be asked for: prefixed RPPS, and SIRET of SOS Médecins, each once."""
    found = {
        f"{Kind.RPPS}{place.rpps}" if place.rpps else place.site.structure.prefixed if place.site.structure else ""
        for place in places
    }
    return sorted(found - {""})


def write_configuration(folder: Path, url: str, places: Sequence[Place], key: str = "") -> Path:
    """Write the file of editors (``SAS_EDITORS``) that has this editor polled, and the list of its people.

    ``key`` (``sas_…``) is the one that the editor tells its bookings with.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{NAME}.txt").write_text("\n".join(identifiers(places)) + "\n", encoding="utf-8")
        target = folder / "editeurs.toml"
        client = f'"{key.split("_")[1]}"' if key.count("_") > 1 else ""
        target.write_text(
            f'[[editor]]\nname = "{NAME}"\nlabel = "Fictif"\nurl = "{url}/fhir"\n'
            f'flows = ["ps", "cpts", "sos"]\npeople = "{NAME}.txt"\norigin = "sas"\nclients = [{client}]\n',
            encoding="utf-8",
        )
    except OSError as wrong:
        raise InputError(f"{folder} ne peut être écrit ({wrong.strerror})") from wrong
    return target


async def told(http: httpx.AsyncClient, url: str, document: dict[str, Any], say: Callable[[str], None]) -> bool:
    """Send an Appointment; tells whether it was taken, and says why not."""
    try:
        answer = await http.post(url, json=document)
    except httpx.HTTPError as failure:
        say(f"INT_R03 : {url} ne répond pas ({type(failure).__name__})")
        return False
    if not answer.is_success:
        say(f"INT_R03 refusé : {answer.status_code} {read_outcome(_json(answer))}".strip())
    return answer.is_success


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def serve(
    places: Sequence[Place], manners: Manners, port: int, platform: str, key: str, say: Callable[[str], None]
) -> None:
    """Serve the editor until a signal; bookings are told to ``platform`` (base of its FHIR endpoint), unless empty.

    Raises:
        FailureError: the port is taken.
    """
    base = f"http://127.0.0.1:{port}"

    async def run() -> None:
        headers = {"Content-Type": names.JSON, **({"Authorization": f"Bearer {key}"} if key else {})}
        async with httpx.AsyncClient(headers=headers, timeout=_CALL_S, trust_env=False) as http:

            async def tell(document: dict[str, Any]) -> bool:
                return await told(http, f"{platform}/Appointment", document, say)

            editor = MockEditor(places, manners, SystemClock().now, asyncio.sleep, base, tell if platform else None)
            config = uvicorn.Config(
                editor.app(), host="127.0.0.1", port=port, log_level="warning", access_log=False, server_header=False
            )
            await uvicorn.Server(config).serve()

    try:
        asyncio.run(run())
    except SystemExit as failed:  # uvicorn has said why on the standard error
        raise FailureError(f"le port {port} ne peut être ouvert ; choisissez-en un autre avec --port") from failed
