"""All workplaces, in the order of the navigation: to add one, write its module and name its ``Pages`` here."""

from collections.abc import Callable, Sequence

from starlette.routing import BaseRoute

from sas_matcher.console import (
    account_pages,
    cabinet,
    crisis_pages,
    home,
    pilotage_pages,
    regulation,
    settings_pages,
    study_pages,
    wall_pages,
)
from sas_matcher.console.demo_pages import demo_pages
from sas_matcher.console.doors import Door, door_pages
from sas_matcher.console.live import live_route
from sas_matcher.console.site import Site
from sas_matcher.ports.world import Clock


def console_routes(
    public_url: str,
    clock: Clock,
    uuid: Callable[[], str],
    demo: str,
    lrm_origins: Sequence[str] = (),
    doors: Sequence[Door] = (),
) -> list[BaseRoute]:
    """Return the routes of the pages, their files and their websocket.

    Args:
        public_url: see ``Site``.
        clock: the time.
        uuid: see ``Site``.
        demo: see ``Site``.
        lrm_origins: see ``Site``.
        doors: other ways to sign in (see ``doors``).
    """
    workplaces = [
        regulation.pages,
        cabinet.pages,
        account_pages.administration,
        pilotage_pages.pages,
        crisis_pages.pages,
        settings_pages.pages,
        study_pages.pages,
        wall_pages.keeping,
        wall_pages.wall,
        account_pages.own,
        home.pages,
        door_pages(clock, doors),
        *([demo_pages()] if demo else []),
        home.nowhere,
    ]
    return [
        *Site(workplaces, public_url, uuid, demo, lrm_origins).routes(),
        live_route(public_url),
        wall_pages.wall_route(public_url),
    ]
