"""The commands about what a territory sets: show it, change it, show who changed it and why."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sas_matcher.cli.french import FrenchCommand, FrenchGroup, InputError
from sas_matcher.cli.options import DEFAULT_URL, Json, Key, Territory, Url
from sas_matcher.cli.speaking import say, with_client
from sas_matcher.domain.policy import (
    LIVE_POLICIES,
    MOST_AGEING_PCT_PER_H,
    MOST_FAIR_LOAD_MIN,
    MOST_MT_ASK_MIN,
    MOST_RADIUS_PCT,
    MOST_RESERVE_PCT,
    MOST_TELE_BONUS_MIN,
)
from sas_matcher.domain.vocabulary import Tier

if TYPE_CHECKING:
    from sas_matcher.client import Setting

settings = typer.Typer(
    cls=FrenchGroup,
    help="Réglages d'un territoire : politique par palier, crise, gardes ; chaque changement laisse une trace.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

OnOff = Literal["on", "off"]


@settings.command("show", cls=FrenchCommand)
def settings_say_setting(territory: Territory, url: Url = DEFAULT_URL, key: Key = "", as_json: Json = False) -> None:
    """Affiche les réglages d'un territoire."""
    _say_setting(with_client(url, key, lambda sas: sas.setting(_code(territory))), as_json=as_json)


@settings.command("set", cls=FrenchCommand)
def settings_set(
    territory: Territory,
    why: Annotated[str, typer.Option(metavar="MOTIF", help="Pourquoi ; gardé au journal, sans identité de patient.")],
    url: Url = DEFAULT_URL,
    key: Key = "",
    policy: Annotated[
        Literal["firm", "promise", "crisis", "auto"] | None,
        typer.Option(metavar="POLITIQUE", help="firm, promise, crisis ou auto, pour tous les paliers."),
    ] = None,
    tier: Annotated[
        list[str] | None,
        typer.Option(metavar="PALIER=POLITIQUE", help="Pour un palier, par exemple T0=firm ; répétable."),
    ] = None,
    crisis: Annotated[OnOff | None, typer.Option(metavar="on|off", help="Déclare la crise, ou y met fin.")] = None,
    crisis_allowed: Annotated[
        OnOff | None, typer.Option(metavar="on|off", help="Permet la crise, ou l'interdit (ARS, administration).")
    ] = None,
    hold: Annotated[
        int | None, typer.Option(min=15, max=1800, metavar="SECONDES", help="Durée d'une réservation provisoire.")
    ] = None,
    mt: Annotated[
        Literal["bonus", "first"] | None,
        typer.Option(metavar="RÈGLE", help="Médecin traitant : bonus de distance, ou first (d'abord lui)."),
    ] = None,
    mt_ask: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MOST_MT_ASK_MIN,
            metavar="MINUTES",
            help="Avec first : temps laissé au médecin traitant sollicité.",
        ),
    ] = None,
    ageing: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=MOST_AGEING_PCT_PER_H,
            metavar="%",
            help="Gain de valeur par heure d'attente, en % du palier.",
        ),
    ] = None,
    fair: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=MOST_FAIR_LOAD_MIN,
            metavar="MINUTES",
            help="Répartition : minutes ajoutées à une place par patient déjà pris chez ce professionnel.",
        ),
    ] = None,
    radius: Annotated[
        int | None, typer.Option(min=100, max=MOST_RADIUS_PCT, metavar="%", help="Rayon, en % de celui de la demande.")
    ] = None,
    reserve: Annotated[
        int | None,
        typer.Option(
            min=0, max=MOST_RESERVE_PCT, metavar="%", help="Places gardées pour T0 et T1 jusqu'à une heure avant."
        ),
    ] = None,
    tele: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=MOST_TELE_BONUS_MIN,
            metavar="MINUTES",
            help="Ce que vaut une téléconsultation pour qui l'accepte.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Change ce qui est donné, laisse le reste, et affiche les réglages."""
    wanted: dict[str, Any] = {
        "policy": {str(t): policy for t in Tier if policy} | _by_tier(tier or ()) or None,
        "crisis": crisis and crisis == "on",
        "crisis_allowed": crisis_allowed and crisis_allowed == "on",
        "hold_seconds": hold,
        "mt_rule": mt,
        "mt_ask_min": mt_ask,
        "ageing_pct_per_h": ageing,
        "fair_load_min": fair,
        "radius_pct": radius,
        "urgent_reserve_pct": reserve,
        "tele_bonus_min": tele,
    }
    changes = {name: value for name, value in wanted.items() if value is not None}
    if not changes:
        raise InputError("indiquez au moins un réglage à changer ; voyez --help")
    done = with_client(url, key, lambda sas: sas.change_setting(_code(territory), changes, why=why))
    _say_setting(done, as_json=as_json)


@settings.command("log", cls=FrenchCommand)
def settings_log(
    territory: Territory,
    url: Url = DEFAULT_URL,
    key: Key = "",
    count: Annotated[int, typer.Option(min=1, max=200, metavar="N", help="Les N derniers changements.")] = 20,
    as_json: Json = False,
) -> None:
    """Affiche qui a changé les réglages, quand et pourquoi, le dernier changement d'abord."""
    from sas_matcher.cli.show import change_line  # noqa: PLC0415 - see the package

    page = with_client(url, key, lambda sas: sas.setting_changes(_code(territory), limit=count))
    say(page.changes, change_line, as_json=as_json, none="Aucun changement.")


def _say_setting(setting: "Setting", *, as_json: bool) -> None:
    from sas_matcher.cli.show import setting_lines  # noqa: PLC0415 - see the package

    say([setting], setting_lines, as_json=as_json)


def _code(territory: str) -> str:
    """Return a territory as it goes into an address."""
    code = territory.strip().upper()
    if not (code.isascii() and code.isalnum()):
        raise InputError(f"le territoire « {territory} » n'existe pas ; donnez un département, par exemple 69 ou 2A")
    return code


def _by_tier(texts: Sequence[str]) -> dict[str, str]:
    """Read ``T0=firm``.

    Raises:
        InputError: no such tier or policy.
    """
    found = {}
    for text in texts:
        tier, _, policy = text.partition("=")
        if tier.upper() not in set(Tier) or policy not in LIVE_POLICIES:
            raise InputError(
                f"--tier « {text} » : attendu PALIER=POLITIQUE, avec {', '.join(Tier)} et {', '.join(LIVE_POLICIES)}"
            )
        found[tier.upper()] = policy
    return found
