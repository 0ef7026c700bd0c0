"""Colleagues: who may do what here; inviting and taking back, within one's own rights."""

from starlette.responses import Response

from sas_matcher.console.cabinet.here import Here, here_of, pages
from sas_matcher.console.visit import Form, Visit
from sas_matcher.domain.errors import InvalidInputError, SasError
from sas_matcher.domain.vocabulary import Role
from sas_matcher.services.accounts import suggest_password
from sas_matcher.services.colleagues import MAY_INVITE, Colleagues
from sas_matcher.services.keys import KeyWish


@pages.get("/cabinet/equipe")
async def team(visit: Visit) -> Response:
    """List who works for the same places."""
    return await _shown(await here_of(visit))


async def _shown(
    here: Here,
    status: int = 200,
    *,
    error: SasError | None = None,
    form: Form | None = None,
    login: str = "",
    password: str = "",
) -> Response:
    me = here.visit.signed_in.key
    return here.show(
        "team.html",
        status,
        colleagues=await Colleagues(here.visit.wire.accounts).seen_by(me),
        may=MAY_INVITE.get(me.role, ()),
        error=error,
        form=form or Form({}),
        login=login,
        password=password,
    )


@pages.post("/cabinet/equipe")
async def invite(visit: Visit) -> Response:
    """Create a colleague's account; its first password is shown this once."""
    form = (await visit.form()).only("login", "name", "role", "who")
    here = await here_of(visit)
    login, password = form.text("login").lower(), suggest_password(visit.wire.secrets.secret())
    try:
        if form.text("role") not in list(Role):
            raise InvalidInputError.of("rôle", "choisissez un rôle")
        if not 1 <= len(form.text("name")) <= 80:
            raise InvalidInputError.of("nom", "1 à 80 caractères")
        codes = [one.partition(":") for one in form.several("who")]
        wish = KeyWish(
            Role(form.text("role")),
            form.text("name"),
            structures=tuple(code for kind, _, code in codes if kind == "s"),
            professionals=tuple(code for kind, _, code in codes if kind == "p"),
        )
        await Colleagues(visit.wire.accounts).invite(visit.signed_in.key, login, password, wish)
    except SasError as error:
        return await _shown(here, error.status, error=error, form=form)
    return await _shown(here, login=login, password=password)


@pages.post("/cabinet/equipe/retirer")
async def take_back(visit: Visit) -> Response:
    """Close a colleague's account at once."""
    login = (await visit.form()).only("login").text("login")
    await Colleagues(visit.wire.accounts).take_back(visit.signed_in.key, login)
    return (await here_of(visit)).go("/cabinet/equipe")
