"""Geography of France: gazetteer of communes, landmasses, travel estimates."""

from adapters.geo.gazetteer import Commune, Gazetteer, Territory
from adapters.geo.travel import TRAVEL_SOURCE, haversine_km, travel_min, travel_range_min

__all__ = [
    "TRAVEL_SOURCE",
    "Commune",
    "Gazetteer",
    "Territory",
    "haversine_km",
    "travel_min",
    "travel_range_min",
]
