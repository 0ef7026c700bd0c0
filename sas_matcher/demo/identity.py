"""Invented identities: identifiers that fail their own check, names that say "fictif", telephones nobody has.

Three fences keep a demonstration from ever pointing at somebody:

- identifiers look like RPPS (11 figures) and FINESS (9) but begin with ``99`` (RPPS begin with 1, as the Hub Santé's
  model demands; FINESS with a département, and none is numbered 99) *and* end with a wrong Luhn key;
- every name carries the word "fictif", the family names are trees, flowers and stones;
- telephone numbers come from the blocks that Arcep keeps for fiction.
"""

import numpy as np

FICTION_PREFIX = "99"

FICTION_PHONES = {
    "01": "01 99 00",
    "02": "02 61 91",
    "03": "03 53 01",
    "04": "04 65 71",
    "05": "05 36 49",
    "06": "06 39 98",
}
"""Blocks of 10 000 numbers reserved for audiovisual works by Arcep's numbering plan, by area; 06 for
overseas."""

_PHONE_AREA = {
    "01": "75 77 78 91 92 93 94 95",
    "02": "14 18 22 27 28 29 35 36 37 41 44 45 49 50 53 56 61 72 76 85",
    "03": "02 08 10 21 25 39 51 52 54 55 57 58 59 60 62 67 68 70 71 80 88 89 90",
    "04": "01 03 04 05 06 07 11 13 15 2A 2B 26 30 34 38 42 43 48 63 66 69 73 74 83 84",
    "05": "09 12 16 17 19 23 24 31 32 33 40 46 47 64 65 79 81 82 86 87",
}
_AREA_OF = {territory: area for area, codes in _PHONE_AREA.items() for territory in codes.split()}

_GIVEN = """
Marguerite Capucine Anémone Violette Hortense Églantine Pervenche Olive Clémentine Prune Cerise Garance
Angélique Véronique Valériane Iris Jasmin Narcisse Anatole Barnabé Célestin Dieudonné Evariste Fulbert
Gaspard Hyacinthe Isidore Joachim Léopold Modeste Népomucène Octave Philémon Quentin Romarin Séraphin
Théophile Ursule Zéphyrin Aurore Blanche Colombe Désirée Félicité Gentiane Mélisse Pâquerette Rosemonde
Sidonie Victoire
"""
GIVEN = tuple(_GIVEN.split())

_FAMILY = """
Tilleul Érable Noisetier Sureau Aubépine Genêt Bouleau Charme Cormier Alisier Fusain Troène Mélèze Cyprès
Houx Lierre Fougère Bruyère Ajonc Roseau Nénuphar Prêle Trèfle Luzerne Coquelicot Bleuet Chardon Pissenlit
Mauve Sauge Thym Menthe Ciboule Oseille Bourrache Ardoise Granit Silex Basalte Calcaire Galet Schiste Grès
Opale Topaze Agate Jaspe Mica Quartz Gypse
"""
FAMILY = tuple(_FAMILY.split())

_WITH_TITLE = frozenset({"MG", "DENT", "PED"})


def luhn_key(digits: str) -> int:
    """Return the key that makes ``digits`` + key pass the Luhn check (ISO/IEC 7812-1, annex B).

    ``luhn_key("7992739871") == 3``.
    """
    doubled = (int(d) * (2 - i % 2) for i, d in enumerate(reversed(digits)))
    return -sum(d - 9 if d > 9 else d for d in doubled) % 10


def fictitious_id(serial: int, length: int) -> str:
    """Return the identifier of ``length`` figures for ``serial``: prefix 99, serial, a key that is 5 off.

    Raises:
        ValueError: If the serial does not fit.
    """
    body = f"{FICTION_PREFIX}{serial:0{length - 3}d}"
    if serial < 0 or len(body) != length - 1:
        raise ValueError(f"Expected 0 <= serial < 10**{length - 3}.")
    return body + str((luhn_key(body) + 5) % 10)


def fictitious_rpps(serial: int) -> str:
    """Eleven figures that no professional can have."""
    return fictitious_id(serial, 11)


def fictitious_finess(serial: int) -> str:
    """Nine figures that no establishment can have."""
    return fictitious_id(serial, 9)


def professional_name(profession: str, rng: np.random.Generator) -> str:
    """Name such as "Dr Marguerite Fictif-Tilleul"; no title outside doctors and dentists."""
    given, family = GIVEN[int(rng.integers(len(GIVEN)))], FAMILY[int(rng.integers(len(FAMILY)))]
    return f"{'Dr ' if profession in _WITH_TITLE else ''}{given} Fictif-{family}"


def structure_name(kind: str, town: str, rng: np.random.Generator) -> str:
    """Name of an invented structure in ``town``, e.g. "Centre de santé fictif du Sureau, Roubaix"."""
    label = {
        "liberal": "Cabinet fictif",
        "cds": "Centre de santé fictif",
        "msp": "Maison de santé fictive",
        "cpts": "CPTS fictive",
        "sos": "SOS Médecins fictif",
    }[kind]
    return f"{label} {FAMILY[int(rng.integers(len(FAMILY)))]}, {town}"


def phone(territory: str, rng: np.random.Generator) -> str:
    """Telephone number out of the block reserved for fiction in the territory's area."""
    number = int(rng.integers(10_000))
    return f"{FICTION_PHONES[_AREA_OF.get(territory, '06')]} {number // 100:02d} {number % 100:02d}"
