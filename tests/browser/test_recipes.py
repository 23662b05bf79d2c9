"""The page of every study, from a run on the embedded data that is as small as it can be."""

import pytest
from click.testing import CliRunner

from advbench.cli import main

TINY = {
    "bench": {
        "train_images": 1200,
        "epochs": 10,
        "images": 16,
        "deepfool_images": 4,
        "epoch_images": 32,
        "batch": 16,
        "repeats": 1,
        "deepfool_repeats": 1,
        "training_repeats": 1,
    },
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
    "detector-imagenet10": {
        "head_images": 60,
        "clean_images": 20,
        "test_images": 8,
        "train_images": 8,
        "validation_images": 4,
        "eps_bim_l2": "[400/255,800/255]",
        "deepfool_iterations": 2,
        "deepfool_candidates": 2,
        "detector_epochs": 1,
        "chance_seeds": 1,
    },
    "detector-adaptive": {
        "detectors.epochs": 1,
        "detectors.train_images": 64,
        "detectors.test_images": 24,
        "detectors.detector_images": 16,
        "detectors.validation_images": 16,
        "detectors.detector_epochs": 1,
        "detectors.dynamic_epochs": 1,
        "images": 8,
        "eps": "[1/255,8/255]",
        "steps": 2,
        "carlini_images": 4,
        "carlini_steps": 2,
        "carlini_adaptive_steps": 2,
        "carlini_searches": 1,
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
    "gan-mnist": {
        "t": "[0.08,0.32]",
        "seeds": 1,
        "width": 4,
        "train_images": 100,
        "test_images": 20,
        "epoch_images": 30,
        "epoch_test_images": 10,
        "clean_epochs": 2,
        "start_epochs": 1,
        "attack_epochs": 2,
        "pgd_images": 5,
        "pgd_steps": 2,
        "variants": "[clamp]",
        "variant_seeds": 1,
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
        assert chart.locator(".role-mark :is(path, line, image)").count() > 0, chart.get_attribute("data-chart")
    if page.locator("#explore").count():
        before = page.locator("#explore .verdict").inner_text()
        page.locator(".thumbnails button").last.click()
        assert page.locator("#explore .verdict").inner_text() != before
        for name in page.locator("#explore [name=attack] option").all_inner_texts():
            page.select_option("#explore [name=attack]", label=name)
            assert page.locator(".probabilities tbody tr").count() == 10
    assert opened.complaints == []
    assert (out / "report.html").stat().st_size < 5_000_000
