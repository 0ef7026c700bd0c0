"""Signing in and out in a real browser; what every page keeps to."""

from tests.browser.desk import Browsing, violations


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
