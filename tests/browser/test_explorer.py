"""The explorer, on images of which the fixture knows everything: six dark ones, six light ones, a lamp and a candle."""

import numpy as np
import pytest


@pytest.fixture
def page(open_page, page_file):
    opened = open_page(page_file)
    yield opened.page
    assert opened.complaints == []


def grey(page, panel):
    """The one grey level of a drawn picture."""
    return page.evaluate(
        "name => { const c = document.querySelector(`[data-panel=${name}]`);"
        "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((_, i) => i % 4 < 3)]; }",
        panel,
    )


def drawn(page, panel, level):
    """Wait until a picture has a grey level everywhere, to the rounding of a screen."""
    for _ in range(50):
        values = np.array(grey(page, panel), dtype=float)
        if values.size == 48 and np.abs(values - level).max() <= 1:
            return
        page.wait_for_timeout(40)
    raise AssertionError(f"{panel} is {values[:3]}, not {level}")


def choose(page, **choices):
    for name, label in choices.items():
        page.select_option(f"#explore [name={name}]", label=label)


def numbers(page, row):
    return page.locator(f".{row} tbody tr").all_inner_texts()


def test_the_pictures_are_the_images_and_follow_attack_eps_and_image(page):
    drawn(page, "clean", 0.2 * 255)
    drawn(page, "adversarial", 0.7 * 255)
    choose(page, attack="candle")
    drawn(page, "adversarial", 0.21 * 255)
    choose(page, eps="0.51/255 (0.002)")
    drawn(page, "adversarial", 0.202 * 255)
    page.locator(".thumbnails button").nth(11).click()
    drawn(page, "clean", 0.8 * 255)


def test_gain_multiplies_the_perturbation_alone(page):
    choose(page, attack="candle", eps="2.55/255 (0.01)")
    for power in (0, 3, 9):
        page.locator("[name=gain]").fill(str(power))
        drawn(page, "perturbation", min(255, 128 + 2**power * 2.55))
        drawn(page, "adversarial", 0.21 * 255)
    assert page.locator("#explore output").inner_text() == "512"


def test_probabilities_and_scores_are_those_of_the_image(page):
    text = " ".join(numbers(page, "probabilities"))
    assert "dark (true)" in text and "100.0 %" in text
    clean, adversarial = numbers(page, "detector")
    assert "0.200" in clean and "not flagged" in clean
    assert "0.700" in adversarial and "not flagged" in adversarial
    assert "taken for dark when clean and for light under attack" in page.locator(".verdict").inner_text()
    page.locator(".thumbnails button").nth(4).click()
    assert "0.918" in numbers(page, "detector")[1] and "not" not in numbers(page, "detector")[1]


@pytest.mark.parametrize(
    "choices, count",
    [
        ({}, 12),
        ({"fooled": "fooled: wrong under attack"}, 3),  # of the six dark ones the lamp lights up every second one
        ({"fooled": "right under attack"}, 9),
        ({"flagged": "flagged"}, 6),  # the two brighter dark ones, three light ones made white, and the brightest
        ({"class": "light"}, 6),
        ({"fooled": "fooled: wrong under attack", "flagged": "flagged", "class": "dark"}, 2),
        ({"fooled": "fooled: wrong under attack", "class": "light"}, 0),
    ],
)
def test_filters(page, choices, count):
    choose(page, **choices)
    assert page.locator(".count").inner_text() == f"{count} of 12 images"
    assert page.locator(".thumbnails button").count() == count
    assert page.locator(".panels").is_visible() == (count > 0)


def test_arrow_keys_walk_through_the_images(page):
    page.locator(".thumbnails button[aria-pressed=true]").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert page.locator(".verdict").inner_text().startswith("Image 1:")
    assert page.locator(".thumbnails button[tabindex='0']").count() == 1
