"""The commands about accounts of the pages: open, list, new password, close."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from sas_matcher.cli.french import FailureError, FrenchCommand, FrenchGroup, InputError
from sas_matcher.cli.options import Data

T = TypeVar("T")

accounts = typer.Typer(
    cls=FrenchGroup,
    help="Comptes des pages : ouvrir, lister, changer le mot de passe, fermer.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Login = Annotated[str, typer.Argument(metavar="IDENTIFIANT", help="2 à 64 caractères : a-z, 0-9, . _ @ + -.")]
Stdin = Annotated[bool, typer.Option("--password-stdin", help="Lit le mot de passe sur l'entrée standard.")]


@accounts.command("add", cls=FrenchCommand)
def add(
    login: Login,
    role: Annotated[
        str,
        typer.Option(
            metavar="RÔLE",
            help="regulator, osnp, arm, ioa ; professional, delegate, manager ; cpts, ars, gestionnaire ; admin.",
        ),
    ],
    name: Annotated[str, typer.Option(metavar="NOM", help="Nom affiché sur les pages.")],
    territories: Annotated[
        str, typer.Option("--territories", "--territory", metavar="CODES", help="Départements (69,01), ou « * ».")
    ] = "",
    structures: Annotated[str, typer.Option(metavar="FINESS", help="Structures du cabinet ou du centre.")] = "",
    professionals: Annotated[str, typer.Option(metavar="RPPS", help="Professionnels, ou « * ».")] = "",
    source: Annotated[
        str, typer.Option(metavar="NOM", help="Source des places qu'il publie ; sinon la sienne propre.")
    ] = "",
    password_stdin: Stdin = False,
    data: Data = None,
) -> None:
    """Ouvre un compte ; sans --password-stdin, son premier mot de passe est affiché cette seule fois."""
    from sas_matcher.bootstrap.access import add_account  # noqa: PLC0415 - heavy
    from sas_matcher.cli.service import codes  # noqa: PLC0415 - heavy
    from sas_matcher.domain.vocabulary import Role  # noqa: PLC0415
    from sas_matcher.services.keys import KeyWish  # noqa: PLC0415

    if role not in set(Role) - {Role.FHIR}:
        raise InputError(f"le rôle « {role} » n'existe pas ; rôles : {', '.join(set(Role) - {Role.FHIR})}")
    wish = KeyWish(Role(role), name, codes(territories), codes(structures), codes(professionals), source)
    password = _password(typed=password_stdin)
    _do(data, lambda stores: add_account(stores, login, password, wish))
    typer.echo(f"Compte {login} ouvert." + ("" if password_stdin else f" Mot de passe : {password}"))


@accounts.command("list", cls=FrenchCommand)
def listing(data: Data = None) -> None:
    """Liste les comptes."""
    from sas_matcher.bootstrap.access import accounts_of  # noqa: PLC0415 - heavy

    found = _do(data, lambda stores: accounts_of(stores.ledger, stores.clock, stores.ids).all())
    for account in found:
        bound = ",".join([*account.key.territories, *account.key.structures, *account.key.professionals])
        state = "ouvert" if account.key.revoked_at is None else "fermé"
        typer.echo(f"{account.login:<24}  {account.key.role:<12}  {state:<7}  {bound or '-':<14}  {account.key.name}")
    if not found:
        typer.echo("Aucun compte ; ouvrez-en un avec sas-matcher accounts add.")


@accounts.command("password", cls=FrenchCommand)
def password(login: Login, password_stdin: Stdin = False, data: Data = None) -> None:
    """Donne un nouveau mot de passe ; les sessions ouvertes du compte s'arrêtent."""
    from sas_matcher.bootstrap.access import accounts_of  # noqa: PLC0415 - heavy

    chosen = _password(typed=password_stdin)
    _do(data, lambda stores: accounts_of(stores.ledger, stores.clock, stores.ids).change_password(login, chosen))
    typer.echo(f"Mot de passe de {login} changé." + ("" if password_stdin else f" Le nouveau : {chosen}"))


@accounts.command("close", cls=FrenchCommand)
def close(login: Login, data: Data = None) -> None:
    """Ferme un compte aussitôt ; ce qu'il a fait garde son nom."""
    from sas_matcher.bootstrap.access import accounts_of  # noqa: PLC0415 - heavy

    _do(data, lambda stores: accounts_of(stores.ledger, stores.clock, stores.ids).close(login))
    typer.echo(f"Compte {login} fermé.")


def _password(*, typed: bool) -> str:
    if typed:
        return sys.stdin.readline().rstrip("\n")
    from adapters.system import SystemIds  # noqa: PLC0415 - see the package
    from sas_matcher.services.accounts import suggest_password  # noqa: PLC0415

    return suggest_password(SystemIds().secret())


def _do(data: Path | None, work: Callable[[Any], Awaitable[T]]) -> T:
    """Do some work on the ledger; what it refuses is told in a line.

    Raises:
        FailureError: it is refused.
    """
    from sas_matcher.cli.service import with_stores  # noqa: PLC0415 - heavy
    from sas_matcher.domain.errors import SasError  # noqa: PLC0415

    try:
        return with_stores(data, work)
    except SasError as refused:
        raise FailureError(refused.detail.rstrip(".")) from refused
