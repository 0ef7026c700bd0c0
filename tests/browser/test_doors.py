"""Signing in and out in a real browser; what every page keeps to."""

from datetime import timedelta

from playwright.async_api import Locator, Page

from tests.browser.desk import Browsing, violations

PASSWORD = "une phrase assez longue"


async def window_of(page: Page) -> Locator:
    """Let a page ask for something, as it does by itself, and see that its session has ended."""
    await page.evaluate("htmx.ajax('GET', '/compte', {target: '#notice'})")
    dialog = page.get_by_role("dialog", name="Votre session est terminée")
    await dialog.wait_for()
    return dialog


async def test_sign_in_out_and_in_again(browsing: Browsing) -> None:
    login = await browsing.account("admin", password="une phrase assez longue")
    context = await browsing.browser.new_context()
    page = await context.new_page()
    await page.goto(browsing.service.url + "/comptes")
    assert page.url.endswith("/connexion?suite=/comptes")
    assert await violations(page) == []
    await page.fill("#login", login)
    await page.fill("#password", "une autre phrase")
    await page.keyboard.press("Enter")
    await page.get_by_role("alert").get_by_text("Identifiant ou mot de passe incorrect").wait_for()
    await page.fill("#password", "une phrase assez longue")
    await page.keyboard.press("Enter")
    await page.get_by_role("heading", name="Comptes").wait_for()
    assert page.url.endswith("/comptes")
    (cookie,) = [c for c in await context.cookies() if c["name"] == "sas_session"]
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    await page.locator("#live[data-state=on]").wait_for()
    await page.get_by_role("button", name="Se déconnecter").click()
    await page.get_by_role("heading", name="Connexion").wait_for()
    await page.goto(browsing.service.url + "/comptes")
    assert "/connexion" in page.url
    await context.close()


async def test_an_ended_session_keeps_the_page_and_lets_one_in_again(browsing: Browsing) -> None:
    login = await browsing.account("admin", password="une phrase assez longue")
    async with browsing.signed_in(login) as somebody:
        page = await somebody.open("/comptes")
        await page.fill("#name", "à moitié écrit")
        await browsing.accounts.sign_out(somebody.token)
        # the page asks for something as a page does by itself
        await page.evaluate("htmx.ajax('GET', '/comptes', {target: '#notice'})")
        dialog = page.get_by_role("dialog", name="Votre session est terminée")
        await dialog.wait_for()
        assert await violations(page) == []
        await page.keyboard.type("une phrase assez longue")
        await page.keyboard.press("Enter")
        await dialog.wait_for(state="hidden")
        assert await page.input_value("#name") == "à moitié écrit"
        # the new session's secret is in the forms: the action goes through
        await page.fill("#login", "nouveau-compte")
        await page.fill("#territories", "69")
        await page.get_by_role("button", name="Ouvrir le compte").click()
        await page.get_by_role("status").get_by_text("nouveau-compte").wait_for()


async def test_the_window_says_why_it_lets_nobody_in(browsing: Browsing) -> None:
    login = await browsing.account("admin", password=PASSWORD)
    async with browsing.signed_in(login) as somebody:
        page = await somebody.open("/comptes")
        await browsing.accounts.sign_out(somebody.token)
        dialog = await window_of(page)
        await page.keyboard.type("une autre phrase")
        await page.keyboard.press("Enter")
        await dialog.get_by_role("alert").get_by_text("Identifiant ou mot de passe incorrect").wait_for()
        assert await violations(page) == []
        # too many tries from this address; they come back with time, and a busy machine takes its own to hash them
        with browsing.service.clock.standing():
            await page.evaluate(
                """async () => { for (let n = 0; n < 12; n++) await fetch("/connexion", {
                  method: "POST", body: new URLSearchParams({login: "personne", password: "rien"})}); }"""
            )
            await page.keyboard.press("Enter")
            await dialog.get_by_role("alert").get_by_text("Trop d'essais").wait_for()
        browsing.service.clock.ahead += timedelta(minutes=2)
        await page.fill("#again-password", PASSWORD)
        await page.keyboard.press("Enter")
        await dialog.wait_for(state="hidden")


async def test_who_signs_in_again_in_one_tab_goes_on_in_all(browsing: Browsing) -> None:
    login = await browsing.account("admin", password=PASSWORD)
    async with browsing.signed_in(login) as somebody:
        pages = [await somebody.open("/comptes") for _ in range(3)]
        await browsing.accounts.sign_out(somebody.token)
        dialogs = [await window_of(page) for page in pages[:2]]
        await pages[0].fill("#again-password", PASSWORD)
        await pages[0].keyboard.press("Enter")
        for dialog in dialogs:
            await dialog.wait_for(state="hidden")
        # also where nobody had noticed yet
        for page, name in zip(pages, ("un", "deux", "trois"), strict=True):
            await page.fill("#login", f"compte-{name}")
            await page.fill("#name", "Compte fictif")
            await page.fill("#territories", "69")
            await page.get_by_role("button", name="Ouvrir le compte").click()
            await page.get_by_role("status").get_by_text(f"compte-{name}").wait_for()
        # nobody acts as somebody else: what is on these pages is not theirs
        other = await browsing.account("admin", password=PASSWORD)
        await somebody.context.clear_cookies()
        dialogs = [await window_of(page) for page in pages[:2]]
        await pages[0].fill("#again-login", other)
        await pages[0].fill("#again-password", PASSWORD)
        await pages[0].keyboard.press("Enter")
        await pages[0].wait_for_url(browsing.service.url + "/*")
        await pages[0].locator(".who", has_text=f"Compte {other}").wait_for()
        await pages[1].get_by_text("Une autre personne s'est connectée dans ce navigateur").wait_for()
        assert await dialogs[1].is_visible()


async def test_what_came_by_itself_stays_while_one_acts(browsing: Browsing) -> None:
    async with browsing.person("osnp", territories=("69",)) as somebody:
        page = await somebody.open("/regulation", moving_clock=True)
        await page.locator("#live[data-state=on]").wait_for()
        news = page.get_by_role("log", name="Nouvelles")
        handed = "sas.say('sas-request', {name: 'request.handed', id: 'une', data: {version: 1}})"
        await page.evaluate(handed)
        await news.get_by_text("Demande confiée par un collègue").wait_for()
        assert await violations(page) == []
        # an act is answered beside it, and the next answer takes the place of this one only
        for _ in range(2):
            await page.evaluate("sas.tell('Copié.', 'good')")
            await page.evaluate("htmx.ajax('POST', '/regulation/demandes', {target: '#answer'})")
            await page.get_by_role("alert").locator(".bad").wait_for()
            assert await page.get_by_text("Copié.").count() == 0
            assert await news.locator(".note").count() == 1
        await news.get_by_role("button", name="Fermer").click()
        assert await news.locator(".note").count() == 0
        # a few, for a while
        for _ in range(6):
            await page.evaluate(handed)
        assert await news.locator(".note").count() == 4
        await page.clock.fast_forward("02:01")
        await news.locator(".note").first.wait_for(state="detached")
