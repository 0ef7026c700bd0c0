"""Pages of accounts: one's own (password), and for the administration all of them."""

from starlette.responses import Response

from sas_matcher.console import words
from sas_matcher.console.doors import browser_of, keep
from sas_matcher.console.site import Entry, Pages
from sas_matcher.console.visit import Form, Visit
from sas_matcher.domain.errors import InvalidInputError, SasError
from sas_matcher.domain.vocabulary import Role, Scope
from sas_matcher.services.accounts import suggest_password
from sas_matcher.services.keys import KeyWish, binding_problem

own = Pages()
administration = Pages(scopes=(Scope.ADMIN,), entries=(Entry("/comptes", "Comptes"),))


@own.get("/compte")
async def account(visit: Visit) -> Response:
    """Show who one is here, and let one change the password."""
    return visit.show("account.html", error=None)


@own.post("/compte")
async def change_password(visit: Visit) -> Response:
    """Change one's password; every other session ends, this one goes on with a new token."""
    form = (await visit.form()).only("present", "password", "again")
    login = visit.signed_in.login
    try:
        present, password, again = ((form.several(name) or [""])[-1] for name in ("present", "password", "again"))
        if password != again:
            raise InvalidInputError.of("again", "les deux saisies du nouveau mot de passe diffèrent")
        await visit.wire.accounts.sign_out(await visit.wire.accounts.sign_in(login, present, browser_of(visit)))
        await visit.wire.accounts.change_password(login, password)
    except SasError as error:
        return visit.show("account.html", error.status if error.status != 401 else 422, error=error)
    answer = visit.go("/")
    keep(visit, answer, await visit.wire.accounts.open(login))
    return answer


@administration.get("/comptes")
async def accounts(visit: Visit) -> Response:
    """List all accounts."""
    return await _listed(visit)


@administration.post("/comptes")
async def add(visit: Visit) -> Response:
    """Create an account; its first password is shown this once."""
    form = (await visit.form()).only("login", "name", "role", "territories", "structures", "professionals", "source")
    login, password = form.text("login").lower(), suggest_password(visit.wire.secrets.secret())
    try:
        wish = _wish(form, visit)
        await visit.wire.accounts.add(login, password, wish)
    except SasError as error:
        return await _listed(visit, error.status, error=error, form=form)
    return await _listed(visit, password=password, login=login)


@administration.post("/comptes/mot-de-passe")
async def reset(visit: Visit) -> Response:
    """Give an account a new password, shown this once; its sessions end."""
    login = (await visit.form()).only("login").text("login")
    password = suggest_password(visit.wire.secrets.secret())
    await visit.wire.accounts.change_password(login, password)
    return await _listed(visit, password=password, login=login)


@administration.post("/comptes/fermer")
async def close(visit: Visit) -> Response:
    """Close an account at once."""
    await visit.wire.accounts.close((await visit.form()).only("login").text("login"))
    return visit.go("/comptes")


def _wish(form: Form, visit: Visit) -> KeyWish:
    def codes(name: str) -> tuple[str, ...]:
        return tuple(part for part in form.text(name).replace(",", " ").split() if part)

    role = form.text("role")
    if role not in words.ROLES:
        raise InvalidInputError.of("role", "choisissez un rôle")
    name = form.text("name")
    if not 1 <= len(name) <= 80:
        raise InvalidInputError.of("name", "1 à 80 caractères")
    wish = KeyWish(
        Role(role), name, codes("territories"), codes("structures"), codes("professionals"), form.text("source")
    )
    problem = binding_problem(wish, visit.wire.geography.territories)
    if problem is not None:
        said = problem.replace("Une clé", "Un compte").replace("rattachée", "rattaché")
        raise InvalidInputError.of("role", said.replace(f"« {role} »", f"« {words.ROLES[role]} »"))
    return wish


async def _listed(
    visit: Visit,
    status: int = 200,
    *,
    error: SasError | None = None,
    form: Form | None = None,
    login: str = "",
    password: str = "",
) -> Response:
    found = await visit.wire.accounts.all()
    return visit.show(
        "accounts.html", status, accounts=found, error=error, form=form or Form({}), login=login, password=password
    )
