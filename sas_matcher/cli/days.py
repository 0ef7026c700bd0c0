"""The commands about whole days: draw them, compare policies on them, ask what else would have changed them."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from sas_matcher.cli.french import FrenchCommand, InputError

days = typer.Typer(rich_markup_mode=None)

Departement = Annotated[
    str | None, typer.Option("--departement", "-d", metavar="CODE", help="Département : 01 à 95, 2A, 2B, 971 à 976.")
]


@days.command(cls=FrenchCommand)
def simulate(
    out: Annotated[
        Path, typer.Option(metavar="FICHIER", help="Journal à écrire, .jsonl ou .jsonl.gz ; un dossier avec --count.")
    ],
    scenario: Annotated[
        str | None, typer.Option(metavar="SCÉNARIO", help="S0 à S9, S2x2, S3x2 ou S1+S6 (docs/replay.md).")
    ] = None,
    departement: Departement = None,
    france: Annotated[bool, typer.Option("--france", help="Toute la France au lieu d'un département.")] = False,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="SORTE",
            help="Journée d'étude au lieu d'un scénario : city-x1, city-x3, city-x10, flash, rural, two ou noise.",
        ),
    ] = None,
    level: Annotated[
        Literal["low", "mid", "high"] | None,
        typer.Option(metavar="NIVEAU", help="Demande et pannes : low, mid (sans autre précision) ou high."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Graine de la journée ; la même donne la même.")] = 0,
    count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="N journaux, de graines successives, dans le dossier --out.")
    ] = None,
    people: Annotated[
        int, typer.Option(min=0, metavar="N", help="Graine des cabinets : la même pour une journée et son historique.")
    ] = 0,
    date: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="AAAA-MM-JJ", help="Autre date des demandes.")
    ] = None,
) -> None:
    """Tire un journal d'activité fictif : créneaux et demandes d'une journée, sur de vraies communes.

    Le même appel donne toujours le même fichier.
    """
    from sas_matcher.cli import laboratory  # noqa: PLC0415 - see the package

    if (kind is None) == (scenario is None):
        raise InputError("donnez --scenario (avec --departement ou --france), ou bien --kind, et un seul des deux")
    if scenario is not None:
        if (departement is None) != france:
            raise InputError("donnez --departement CODE, ou --france, et un seul des deux")
        draw = laboratory.story(scenario, departement, level or "mid", people, date and date.date())
    else:
        if departement is not None or france or level is not None:
            raise InputError("--kind est une géographie inventée : ni --departement, ni --france, ni --level")
        draw = laboratory.study_day(str(kind), people, date and date.date())
    laboratory.simulate(draw, seed, count, out, typer.echo)


DayFiles = Annotated[list[Path], typer.Argument(metavar="JOURNAL…", help="Journaux d'activité, .jsonl ou .jsonl.gz.")]
History = Annotated[
    Path | None,
    typer.Option(metavar="DOSSIER", help="Journées passées du même territoire, dont on apprend les prévisions."),
]


@days.command(cls=FrenchCommand)
def replay(
    file: Annotated[Path, typer.Argument(metavar="JOURNAL", help="Journal d'activité, .jsonl ou .jsonl.gz.")],
    out: Annotated[Path, typer.Option(metavar="FICHIER", help="Résultat à écrire : une ligne par demande.")],
    summary: Annotated[Path, typer.Option(metavar="FICHIER", help="Résumé à écrire, en JSON.")],
    policy: Annotated[
        str | None, typer.Option(metavar="NOM", help="Politique à appliquer (docs/replay.md) ; sinon celle des lots.")
    ] = None,
    history: History = None,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="Graine du rejeu ; la même donne le même résultat.")
    ] = 0,
    batches: Annotated[
        Path | None,
        typer.Option(
            metavar="FICHIER", help="Lots d'une journée enregistrée (record) : les mêmes demandes décidées ensemble."
        ),
    ] = None,
) -> None:
    """Rejoue une journée en temps virtuel, par le code même du service : qu'aurait fait cette politique ?

    Le résultat et le résumé sont écrits ensemble, ou pas du tout. Avec --batches, dit combien de décisions diffèrent.
    """
    from sas_matcher.cli import laboratory  # noqa: PLC0415 - see the package

    name = None if policy is None else laboratory.policy_of(policy)
    if batches is not None:
        laboratory.replay_recorded(
            file, batches, name, history=history, seed=seed, out=out, summary=summary, say=typer.echo
        )
        return
    if name is None:
        raise InputError(f"donnez --policy ; valeurs possibles : {', '.join(laboratory.POLICIES)}")
    laboratory.replay_file(file, name, history=history, seed=seed, out=out, summary=summary, say=typer.echo)


@days.command(cls=FrenchCommand)
def optimum(
    files: DayFiles,
    out: Annotated[Path, typer.Option(metavar="FICHIER", help="JSON à écrire : par journal, créneau par demande.")],
    together: Annotated[
        bool, typer.Option("--together", help="Un seul optimum pour tous : leurs territoires partagent des créneaux.")
    ] = False,
) -> None:
    """Dit qui aurait eu une place, et laquelle, si tout avait été su d'avance : l'optimum exact de journées."""
    from sas_matcher.cli import laboratory  # noqa: PLC0415 - see the package

    laboratory.optimum(files, out, typer.echo, together=together)


@days.command(cls=FrenchCommand)
def compare(
    files: DayFiles,
    out: Annotated[Path, typer.Option(metavar="DOSSIER", help="Où écrire index.html et les graphiques.")],
    policies: Annotated[
        str | None,
        typer.Option(
            metavar="NOMS",
            help="Politiques à rejouer (fcfs-nearest,official,firm,promise,auto,crisis) ; toutes sans --result.",
        ),
    ] = None,
    result: Annotated[
        list[str] | None,
        typer.Option(
            metavar="POLITIQUE=FICHIER",
            help="Résultat tout fait, d'un rejeu ou d'un autre moteur ; {day} vaut le nom du journal ; répétable.",
        ),
    ] = None,
    history: History = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Graine des rejeux.")] = 0,
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="NOM", help="Politique dont la carte est dessinée ; répétable. Sinon la meilleure."
        ),
    ] = None,
) -> None:
    """Compare des politiques sur des journées, entre elles et à l'optimum, en une page HTML.

    Les journaux dont le nom ne diffère que par le nombre final sont des journées d'une même sorte.
    """
    from sas_matcher.cli import laboratory  # noqa: PLC0415 - see the package

    ready = [laboratory.ready_of(text) for text in result or ()]
    names = [] if ready and policies is None else laboratory.policies_of(policies or ",".join(laboratory.REPLAYABLE))
    laboratory.compare(files, names, ready, history=history, seed=seed, maps=maps, out=out, say=typer.echo)


@days.command(cls=FrenchCommand)
def whatif(
    file: Annotated[Path, typer.Argument(metavar="JOURNAL", help="Journal d'activité, .jsonl ou .jsonl.gz.")],
    add_slots: Annotated[
        list[str] | None,
        typer.Option(
            "--add-slots",
            metavar="N@LAT,LON|FICHIER",
            help="N créneaux de plus à ce point, ou ceux d'un fichier de lignes slot.published ; répétable.",
        ),
    ] = None,
    capacity: Annotated[int, typer.Option(min=1, metavar="N", help="Places de chaque créneau ajouté.")] = 1,
    profession: Annotated[str, typer.Option(metavar="CODE", help="Profession des créneaux ajoutés.")] = "MG",
    mode: Annotated[str, typer.Option(metavar="MODE", help="cabinet, tele ou visite.")] = "cabinet",
    hours: Annotated[
        str, typer.Option(metavar="DE-À", help="Heures entre lesquelles les créneaux ajoutés se répartissent.")
    ] = "9:00-18:00",
    before: Annotated[str, typer.Option(metavar="NOM", help="Politique de la journée telle qu'elle fut.")] = "firm",
    policy: Annotated[
        str | None, typer.Option(metavar="NOM", help="Politique de la journée changée ; la même sinon.")
    ] = None,
    crisis_from: Annotated[
        str | None, typer.Option("--crisis-from", metavar="HH:MM", help="Heure locale où la crise aurait été déclarée.")
    ] = None,
    history: History = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Graine des rejeux.")] = 0,
    out: Annotated[Path | None, typer.Option(metavar="DOSSIER", help="Écrit aussi le rapport HTML.")] = None,
) -> None:
    """Rejoue une journée telle qu'elle fut, puis changée : dix places de plus ici, une autre politique, la crise.

    Affiche avant, après et l'écart, par niveau d'urgence.
    """
    from sas_matcher.cli import laboratory, supposing  # noqa: PLC0415 - see the package

    old, new = laboratory.policy_of(before), laboratory.policy_of(policy or before)
    wish = supposing.Supposition(tuple(add_slots or ()), capacity, profession, mode, hours, old, new, crisis_from)
    supposing.whatif(file, wish, history=history, seed=seed, out=out, say=typer.echo)
