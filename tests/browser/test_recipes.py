"""The page of every study, from a run on the embedded data that is as small as it can be."""

import pytest
from click.testing import CliRunner

from advbench.cli import main

TINY = {
    "detector-cifar": {
        "epochs": 1,
        "train_images": 64,
        "test_images": 24,
        "detector_images": 16,
        "validation_images": 16,
        "detector_epochs": 1,
        "dynamic_epochs": 1,
        "sigmas": "[0,1]",
        "sigma_images": 16,
        "check_iterations": 1,
        "min_successes": 1,
    },
    "training-mnist": {
        "train_images": 400,
        "validation_images": 100,
        "test_images": 100,
        "epochs": 1,
        "strong_images": 4,
        "pgd_iterations": 2,
        "pgd_restarts": 1,
    },
}


@pytest.mark.parametrize("recipe", TINY)
def test_the_page_of_a_study(open_page, browser, tmp_path, recipe):
    settings = [part for key, value in TINY[recipe].items() for part in ("--set", f"{key}={value}")]
    out = tmp_path / "run"
    done = CliRunner().invoke(main, ["recipe", recipe, "--dataset", "digits", "--out", str(out), *settings])
    assert done.exit_code == 0, done.output
    opened = open_page(out / "report.html", width=400)
    page = opened.page
    assert opened.complaints == [] and opened.requests == [(out / "report.html").as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    for chart in page.locator("[data-chart]").all():
        assert chart.locator(".role-mark path, .role-mark line").count() > 0, chart.get_attribute("data-chart")
    if page.locator("#explore").count():
        before = page.locator("#explore .verdict").inner_text()
        page.locator(".thumbnails button").last.click()
        assert page.locator("#explore .verdict").inner_text() != before
        for name in page.locator("#explore [name=attack] option").all_inner_texts():
            page.select_option("#explore [name=attack]", label=name)
            assert page.locator(".probabilities tbody tr").count() == 10
    assert opened.complaints == []
    assert (out / "report.html").stat().st_size < 5_000_000
