"""The workplace « Cabinet »: what a practice, its secretary, a centre or whoever runs several does with its places."""

from sas_matcher.console.cabinet import agenda_pages, became_pages, consent_pages, notice_pages, team_pages, today
from sas_matcher.console.cabinet.here import pages

__all__ = ["agenda_pages", "became_pages", "consent_pages", "notice_pages", "pages", "team_pages", "today"]
