"""The commands of a practice about its patients: accept, refuse, call off, move, say who came."""

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sas_matcher.cli.french import FrenchCommand, FrenchGroup
from sas_matcher.cli.options import DEFAULT_URL, Json, Key, Url
from sas_matcher.cli.speaking import say, with_client

if TYPE_CHECKING:
    from sas_matcher.client import Booking, SasClient

bookings = typer.Typer(
    cls=FrenchGroup,
    help="Patients du cabinet : accepter, refuser, décommander, déplacer, dire qui est venu.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
BookingId = Annotated[str, typer.Argument(metavar="RENDEZ-VOUS", help="Identifiant du rendez-vous.")]
SlotNumber = Annotated[int, typer.Argument(metavar="CRÉNEAU", help="Numéro du créneau (slot_id).")]
STATE: Final = {
    "firm": "pris",
    "fulfilled": "patient venu",
    "noshow": "patient absent",
    "refused": "refusé",
    "withdrawn": "créneau retiré",
    "cancelled": "annulé",
}


def booking_line(booking: "Booking") -> str:
    """Return a booking in one line: when, where it stands, whether it is to be accepted."""
    from sas_matcher.client import Acceptance  # noqa: PLC0415 - see the package

    start, stands = booking.start.astimezone(), STATE.get(booking.state, booking.state)
    acceptance = Acceptance.of(booking)
    if booking.state == "firm" and acceptance is not None and acceptance.accepted_at is None and acceptance.until:
        stands = f"à accepter avant {acceptance.until.astimezone():%H h %M}"
        stands += " (sinon accepté)" if acceptance.kind == "tacit" else " (sinon replacé)"
    needs = f" · {', '.join(booking.needs)}" if booking.needs else ""
    return f"{booking.booking_id}  {start:%d/%m à %H h %M} · {stands} · {booking.profession} {booking.mode}{needs}"


def _act(url: str, key: str, work: "Callable[[SasClient], Coroutine[Any, Any, Booking]]") -> None:
    typer.echo(booking_line(with_client(url, key, work)))


@bookings.command("list", cls=FrenchCommand)
def listing(
    url: Url = DEFAULT_URL,
    key: Key = "",
    days: Annotated[int, typer.Option(min=1, max=92, metavar="N", help="Jours à venir.")] = 2,
    as_json: Json = False,
) -> None:
    """Liste les rendez-vous des dernières heures et des jours à venir."""
    now = datetime.now(UTC)
    window = now - timedelta(hours=12), now + timedelta(days=days)
    found = with_client(url, key, lambda sas: sas.bookings(*window, limit=1000))
    say(found, booking_line, as_json=as_json, none="Aucun rendez-vous.")


@bookings.command("accept", cls=FrenchCommand)
def accept(booking: BookingId, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Accepte un rendez-vous, avant l'échéance."""
    _act(url, key, lambda sas: sas.accept(booking))


@bookings.command("refuse", cls=FrenchCommand)
def refuse(
    booking: BookingId,
    url: Url = DEFAULT_URL,
    key: Key = "",
    reason: Annotated[
        str,
        typer.Option(metavar="MOTIF", help="practice, overbooked, absent, outside_competence ou too_far."),
    ] = "practice",
    keep: Annotated[
        bool | None,
        typer.Option(
            "--keep/--close",
            help="Laisse le créneau aux autres, ou le retire ; sans rien, une heure est retirée et une plage reste.",
        ),
    ] = None,
) -> None:
    """Refuse un rendez-vous ; une autre place est cherchée au patient aussitôt."""
    _act(url, key, lambda sas: sas.refuse(booking, reason=reason, keep_slot=keep))


@bookings.command("cancel", cls=FrenchCommand)
def cancel(
    booking: BookingId,
    url: Url = DEFAULT_URL,
    key: Key = "",
    close: Annotated[bool, typer.Option("--close", help="Retire aussi le créneau.")] = False,
) -> None:
    """Décommande : le patient a dit au cabinet qu'il ne vient pas ; rien n'est cherché pour lui."""
    _act(url, key, lambda sas: sas.call_off(booking, keep_slot=not close))


@bookings.command("move", cls=FrenchCommand)
def move(booking: BookingId, slot: SlotNumber, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Déplace un patient, avec son accord, vers un autre créneau libre du cabinet."""
    _act(url, key, lambda sas: sas.move(booking, slot))


@bookings.command("came", cls=FrenchCommand)
def came(
    booking: BookingId,
    url: Url = DEFAULT_URL,
    key: Key = "",
    no: Annotated[bool, typer.Option("--no", help="Le patient n'est pas venu.")] = False,
) -> None:
    """Dit si le patient est venu ; peut être corrigé."""
    _act(url, key, lambda sas: sas.outcome(booking, "noshow" if no else "fulfilled"))


@bookings.command("arrived", cls=FrenchCommand)
def arrived(
    slot: SlotNumber,
    count: Annotated[int, typer.Argument(metavar="N", min=0, help="Patients venus jusqu'ici.")],
    url: Url = DEFAULT_URL,
    key: Key = "",
    over: Annotated[bool, typer.Option("--over", help="La plage est finie : les autres ne sont pas venus.")] = False,
) -> None:
    """Compte les patients d'une plage ; peut être corrigé."""
    done = with_client(url, key, lambda sas: sas.arrived(slot, count, over=over))
    absent = f", {done['missed']} absent(s)" if done["missed"] else ""
    typer.echo(f"{done['arrived']} venu(s) sur {done['taken']} attendu(s){absent} ; {done['capacity']} places.")
