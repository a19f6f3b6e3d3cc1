"""The dashboard in a real browser, opened from the disk."""

from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.dashboard.browser import Browser, browser
from tests.dashboard.run import many_advertisers, places, publish_run
from tests.training.test_monitor import Day, make_day
from training.dashboard.build import build_dashboard, write_dashboard
from training.dashboard.config import DashboardConfig
from training.dashboard.read import Findings

__all__ = ["browser"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800)]
CHARTS = (
    "return [...document.querySelectorAll('.chart')]"
    ".filter((c) => c.offsetParent && c.querySelector('.main-svg')).length"
)
MANY = 100_000


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    made = make_day(tmp_path_factory.mktemp("run"))
    publish_run(made)
    config = DashboardConfig(advertisers_per_file=40)
    build_dashboard(places(made.out), str(made.out / "dashboard"), name="tiny <run>", config=config)
    return made


def test_the_overview_has_its_charts_and_no_complaints(day: Day, browser: Browser) -> None:
    browser.show(dark=False)
    browser.open(day.out / "dashboard/index.html")
    assert browser.ask(CHARTS) == 10
    text = browser.driver.find_element(By.TAG_NAME, "main").text
    assert "60 rows are predicted" in text
    assert "<b>generation</b>" in text, "data is text, not markup"
    browser.ask("const s = document.getElementById('errors-task'); s.value = 'units'; s.onchange()")
    labels = browser.ask("return [...document.querySelectorAll('.chart')].map((c) => c.getAttribute('aria-label'))")
    assert "NMAE over time, units, by scenario" in labels
    assert all(labels)
    assert browser.ask("return document.querySelectorAll('details.numbers tbody tr').length") > 10
    assert browser.complaints() == []


def test_search_and_an_advertisers_page_by_keyboard_alone(day: Day, browser: Browser) -> None:
    browser.open(day.out / "dashboard/advertiser.html")
    browser.driver.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert browser.ask("return document.activeElement.className") == "skip"
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    search = browser.driver.switch_to.active_element
    assert search.get_attribute("id") == "search"
    search.send_keys("nobody")
    assert "No advertiser" in browser.driver.find_element(By.ID, "said").text
    search.clear()
    search.send_keys("1-14")
    found = [link.text for link in browser.driver.find_elements(By.CSS_SELECTOR, "#results a")]
    assert found[0] == "1-14"
    assert set(found[1:]) == {f"1-14{n}" for n in range(10)}
    search.send_keys(Keys.ENTER)
    browser.until("return document.body.dataset.shown === '1-14'")
    assert browser.ask("return document.activeElement.id") == "who"
    words = browser.driver.find_element(By.ID, "words").text
    assert "units in the next 7 days" in words
    assert "In 8 of 10 such cases" in words
    assert browser.ask(CHARTS) == 2, "history and attention"
    browser.ask("const t = document.getElementById('task'); t.value = 'days'; t.onchange()")
    assert "days in the next 7 days" in browser.driver.find_element(By.ID, "words").text
    assert browser.complaints() == []


def test_dark_and_narrow_pages_keep_their_charts_and_do_not_overflow(day: Day, browser: Browser) -> None:
    for page, fragment in (("index.html", ""), ("advertiser.html", "#1-14")):
        browser.show(dark=False, width=380)
        browser.open(day.out / "dashboard" / page, fragment)
        light = browser.ask("return getComputedStyle(document.body).backgroundColor")
        ink = browser.ask("return document.querySelector('.xtick text, .ytick text').style.fill")
        assert browser.ask("return document.documentElement.scrollWidth") <= 380
        browser.show(dark=True, width=380)
        assert browser.ask("return getComputedStyle(document.body).backgroundColor") != light
        script = f"return document.querySelector('.xtick text, .ytick text').style.fill !== '{ink}'"
        assert browser.until(script), "charts follow the colour scheme"
    browser.show(dark=False)
    assert browser.complaints() == []


def test_headings_labels_and_landmarks_are_there(day: Day, browser: Browser) -> None:
    for page in ("index.html", "advertiser.html"):
        browser.open(day.out / "dashboard" / page)
        assert browser.ask("return document.documentElement.lang") == "en"
        for selector in ("h1", "main", "nav[aria-label]"):
            assert browser.ask(f"return document.querySelectorAll('{selector}').length") == 1
        unlabelled = "return [...document.querySelectorAll('select, input')].filter((i) => !i.labels.length).length"
        assert browser.ask(unlabelled) == 0
        title = "document.getElementById(s.getAttribute('aria-labelledby'))"
        assert browser.ask(f"return [...document.querySelectorAll('section')].every((s) => {title})")


def test_a_hundred_thousand_advertisers_open_and_are_found(tmp_path: Path, browser: Browser) -> None:
    write_dashboard(Findings(), many_advertisers(MANY), str(tmp_path), name="many", missing=[], per_file=200)
    assert len(list(tmp_path.glob("data-*/advertisers-*.js"))) == MANY // 200
    browser.open(tmp_path / "advertiser.html")
    assert "100,000 advertisers, the first 30 are shown" in browser.driver.find_element(By.ID, "said").text
    browser.driver.find_element(By.ID, "search").send_keys("77777", Keys.ENTER)
    browser.until("return document.body.dataset.shown === 'advertiser 077777'")
    assert browser.ask("return document.querySelectorAll('script[src*=advertisers-]').length") == 1
    assert browser.ask(CHARTS) == 2
    assert browser.complaints() == []


def test_an_empty_run_opens_and_says_what_is_missing(tmp_path: Path, browser: Browser) -> None:
    built = build_dashboard(places(tmp_path), str(tmp_path / "dashboard"), name="empty", config=DashboardConfig())
    browser.open(tmp_path / "dashboard/index.html")
    text = browser.driver.find_element(By.TAG_NAME, "main").text
    assert len(built.missing) == 5
    assert all(line in text for line in built.missing)
    browser.open(tmp_path / "dashboard/advertiser.html")
    assert browser.complaints() == []
