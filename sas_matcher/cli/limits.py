"""The commands of a practice about its limits: how many patients, visits or children in a day or half a day."""

from typing import Annotated, Literal

import typer

from sas_matcher.cli.french import FrenchCommand, FrenchGroup
from sas_matcher.cli.options import DEFAULT_URL, Json, Key, Url
from sas_matcher.cli.speaking import say, with_client

limits = typer.Typer(
    cls=FrenchGroup,
    help="Limites d'un cabinet ou d'un centre : quota du jour, enfants, visites.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(metavar="NOM", help="Nom de la limite : a-z, 0-9, - et _.")]


@limits.command("set", cls=FrenchCommand)
def set_limit(
    name: Name,
    url: Url = DEFAULT_URL,
    key: Key = "",
    professional: Annotated[
        list[str] | None, typer.Option(metavar="RPPS", help="Professionnel qui compte ; répétable.")
    ] = None,
    structure: Annotated[
        list[str] | None,
        typer.Option(metavar="FINESS", help="Structure qui compte ; répétable (plusieurs : une CPTS)."),
    ] = None,
    counts: Annotated[
        Literal["patients", "visits", "children"],
        typer.Option(metavar="QUI", help="patients (tous), visits (à domicile) ou children (enfants)."),
    ] = "patients",
    half_day: Annotated[
        bool, typer.Option("--half-day", help="Par demi-journée (coupée à 13 h), non par jour.")
    ] = False,
    most: Annotated[int | None, typer.Option(metavar="N", help="Au plus N.")] = None,
    share: Annotated[int | None, typer.Option(metavar="PCT", help="Au plus PCT % des places publiées.")] = None,
    territory: Annotated[
        str | None, typer.Option(metavar="CODE", help="Département dont l'heure compte ; sinon la métropole.")
    ] = None,
) -> None:
    """Fixe ou change une limite ; elle vaut aussitôt, ce qui est déjà réservé le reste."""
    from sas_matcher.cli.show import limit_lines  # noqa: PLC0415 - see the package

    wish = {
        "professionals": professional or [],
        "structures": structure or [],
        "counts": counts,
        "period": "half_day" if half_day else "day",
        "most": most,
        "share": share,
        "territory": territory,
    }
    say([with_client(url, key, lambda sas: sas.put_limit(name, wish))], limit_lines, as_json=False)


@limits.command("list", cls=FrenchCommand)
def list_limits(
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Liste les limites de cette clé, et ce qui en est pris dans les sept jours."""
    from sas_matcher.cli.show import limit_lines  # noqa: PLC0415 - see the package

    found = with_client(url, key, lambda sas: sas.limits())
    say(found, limit_lines, as_json=as_json, none="Aucune limite ; fixez-en une avec sas-matcher limits set.")


@limits.command("remove", cls=FrenchCommand)
def remove_limit(name: Name, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Supprime une limite ; les places qu'elle fermait sont de nouveau proposées."""
    with_client(url, key, lambda sas: sas.remove_limit(name))
    typer.echo(f"Limite {name} supprimée ; ses places sont de nouveau proposées.")
