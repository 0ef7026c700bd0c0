"""The address ``/``: where a browser begins, an opening for a regulator's software, and for a client what this is.

And addresses below the workplaces at which there is nothing: people are told so on a page.
"""

from starlette.responses import Response

from sas_matcher import __version__
from sas_matcher.api.wire import json
from sas_matcher.console.lrm import is_opening
from sas_matcher.console.regulation import open_from_lrm
from sas_matcher.console.site import Pages
from sas_matcher.console.visit import Visit
from sas_matcher.domain.errors import NotFoundError

pages = Pages(open_to_all=True)
nowhere = Pages(open_to_all=True)


@pages.get("/")
async def home(visit: Visit) -> Response:
    """Send everybody where they begin."""
    if is_opening(visit.request.query_params):
        return await open_from_lrm(visit)
    if "text/html" not in visit.request.headers.get("accept", ""):
        links = {"openapi": "/openapi.json", "ready": "/readyz"}
        return json({"service": "sas_matcher", "version": __version__, **links})
    if visit.account is None:
        return visit.go("/demo" if visit.site.demo else "/connexion")
    return visit.go(visit.site.home_of(visit.caller.role))


@nowhere.get("/regulation/{rest:path}")
@nowhere.get("/cabinet/{rest:path}")
@nowhere.get("/pilotage/{rest:path}")
@nowhere.get("/comptes/{rest:path}")
async def lost(_visit: Visit) -> Response:
    """Say that there is no such page."""
    raise NotFoundError("Il n'y a pas de page à cette adresse.")
