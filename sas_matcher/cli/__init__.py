"""The command ``sas-matcher``; everything heavy is imported by the command that needs it, so that help is quick.

Exit codes: 0 done, 1 failure, 2 bad input, 130 stopped by Ctrl-C where that is not the usual end.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from sas_matcher import __version__
from sas_matcher.cli.accounts import accounts
from sas_matcher.cli.agenda import agenda
from sas_matcher.cli.bookings import bookings
from sas_matcher.cli.consent import consent
from sas_matcher.cli.crisis import crisis
from sas_matcher.cli.days import days
from sas_matcher.cli.en_sus import en_sus
from sas_matcher.cli.fhir import editor, editors, fhir
from sas_matcher.cli.french import FrenchCommand, FrenchGroup, present
from sas_matcher.cli.limits import limits
from sas_matcher.cli.notify import notify
from sas_matcher.cli.options import DEFAULT_URL, Data, Json, Key, Url, checked_key
from sas_matcher.cli.scale import scale
from sas_matcher.cli.settings import settings
from sas_matcher.cli.statement import releve

app = typer.Typer(
    cls=FrenchGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
keys = typer.Typer(
    cls=FrenchGroup, help="Clés d'accès à l'API : créer, lister, révoquer.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(keys, name="keys")
app.add_typer(accounts, name="accounts")
app.add_typer(days)
app.add_typer(settings, name="settings")
app.add_typer(limits, name="limits")
app.add_typer(consent, name="consent")
app.add_typer(releve)
app.add_typer(agenda, name="agenda")
app.add_typer(en_sus, name="en-sus")
app.add_typer(crisis, name="crisis")
app.add_typer(bookings, name="bookings")
app.add_typer(notify, name="notify")
app.add_typer(fhir, name="fhir")
app.add_typer(editor)
app.add_typer(editors, name="editors")
app.add_typer(scale)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sas-matcher {__version__}")
        raise typer.Exit


@app.callback()
def top(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Affiche la version.")
    ] = False,
) -> None:
    """Échange en direct de créneaux de soins non programmés : cabinets, centres de santé, régulation du SAS."""


@app.command(cls=FrenchCommand)
def serve(
    host: Annotated[str | None, typer.Option(metavar="ADRESSE", help="Adresse d'écoute (SAS_HOST).")] = None,
    port: Annotated[int | None, typer.Option(metavar="PORT", help="Port d'écoute (SAS_PORT).")] = None,
    territories: Annotated[
        str | None,
        typer.Option("--territories", "--territory", metavar="CODES", help="Départements (69,01) ; tous par défaut."),
    ] = None,
    data: Data = None,
    only: Annotated[
        Literal["api", "core"] | None,
        typer.Option(metavar="PARTIE", help="Ne lance que « api », ou que « core » (appariement et entretien)."),
    ] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Processus qui servent l'API.")] = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="NIVEAU", help="debug, info, warning ou error ; journal JSON sur stderr.")
    ] = None,
) -> None:
    """Lance le service.

    Sans SAS_DATABASE_URL ni SAS_REDIS_URL, PostgreSQL et Valkey embarqués sont lancés dans le dossier de données.
    """
    from sas_matcher.cli import service  # noqa: PLC0415 - see the module

    service.serve(
        only,
        host=host,
        port=port,
        territories=None if territories is None else service.codes(territories),
        data_dir=data,
        api_workers=workers,
        log_level=log_level,
    )


@app.command(cls=FrenchCommand)
def record(
    out: Annotated[Path, typer.Option(metavar="DOSSIER", help="Où écrire TERRITOIRE/DATE.jsonl ; créé s'il manque.")],
    territories: Annotated[
        str | None,
        typer.Option("--territories", "--territory", metavar="CODES", help="Départements (69,01) ; tous par défaut."),
    ] = None,
    data: Data = None,
) -> None:
    """Écrit le journal d'activité du service en marche, sans aucune identité, jusqu'à Ctrl-C.

    Un fichier par territoire et par jour, à rejouer avec replay ; à côté, les lots décidés ensemble.
    Arrêté ou tué, il reprend où il en était, sans rien perdre ni répéter.
    """
    from sas_matcher.cli import service  # noqa: PLC0415 - see the module

    service.record(out, None if territories is None else service.codes(territories), data)


@app.command(cls=FrenchCommand)
def demo(
    departement: Annotated[
        str, typer.Option("--departement", "-d", metavar="CODE", help="Département : 01 à 95, 2A, 2B, 971 à 976.")
    ] = "69",
    france: Annotated[bool, typer.Option("--france", help="Toute la France au lieu d'un département.")] = False,
    days: Annotated[int, typer.Option(min=1, max=7, metavar="N", help="Jours dont les places sont publiées.")] = 1,
    speed: Annotated[
        float | None,
        typer.Option(
            min=0.1, metavar="X", help="Minutes de journée virtuelle par minute ; sinon une scène par seconde."
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh/--keep", help="Repart de zéro, ou reprend les données de la dernière fois.")
    ] = False,
    no_traffic: Annotated[bool, typer.Option("--no-traffic", help="Publie les places, puis laisse faire.")] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="Port d'écoute ; 0 en prend un libre.")
    ] = 8069,
    data: Data = None,
    duration: Annotated[
        float | None, typer.Option(min=0.0, metavar="SECONDES", help="S'arrête de lui-même après ce temps de jeu.")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Des lignes de texte au lieu de l'écran vivant.")] = False,
) -> None:
    """Joue une journée calme, fictive, sur de vrais serveurs.

    Rien à installer : PostgreSQL et Valkey embarqués, places publiées et demandes faites par l'API publique.
    """
    from sas_matcher.cli import host  # noqa: PLC0415 - see the module

    host.run(
        host.Wishes(
            territory=None if france else departement.strip().upper(),
            days=days,
            speed=speed,
            fresh=fresh,
            traffic=not no_traffic,
            port=port,
            folder=data,
            duration_s=duration,
            # a live screen needs a terminal; a pipe gets lines
            plain=plain or not sys.stdout.isatty(),
        )
    )


@keys.command("issue", cls=FrenchCommand)
def keys_issue(
    role: Annotated[
        str,
        typer.Option(
            metavar="RÔLE",
            help="regulator, osnp, arm, ioa ; professional, delegate, manager ; "
            "cpts, ars, prefecture, gestionnaire ; admin, fhir.",
        ),
    ],
    name: Annotated[str, typer.Option(metavar="NOM", help="À qui est la clé, pour la reconnaître dans la liste.")],
    territories: Annotated[
        str, typer.Option("--territories", "--territory", metavar="CODES", help="Départements (69,01), ou « * ».")
    ] = "",
    structures: Annotated[
        str,
        typer.Option("--structures", "--structure", metavar="FINESS", help="Structures pour lesquelles elle publie."),
    ] = "",
    professionals: Annotated[
        str,
        typer.Option("--professionals", "--professional", metavar="RPPS", help="Professionnels, ou « * » (éditeur)."),
    ] = "",
    source: Annotated[
        str, typer.Option(metavar="NOM", help="Nom de source des créneaux ; sinon la clé elle-même.")
    ] = "",
    redis: Annotated[
        bool, typer.Option("--redis", help="Crée aussi l'utilisateur Redis qui publie dans son flux (docs/redis.md).")
    ] = False,
    count: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Plusieurs clés semblables.")] = 1,
    data: Data = None,
) -> None:
    """Crée une clé et l'affiche, cette seule fois."""
    from sas_matcher.cli import service  # noqa: PLC0415 - see the module

    bound = (service.codes(territories), service.codes(structures), service.codes(professionals))
    for issued in service.issue(role, name, *bound, source, data, count):
        typer.echo(issued)
        if redis:
            user, password = service.allow_redis(issued, data)
            typer.echo(
                f"Redis : utilisateur {user}, mot de passe {password}, flux sas:{{all}}:ingest:{issued.split('_')[1]}"
            )
    typer.echo("Notez-la : elle n'est gardée nulle part en clair et ne sera plus affichée.", err=True)


