"""The page in Debian's Chromium: sliders, hover, hostile text, widths, no errors, no network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from sumcirc.reporting.page.build import write_page
from sumcirc.reporting.runs import gather
from tests.support.pages import HOSTILE, full_run

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytest.importorskip("selenium", reason="selenium is not installed (extra dev)")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="chromium and chromium-driver are not installed"
)
PATIENCE = 120  # seconds, of a busy machine


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The open page of a run whose every text is hostile."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    folder = tmp_path_factory.mktemp("s")
    target = folder / "report.html"
    write_page(gather([full_run(folder / "r", HOSTILE).path]), None, "sumcirc report r", target)
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    browser.set_page_load_timeout(PATIENCE)
    browser.set_script_timeout(PATIENCE)
    try:
        browser.get(target.as_uri())
        yield browser
    finally:
        browser.quit()


def wait(page: Any, script: str) -> Any:
    """The value of a JavaScript expression once it is true."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(page, PATIENCE).until(lambda found: found.execute_script(script))


def show(page: Any, title: str) -> Any:
    """The figure of a title, scrolled into view and drawn."""
    figure = next(
        one
        for one in page.find_elements("css selector", "figure.chart")
        if title in one.find_element("css selector", "h3").text
    )
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", figure)
    drawn = f"return document.querySelector('#{figure.get_attribute('id')} .plot').dataset.drawn"
    wait(page, drawn)
    return figure


def data(page: Any, figure: Any) -> list[Any]:
    """What plotly drew."""
    script = "return JSON.stringify(arguments[0].querySelector('.plot').data)"
    return json.loads(page.execute_script(script, figure))


def move(page: Any, figure: Any, kind: str, value: int) -> str:
    """Put a slider somewhere by keyboard's event; returns what it then says."""
    page.execute_script(
        "const i = arguments[0].querySelector(arguments[1]); i.value = arguments[2];"
        "i.dispatchEvent(new Event('input', {bubbles: true}))",
        figure,
        f".{kind}",
        value,
    )
    slider = figure.find_element("css selector", f".{kind}")
    return str(slider.get_attribute("aria-valuetext"))


def test_the_checkpoint_slider_changes_the_map(page: Any) -> None:
    figure = show(page, "How far attention is")
    last = data(page, figure)[0]["z"]
    assert move(page, figure, "frame", 0) == "step 0"
    wait(page, "return document.querySelector('#heads-0-0 .plot').dataset.drawn === '0'")
    first = data(page, figure)[0]["z"]
    assert first[1][1] < 0.1 < 1.3 < last[1][1]
    assert figure.find_element("css selector", "output").text == "step 0"


def test_an_arrow_key_moves_a_slider(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    figure = show(page, "Attention entropy")
    slider = figure.find_element("css selector", ".frame")
    slider.send_keys(Keys.ARROW_LEFT)
    assert slider.get_attribute("aria-valuetext") == "step 10"


def test_circuit_sliders(page: Any) -> None:
    figure = show(page, "The circuit, layer by layer")
    assert move(page, figure, "threshold", 0) == "none: all 5 edges"
    assert len(data(page, figure)[8]["x"]) == 15  # three points to hover on for each edge
    assert move(page, figure, "frame", 0) == "step 0: 3 edges"
    assert move(page, figure, "threshold", 100) == "|score| ≥ 1.0: 1 of 3 edges"
    assert data(page, figure)[8]["text"][0] == "input → a0.h0 (query): 1.00"


def test_hover_shows_a_value(page: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    figure = show(page, "Attention entropy")
    plot = figure.find_element("css selector", ".plot .nsewdrag")
    ActionChains(page).move_to_element(plot).move_by_offset(20, 10).perform()
    shown = "return document.querySelector('.hoverlayer text')?.textContent"
    assert "nats" in wait(page, shown)


def test_hostile_text_is_inert(page: Any) -> None:
    assert page.execute_script("return window.hacked === undefined")
    assert page.find_elements("css selector", "main img, main b") == []
    text = page.execute_script("return document.querySelector('#examples').textContent")
    assert "<script>window.hacked=1</script>" in text
    assert "\\u202e" in text
    assert "\u202e" not in text


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_the_body_does_not_scroll_sideways(page: Any, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wait(page, f"return innerWidth === {width} && document.documentElement.scrollWidth <= {width}")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


def test_no_errors_and_no_network(page: Any) -> None:
    errors = [entry for entry in page.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert errors == []
    sent = [
        json.loads(entry["message"])["message"]
        for entry in page.get_log("performance")
        if "Network.requestWillBeSent" in entry["message"]
    ]
    urls = [
        event["params"]["request"]["url"]
        for event in sent
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert urls
    assert all(url.startswith(("file:", "data:", "blob:")) for url in urls)
