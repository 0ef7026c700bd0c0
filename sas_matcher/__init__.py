"""The live exchange between practices that have places for unscheduled care and regulators who need one now."""

__version__ = "0.1.0"
