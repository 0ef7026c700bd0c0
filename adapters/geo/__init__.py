"""Geography of France: gazetteer of communes and territories, landmasses."""

from adapters.geo.gazetteer import Commune, Gazetteer, Territory

__all__ = ["Commune", "Gazetteer", "Territory"]
