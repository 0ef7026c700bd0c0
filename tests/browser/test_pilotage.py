"""Pilotage in a real browser: the main day of a coordinator, the wallboard, what everybody may know."""

import pytest

from tests.browser.desk import NARROW, Browsing, violations

PLACES = ("", "/carte", "/besoins", "/offre", "/aci")


@pytest.mark.parametrize("path", PLACES)
async def test_pages_are_accessible_by_day_night_and_on_a_phone(browsing: Browsing, path: str) -> None:
    for scheme, viewport in (("light", None), ("dark", NARROW)):
        async with browsing.person("ars", scheme=scheme, viewport=viewport) as somebody:
            page = await somebody.open(f"/pilotage{path}?territoire=69")
            assert await violations(page) == []
            assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
