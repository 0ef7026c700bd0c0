"""A whole service and a headless Chromium for each file of browser tests; a loud skip where no browser is."""

import shutil
import warnings
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import async_playwright

from tests.api.conftest import settings_for
from tests.api.running import run_service
from tests.browser.desk import Browsing
from tests.conftest import Servers

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)


@pytest.fixture(scope="module")
async def browsing(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browsing]:
    """A service with its pages and a browser, shared by the tests of a file: each uses accounts of its own."""
    if not CHROMIUM:
        pytest.skip("=== ATTENTION : Chromium n'est pas installé ; les tests des pages sont SAUTÉS ===")
    database_url = servers.new_database()
    settings = settings_for(
        database_url,
        servers.new_redis(),
        demo="SAS des tests",
        lrm_origins=("lrm-test",),
        history_dir=str(tmp_path_factory.mktemp("journees")),
    )
    with warnings.catch_warnings():
        # the driver's own transports, when the browser is closed
        warnings.simplefilter("ignore", ResourceWarning)
        async with run_service(settings) as service, async_playwright() as driver:
            browser = await driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            yield Browsing(service, browser)
            await browser.close()
    servers.drop_database(database_url)
