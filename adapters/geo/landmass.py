"""Which communes can reach each other by road: "places across the sea are not near".

A landmass is a group of communes joined by roads and bridges; a straight line between two of them means
nothing without that. Ré, Oléron and Noirmoutier have bridges and belong to the mainland. In Guyane the
communes of the upper Maroni, the Oyapock and Saül have no road to the coast: pirogue or aeroplane only.
Islands that are part of a mainland commune (Porquerolles, Frioul, Chausey) cannot be told apart by commune.
"""

MAINLAND = 0
CORSE = 1

TERRITORY_LANDMASS = {"2A": CORSE, "2B": CORSE, "971": 2, "972": 3, "973": 4, "974": 5, "976": 6}
"""Landmass of the main island (or of the coast) of each territory that is not on the mainland."""

ISLANDS: dict[int, tuple[str, ...]] = {
    10: ("29155",),  # Ouessant
    11: ("29084",),  # Île-Molène
    12: ("29083",),  # Île-de-Sein
    13: ("29082",),  # Île-de-Batz
    14: ("22016",),  # Île-de-Bréhat
    15: ("56069",),  # Groix
    16: ("56009", "56114", "56152", "56241"),  # Belle-Île: Bangor, Locmaria, Le Palais, Sauzon
    17: ("56086",),  # Île-d'Houat
    18: ("56085",),  # Hœdic
    19: ("56087",),  # Île-aux-Moines
    20: ("56088",),  # Île-d'Arz
    21: ("85113",),  # L'Île-d'Yeu
    22: ("17004",),  # Île-d'Aix
    30: ("97108", "97112", "97126"),  # Marie-Galante: Capesterre, Grand-Bourg, Saint-Louis
    31: ("97110",),  # La Désirade
    32: ("97130",),  # Les Saintes: Terre-de-Bas
    33: ("97131",),  # Les Saintes: Terre-de-Haut
    40: ("97353", "97362"),  # upper Maroni: Maripasoula and Papaïchton, joined by a track
    41: ("97357",),  # Grand-Santi
    42: ("97352",),  # Saül
    43: ("97356",),  # Camopi
    44: ("97314",),  # Ouanary
    50: ("97608", "97615"),  # Petite-Terre of Mayotte: Dzaoudzi, Pamandzi
}
"""Communes without a road to the rest of their territory, INSEE codes by landmass."""

_LANDMASS_OF_COMMUNE = {code: landmass for landmass, codes in ISLANDS.items() for code in codes}


def landmass_of_commune(code: str, territory: str) -> int:
    """Landmass of a commune from its INSEE code and its territory.

    Args:
        code: INSEE code of the commune or arrondissement.
        territory: Code of its territory.

    Returns:
        ``MAINLAND`` (0), ``CORSE`` (1) or another small number; equal numbers can reach each other by road.
    """
    return _LANDMASS_OF_COMMUNE.get(code, TERRITORY_LANDMASS.get(territory, MAINLAND))