@keys.command("list", cls=FrenchCommand)
def keys_list(data: Data = None) -> None:
    """Liste les clés, sans leur secret."""
    from sas_matcher.cli import service  # noqa: PLC0415 - see the module

    for line in service.listing(data):
        typer.echo(line)


@keys.command("revoke", cls=FrenchCommand)
def keys_revoke(
    key_id: Annotated[str, typer.Argument(metavar="IDENTIFIANT", help="Milieu de la clé : sas_IDENTIFIANT_….")],
    data: Data = None,
) -> None:
    """Révoque une clé ; elle est refusée partout deux secondes plus tard."""
    from sas_matcher.cli import service  # noqa: PLC0415 - see the module

    service.revoke(key_id, data)
    typer.echo(f"Clé {key_id} révoquée.")


@keys.command("operator", cls=FrenchCommand)
def keys_operator(
    key_id: Annotated[str, typer.Argument(metavar="IDENTIFIANT", help="Milieu de la clé : sas_IDENTIFIANT_….")],
    operator: Annotated[
        str, typer.Argument(metavar="SYSTÈME|VALEUR", help="Le régulateur, comme la plateforme nationale l'a nommé.")
    ],
    data: Data = None,
) -> None:
    """Dit au nom de quel régulateur la plateforme nationale apprend les rendez-vous pris avec une clé (INT_R03)."""
    from sas_matcher.cli import service  # noqa: PLC0415 - see the module

    service.bind(key_id, operator, data)
    typer.echo(f"Les rendez-vous pris avec la clé {key_id} sont annoncés au nom de {operator}.")


