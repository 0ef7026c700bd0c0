"""The commands of a practice about its consent: which places leave, and who was shown them."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from sas_matcher.cli.french import FrenchCommand, FrenchGroup
from sas_matcher.cli.options import DEFAULT_URL, Json, Key, Url
from sas_matcher.cli.speaking import day_names, say, with_client

if TYPE_CHECKING:
    from sas_matcher.client import Exposure, ShareRule

consent = typer.Typer(
    cls=FrenchGroup,
    help="Accord d'un cabinet : quelles places sont partagées, avec qui, quand ; qui les a vues.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(metavar="NOM", help="Nom de la règle : a-z, 0-9, - et _.")]


def rule_line(rule: "ShareRule") -> str:
    """Return a rule in one line."""
    who = ", ".join((*rule.professionals, *rule.structures))
    what = "toutes les places" if rule.professions is None else f"places {', '.join(rule.professions)}"
    to = " et ".join({"sas": "régulateurs du SAS", "platform": "plateforme nationale"}[name] for name in rule.channels)
    first = "" if rule.own_first_min is None else f", d'abord ses patients jusqu'à {rule.own_first_min} min avant"
    return f"{rule.name} : {who} ; {what} de {rule.start} à {rule.end} ({day_names(rule.days)}) ; {to}{first}"


def exposure_line(one: "Exposure") -> str:
    """Return what became known of a place, in one line."""
    place = "" if one.external_id is None else f" · {one.external_id}"
    starts = "" if one.starts is None else f" du {one.starts.astimezone():%d/%m à %H h %M}"
    who = f" · {one.role or 'plateforme nationale'}" + (f" {one.key_id}" if one.key_id else "")
    return f"{one.at.astimezone():%d/%m %H:%M:%S} · {one.sentence}{place}{starts}{who} · règle : {one.rule}"


@consent.command("set", cls=FrenchCommand)
def set_rule(
    name: Name,
    url: Url = DEFAULT_URL,
    key: Key = "",
    professional: Annotated[list[str] | None, typer.Option(metavar="RPPS", help="De qui ; répétable.")] = None,
    structure: Annotated[
        list[str] | None, typer.Option(metavar="FINESS", help="De quelle structure ; répétable.")
    ] = None,
    start: Annotated[str, typer.Option("--from", metavar="HH:MM", help="Pas avant cette heure.")] = "00:00",
    end: Annotated[str, typer.Option("--to", metavar="HH:MM", help="Pas à partir de cette heure.")] = "24:00",
    day: Annotated[list[int] | None, typer.Option(min=1, max=7, metavar="1..7", help="Jours, 1 = lundi.")] = None,
    profession: Annotated[list[str] | None, typer.Option(metavar="CODE", help="Places de ces professions.")] = None,
    channel: Annotated[
        list[str] | None,
        typer.Option(
            metavar="sas|platform", help="sas (régulateurs), platform (plateforme nationale) ; les deux sinon."
        ),
    ] = None,
    own_first: Annotated[
        int | None, typer.Option(min=1, max=10_080, metavar="MINUTES", help="D'abord ses patients, jusqu'à tant avant.")
    ] = None,
    territory: Annotated[str | None, typer.Option(metavar="CODE", help="Département dont l'heure compte.")] = None,
) -> None:
    """Fixe ou change une règle ; elle vaut aussitôt, ce qui est déjà réservé le reste."""
    wish = {
        "professionals": professional,
        "structures": structure,
        "from": start,
        "to": end,
        "days": day,
        "professions": profession,
        "channels": channel,
        "own_first_min": own_first,
        "territory": territory,
    }
    given = {field: value for field, value in wish.items() if value is not None}
    rule = with_client(url, key, lambda sas: sas.put_share_rule(name, given))
    typer.echo(rule_line(rule))


@consent.command("list", cls=FrenchCommand)
def list_rules(url: Url = DEFAULT_URL, key: Key = "", as_json: Json = False) -> None:
    """Liste les règles de cette clé."""
    found = with_client(url, key, lambda sas: sas.share_rules())
    none = "Aucune règle : ce qui est publié est partagé, selon sa visibilité."
    say(found, rule_line, as_json=as_json, none=none)


@consent.command("remove", cls=FrenchCommand)
def remove_rule(name: Name, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Supprime une règle."""
    with_client(url, key, lambda sas: sas.remove_share_rule(name))
    typer.echo(f"Règle {name} supprimée.")


@consent.command("seen", cls=FrenchCommand)
def seen(
    url: Url = DEFAULT_URL,
    key: Key = "",
    days: Annotated[int, typer.Option(min=1, max=31, metavar="N", help="Les N derniers jours.")] = 1,
    count: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Au plus N lignes.")] = 200,
    as_json: Json = False,
) -> None:
    """Dit à qui des places ont été montrées, proposées ou données, quand, et selon quelle règle."""
    now = datetime.now(UTC)
    window = (now - timedelta(days=days), now)
    found = with_client(url, key, lambda sas: sas.exposures(*window, limit=count))
    say(found, exposure_line, as_json=as_json, none="Rien n'a été montré ni donné.")
