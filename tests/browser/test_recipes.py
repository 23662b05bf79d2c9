"""The page of every study, from a run on the embedded data that is as small as it can be."""

import pytest
from click.testing import CliRunner

from advbench.cli import main

FUTURE = {
    "future.train_images": 32,
    "future.validation_images": 16,
    "future.test_images": 6,
    "future.epochs": 1,
    "future.batch": 16,
    "future.draws": 2,
    "future.pgd_steps": 2,
    "future.adaptive_steps": 2,
    "future.restarts": 1,
}

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
    "fgsm-cifar": {
        "train_images": 48,
        "test_images": 12,
        "watched_images": 8,
        "epochs": 1,
        "defended_epochs": 1,
        "eps": "[0.01,0.05]",
        "readings": "[V1,V1 dynamic]",
        "strong_images": 2,
        "pgd_iterations": 2,
        **FUTURE,
    },
    "weighted-cifar": {
        "train_images": 100,
        "validation_images": 20,
        "watched_images": 10,
        "watched_pgd_steps": 1,
        "test_images": 12,
        "epochs": 1,
        "eps": "[0.01,0.1]",
        "training_pgd_steps": 1,
        "strong_images": 4,
        "pgd_iterations": 2,
        "pgd_restarts": 1,
        **FUTURE,
    },
    "compare-defences": {
        "defences": "[jpeg-compression,vae-reformer,defensive-distillation,lipschitz,ad-static,beyond]",
        "train_images": 64,
        "validation_images": 16,
        "test_images": 6,
        "epochs": 1,
        "fit_steps": 1,
        "detector_images": 16,
        "detector_epochs": 1,
        "beyond_views": 2,
        "pgd_steps": 2,
        "adaptive_steps": 2,
        "restarts": 1,
        "joint_steps": 2,
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
    asked = ["recipe", recipe, "--dataset", "digits", "--workers", "1", "--out", str(out), *settings]
    done = CliRunner().invoke(main, asked)
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