@app.command(cls=FrenchCommand)
def publish(
    file: Annotated[
        str, typer.Argument(metavar="FICHIER", help="Fichier .json ou .ndjson ; « - » lit l'entrée standard.")
    ],
    url: Url = DEFAULT_URL,
    key: Key = "",
    check: Annotated[bool, typer.Option("--check", help="Vérifie le fichier sans rien publier.")] = False,
) -> None:
    """Publie les créneaux d'un fichier : une liste JSON, {"slots": […]}, ou un créneau par ligne."""
    from sas_matcher.cli import calls, files  # noqa: PLC0415 - see the module

    slots = files.read_slots(file)
    if check:
        typer.echo(f"{len(slots)} créneaux corrects ; rien n'a été publié (--check).")
        return
    asyncio.run(calls.publish(url, checked_key(key), slots, typer.echo))


@app.command(cls=FrenchCommand)
def request(
    url: Url = DEFAULT_URL,
    key: Key = "",
    insee: Annotated[str | None, typer.Option(metavar="CODE", help="Code INSEE de la commune du patient.")] = None,
    commune: Annotated[str | None, typer.Option(metavar="NOM", help="Nom ou code postal, au lieu de --insee.")] = None,
    lat: Annotated[float | None, typer.Option(metavar="DEGRÉS", help="Latitude, avec --lon.")] = None,
    lon: Annotated[float | None, typer.Option(metavar="DEGRÉS", help="Longitude, avec --lat.")] = None,
    profession: Annotated[str | None, typer.Option(metavar="CODE", help="MG, PED, DENT, SF, IDE, KINE, PSY…")] = None,
    specialty: Annotated[str | None, typer.Option(metavar="SMxx", help="Spécialité (TRE_R38).")] = None,
    mode: Annotated[list[str] | None, typer.Option(metavar="MODE", help="cabinet, tele, visite ; répétable.")] = None,
    delay: Annotated[str, typer.Option(metavar="DÉLAI", help="30M, 1H, 2H, 4H, 8H, 12H, 24H, 48H…")] = "4H",
    radius: Annotated[float | None, typer.Option(metavar="KM", help="Rayon ; sinon celui du département.")] = None,
    need: Annotated[
        list[str] | None, typer.Option(metavar="BESOIN", help="enfant, pmr, tiers_payant… ; répétable.")
    ] = None,
    age: Annotated[str | None, typer.Option(metavar="ÂGE", help="nourrisson, enfant, adulte ou senior.")] = None,
    mt: Annotated[str | None, typer.Option(metavar="RPPS", help="Médecin traitant.")] = None,
    has_mt: Annotated[
        Literal["yes", "no", "unknown"] | None,
        typer.Option(metavar="yes|no|unknown", help="A-t-il un médecin traitant ? Compté pour la CPTS."),
    ] = None,
    priority: Annotated[
        str, typer.Option(metavar="CODE", help="P2, P3, NR, R3 ou R4 ; le vital n'a rien à faire ici.")
    ] = "P2",
    confirm: Annotated[bool, typer.Option("--confirm", help="Confirme aussitôt la place proposée.")] = False,
    as_json: Json = False,
) -> None:
    """Demande une place pour un patient ; aucune identité n'est demandée ni gardée.

    Sans --confirm, dans un terminal, la place proposée est confirmée ou rendue à la question posée.
    """
    from sas_matcher.cli import calls  # noqa: PLC0415 - see the module

    wish = {
        "insee": insee,
        "lat": lat,
        "lon": lon,
        "profession": profession if profession or specialty else "MG",
        "specialty": specialty,
        "modes": mode or ["cabinet"],
        "delay": delay.upper(),
        "radius_km": radius,
        "needs": need or None,
        "age_band": age,
        "mt": mt,
        "has_mt": has_mt,
        "priority": priority.upper(),
    }
    ask = None if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()) else _yes
    wish = {name: value for name, value in wish.items() if value is not None}
    asyncio.run(
        calls.request(url, checked_key(key), wish, commune, typer.echo, confirm=confirm, ask=ask, as_json=as_json)
    )


