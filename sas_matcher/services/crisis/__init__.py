"""Crises: levels that people declare, prepared plans and their effects, detection that proposes, the review."""
