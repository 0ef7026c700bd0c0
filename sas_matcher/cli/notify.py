"""The commands about notifications: who is told of what and how, and whether that arrives."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sas_matcher.cli.french import FrenchCommand, FrenchGroup, InputError
from sas_matcher.cli.options import DEFAULT_URL, Json, Key, Url
from sas_matcher.cli.speaking import say, with_client

if TYPE_CHECKING:
    from sas_matcher.client import Subscription

notify = typer.Typer(
    cls=FrenchGroup,
    help="Notifications du cabinet : courriel, webhook signé, rappels.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Name = Annotated[str, typer.Argument(metavar="NOM", help="Nom de l'abonnement : a-z, 0-9, - et _.")]
USUAL: Final = (
    *("booking.made", "booking.to_accept", "booking.moved", "booking.cancelled", "question.asked"),
    *("places.handed_back", "reminder.accept", "reminder.outcome"),
)
_STATE: Final = {
    "active": "actif",
    "disabled": "suspendu : renvoyez-le (notify set) pour le reprendre",
    "unconfirmed": "attend le code envoyé à cette adresse (notify confirm)",
}
_DELIVERED: Final = {"waiting": "en attente", "sent": "remis", "refused": "abandonné"}


def subscription_line(one: "Subscription") -> str:
    """Return a subscription in one line: to where, what, whether it arrives."""
    where = {"websocket": "écran (websocket)"}.get(one.way, one.address or "")
    state = _STATE.get(one.state, one.state)
    if one.failing_since is not None:
        state += f", rien n'arrive depuis le {one.failing_since.astimezone():%d/%m à %H h %M} ({one.last_error})"
    waiting = f", {one.waiting} en attente" if one.waiting else ""
    return f"{one.name} : {where}, {state}{waiting} · {', '.join(one.kinds)}"


def _show(one: "Subscription") -> None:
    typer.echo(subscription_line(one))
    if one.secret:
        typer.echo(f"Secret de signature : {one.secret}")
        typer.echo("Notez-le : il ne sera plus affiché.", err=True)


@notify.command("set", cls=FrenchCommand)
def set_subscription(
    name: Name,
    url: Url = DEFAULT_URL,
    key: Key = "",
    mail: Annotated[str | None, typer.Option(metavar="ADRESSE", help="Par courriel.")] = None,
    webhook: Annotated[str | None, typer.Option(metavar="URL", help="Par webhook signé (https).")] = None,
    screen: Annotated[bool, typer.Option("--screen", help="Sur l'écran : rappels par le websocket.")] = False,
    kind: Annotated[
        list[str] | None, typer.Option(metavar="QUOI", help="booking.made, question.asked… ; répétable.")
    ] = None,
    professional: Annotated[
        list[str] | None, typer.Option(metavar="RPPS", help="Pour ce professionnel ; répétable. Sinon tous les vôtres.")
    ] = None,
    structure: Annotated[
        list[str] | None, typer.Option(metavar="FINESS", help="Pour cette structure ; répétable.")
    ] = None,
    reminders: Annotated[int, typer.Option(min=0, max=20, metavar="N", help="Rappels par jour au plus.")] = 3,
) -> None:
    """Abonne le cabinet, ou change un abonnement ; vaut aussitôt."""
    ways = [(way, address) for way, address in (("email", mail), ("webhook", webhook)) if address]
    ways += [("websocket", "")] * screen
    if len(ways) != 1:
        raise InputError("choisissez une voie : --mail, --webhook ou --screen")
    way, address = ways[0]
    wish: dict[str, Any] = {
        "way": way,
        "kinds": kind or list(USUAL),
        "professionals": professional or [],
        "structures": structure or [],
        "most_reminders": reminders,
    } | ({"address": address} if address else {})
    _show(with_client(url, key, lambda sas: sas.put_subscription(name, wish)))


@notify.command("list", cls=FrenchCommand)
def listing(url: Url = DEFAULT_URL, key: Key = "", as_json: Json = False) -> None:
    """Liste les abonnements de cette clé, et dit s'ils arrivent."""
    found = with_client(url, key, lambda sas: sas.subscriptions())
    say(found, subscription_line, as_json=as_json, none="Aucun abonnement.")


@notify.command("remove", cls=FrenchCommand)
def remove(name: Name, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Supprime un abonnement."""
    with_client(url, key, lambda sas: sas.remove_subscription(name))
    typer.echo(f"Abonnement {name} supprimé.")


@notify.command("rotate", cls=FrenchCommand)
def rotate(name: Name, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Change le secret d'un webhook ; l'ancien signe encore 24 h à côté."""
    _show(with_client(url, key, lambda sas: sas.rotate_secret(name)))


@notify.command("confirm", cls=FrenchCommand)
def confirm(
    name: Name,
    code: Annotated[str, typer.Argument(metavar="CODE", help="Reçu à cette adresse.")],
    url: Url = DEFAULT_URL,
    key: Key = "",
) -> None:
    """Confirme une adresse de courriel, avec le code qu'elle a reçu."""
    _show(with_client(url, key, lambda sas: sas.confirm_subscription(name, code)))


@notify.command("test", cls=FrenchCommand)
def test(name: Name, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Envoie un essai ; notify deliveries dit s'il est arrivé."""
    number = with_client(url, key, lambda sas: sas.test_subscription(name))
    typer.echo(f"Essai {number} en route ; voyez sas-matcher notify deliveries {name}.")


@notify.command("deliveries", cls=FrenchCommand)
def deliveries(
    name: Annotated[str | None, typer.Argument(metavar="NOM", help="D'un abonnement ; sinon de tous.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Liste ce qui a été remis, ou attend, et pourquoi."""
    found = with_client(url, key, lambda sas: sas.deliveries(subscription=name))
    say(found, _delivery_line, as_json=as_json, none="Rien n'a été remis.")


def _delivery_line(one: Mapping[str, Any]) -> str:
    why = f" ({one['last_error']})" if one["last_error"] else ""
    what = f"{one['id']}  {one['subscription']} · {one['kind']} · {_DELIVERED[one['state']]}{why}"
    return f"{what} · {one['tries']} essai(s)"