@app.command(cls=FrenchCommand)
def watch(
    url: Url = DEFAULT_URL,
    key: Key = "",
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="S'arrête après N événements.")] = None,
    as_json: Json = False,
) -> None:
    """Suit les événements de cette clé en direct, jusqu'à Ctrl-C ; reprend après une coupure."""
    from sas_matcher.cli import calls  # noqa: PLC0415 - see the module

    try:
        asyncio.run(calls.watch(url, checked_key(key), typer.echo, count=count, as_json=as_json))
    except KeyboardInterrupt:
        typer.echo("Fin du suivi.", err=True)


@app.command(cls=FrenchCommand)
def audit(data: Data = None) -> None:
    """Relit le registre : places, demandes et professionnels pris deux fois, créneaux au-delà de leur capacité.

    Affiche du JSON ; le code de sortie est 1 si quelque chose n'est pas à zéro.
    """
    from sas_matcher.cli import service  # noqa: PLC0415 - see the module

    found = service.audit(data)
    typer.echo(json.dumps(found))
    if any(found.values()):
        raise typer.Exit(1)


@app.command(cls=FrenchCommand)
def version() -> None:
    """Affiche la version."""
    typer.echo(f"sas-matcher {__version__}")


def _yes(question: str) -> bool:
    answer: str = typer.prompt(f"{question} [o/N]", default="n", show_default=False)
    return answer.strip().lower() in ("o", "oui", "y", "yes")


def main() -> None:
    """Run the command line; ends the process."""
    if sys.stdout.isatty() is False:
        # lines go out as they come when somebody reads them through a pipe
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True)
    code = present(lambda: app(standalone_mode=False, prog_name="sas-matcher"))
    # a reader that went away must not make the interpreter complain at its end
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
