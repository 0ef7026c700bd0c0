"""French where Typer speaks English, and every expected error as a readable line with its exit code."""

import errno
import re
from collections.abc import Callable
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from sas_matcher.config import ConfigError

HELP: Final = (
    (r"^Usage: ", "Usage : "),
    (r"COMMAND \[ARGS\]\.\.\.", "COMMANDE […]"),
    (r"^Arguments:", "Arguments :"),
    (r"^Options:", "Options :"),
    (r"^Commands:", "Commandes :"),
    (r"Show this message and\s+exit\.", "Affiche cette aide."),
    (r"\[env(\s+)var:", r"[variable\1:"),
    (r";(\s+)default:", r" ;\1par défaut :"),
    (r"\[default:", "[par défaut :"),
    (r";(\s+)required\]", r" ;\1obligatoire]"),
    (r"\[required\]", "[obligatoire]"),
    (r";(\s+)([\d.]+)<=x<=([\d.]+)", r" ;\1de \2 à \3"),
    (r"\[([\d.]+)<=x<=([\d.]+)", r"[de \1 à \2"),
    (r"x>=(\S+?)\]", r"au moins \1]"),
)
"""What Typer puts into a help page, and how it reads in French."""

USAGE: Final = (
    (
        r"No such option: (\S+).*",
        "l'option {0} n'existe pas ; voyez --help",
    ),
    (r"No such command '(.+?)'.*", "la commande « {0} » n'existe pas ; voyez --help"),
    (r"Missing command\.", "il manque la commande ; voyez --help"),
    (r"Missing (?:option|argument|parameter) '(.+?)'.*", "il manque {0}"),
    (r"Got unexpected extra argument\(?s?\)? \((.+)\)", "« {0} » est de trop ; voyez --help"),
    (r"Option '(.+)' requires .*", "l'option {0} demande une valeur"),
    (r"Option '(.+)' does not take a value.*", "l'option {0} ne prend pas de valeur"),
    (r"Invalid value for (.+?): .*?valid (?:int|integer|float|number).*", "{0} : un nombre est attendu"),
    (r"(?s)Invalid value for (.+?): .*?(?:is not one of|should be one of) (.+?)\.?$", "{0} : valeurs possibles : {1}"),
    (r"(?s)Invalid value for (.+?): .*?greater than or equal to (\S+?)\.?$", "{0} : au moins {1}"),
    (r"(?s)Invalid value for (.+?): .*?less than or equal to (\S+?)\.?$", "{0} : au plus {1}"),
    (r"(?s)Invalid value for (.+?): .*?range (\S+?)<=x<=(\S+?)\.?$", "{0} : de {1} à {2}"),
    (r"(?s)Invalid value for (.+?): .*?range x>=(\S+?)\.?$", "{0} : au moins {1}"),
    (r"(?s)Invalid value for (.+?): .*", "{0} : valeur incorrecte ; voyez --help"),
)
"""Typer's complaints, and ours: what is wrong and what to do."""


class InputError(Exception):
    """What was typed or given is wrong: exit code 2. The message says what and the fix, in French."""

    code = 2


class FailureError(Exception):
    """It could not be done: exit code 1. The message says why and the fix, in French."""

    code = 1


def _translated(text: str) -> str:
    for pattern, french in HELP:
        text = re.sub(pattern, french, text, flags=re.MULTILINE)
    return text


class FrenchCommand(TyperCommand):
    """A command whose help page is French."""

    def get_help(self, ctx: Any) -> str:
        """Return the help page."""
        return _translated(super().get_help(ctx))


class FrenchGroup(TyperGroup):
    """A group of commands whose help page is French."""

    def get_help(self, ctx: Any) -> str:
        """Return the help page."""
        return _translated(super().get_help(ctx))


def usage(message: str) -> str:
    """Return what Typer says about wrong options, in French."""
    for pattern, french in USAGE:
        found = re.fullmatch(pattern, message)
        if found:
            return french.format(*((group or "").replace("'", "") for group in found.groups()))
    return message


def _say(text: str) -> None:
    typer.echo(f"Erreur : {text}", err=True)


def present(command: Callable[[], object]) -> int:
    """Run a command; say what is expected to go wrong in a line or two, and return the exit code.

    What nobody expected keeps its traceback: it is a fault of the program and has to be seen.
    """
    code: object = 0
    try:
        code = command()
    except TyperException as wrong:
        code = 2
        if type(wrong).__name__ == "NoArgsIsHelpError":
            typer.echo(wrong.format_message())
        else:
            _say(f"{usage(wrong.format_message())}.")
    except (InputError, FailureError) as wrong:
        code = wrong.code
        _say(f"{wrong}.")
    except ConfigError as wrong:
        code = 2
        _say(str(wrong))
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:
        code = 1
    except OSError as failure:
        code = _of_system(failure)
    return code if isinstance(code, int) else 0


def _of_system(failure: OSError) -> int:
    where = f" ({failure.filename})" if failure.filename else ""
    known = {
        errno.ENOSPC: "plus de place sur le disque ; libérez-en, ou choisissez un autre dossier avec --data",
        errno.EDQUOT: "quota de disque atteint ; libérez de la place, ou choisissez un autre dossier avec --data",
        errno.EACCES: "accès refusé ; vérifiez les droits, ou choisissez un autre dossier avec --data",
        errno.EROFS: "le disque est en lecture seule ; choisissez un autre dossier avec --data",
        errno.ENOENT: "fichier introuvable",
    }
    if failure.errno not in known:
        raise failure
    _say(f"{known[failure.errno]}{where}.")
    return 1
