import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.defences.detector.evasion import BinaryInputDetector, EvasionDetector
from art.estimators.classification import PyTorchClassifier
from conftest import SHAPE, Linear, make_small_net

from advbench import attacks, estimators, models
from advbench.detectors import FeatureFiles, SubnetworkDetector, threshold_on
from advbench.detectors.network import cifar, imagenet
from advbench.device import has_bfloat16
from advbench.errors import UsageError


@pytest.fixture(scope="module")
def labelled(classifier, digits):
    x, y = digits[0][:400], digits[1][:400]
    adversarial = attacks.create("bim", classifier, eps=0.1).generate(x, y)
    return np.concatenate([x, adversarial]), np.repeat([0, 1], len(x))


@pytest.fixture(scope="module")
def detector(classifier, labelled):
    detector = SubnetworkDetector(classifier, 1, lr=1e-3)
    detector.fit(*labelled, nb_epochs=20, batch_size=64)
    return detector


@pytest.mark.parametrize(
    "channels, size, weights", [(3, 32, 500_640), (16, 32, 511_872), (32, 16, 525_696), (64, 8, 553_344)]
)
def test_the_subnetwork_is_the_papers_at_every_depth(channels, size, weights):
    """Convolution weights without biases and batch norm, and 8 x 8 maps before the global pooling."""
    network = cifar(channels, size).eval()
    found = sum(m.weight.numel() for m in network.modules() if isinstance(m, torch.nn.Conv2d))
    assert found == weights
    assert network.layers[:-2](torch.zeros(1, channels, size, size)).shape == (1, 2, 8, 8)


def test_the_subnetwork_of_imagenet_is_the_papers():
    """Report 001, section 1.7: about 2.29 million weights, 7 x 7 maps behind its one max-pooling, two outputs."""
    network = imagenet(512, 14).eval()
    convolutions = [m.weight for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [w.shape[0] for w in convolutions] == [196] * 5 + [2] and convolutions[-1].shape[2:] == (1, 1)
    assert sum(w.numel() for w in convolutions) == 512 * 9 * 196 + 4 * 196 * 9 * 196 + 392
    assert network.layers[:-2](torch.zeros(1, 512, 14, 14)).shape == (1, 2, 7, 7)


def test_training_on_kept_activations_is_training_on_the_images(classifier, labelled, tmp_path):
    """In two files of half precision, as :meth:`fit` keeps them: the same losses, weights and, nearly, scores."""
    x, y = labelled
    on_images, on_files = (SubnetworkDetector(classifier, 1, lr=1e-3, architecture="imagenet") for _ in range(2))
    with torch.no_grad():
        activations = classifier.model.features(torch.from_numpy(x), 1).half().numpy()
    for name, part in (("a", activations[:300]), ("b", activations[300:])):
        np.save(tmp_path / f"{name}.npy", part)
    features = FeatureFiles([tmp_path / "a.npy", tmp_path / "b.npy"])
    held_out = np.r_[0:40, 400:440]
    histories = [
        on_images.fit(x, y, nb_epochs=2, batch_size=64, validation=(x[held_out], y[held_out])),
        on_files.fit_features(features, y, nb_epochs=2, batch_size=64, validation=(activations[held_out], y[held_out])),
    ]
    for entries in histories:
        for entry in entries:
            entry.pop("seconds")
    assert histories[0] == histories[1]
    for ours, theirs in zip(on_images.subnetwork.state_dict().values(), on_files.subnetwork.state_dict().values()):
        assert torch.equal(ours, theirs)
    np.testing.assert_allclose(on_files.scores_of(features), on_images.scores(x), atol=5e-3)
    on_files.save(tmp_path / "detector.safetensors")
    loaded = SubnetworkDetector.load(tmp_path / "detector.safetensors", classifier)
    np.testing.assert_array_equal(loaded.scores_of(features), on_files.scores_of(features))


def test_training_on_kept_activations_reads_one_batch_at_a_time(classifier):
    """However many there are: what is asked for at once, and so held, is bounded."""

    class Counted:
        asked = 0

        def __len__(self):
            return 4000

        def __getitem__(self, rows):
            self.asked = max(self.asked, len(rows))
            return np.ones((len(rows), 16, 8, 8), np.float16) * rows[:, None, None, None] / 4000

    rows = Counted()
    detector = SubnetworkDetector(classifier, 1)
    detector.fit_features(rows, np.arange(4000) % 2, batch_size=500, nb_epochs=1)
    assert rows.asked == 500
    rows.asked = 0
    assert detector.scores_of(rows).shape == (4000,) and rows.asked <= 256


def test_it_learns_to_tell_adversarial_from_clean(detector, classifier, digits):
    _, _, x, y = digits
    adversarial = attacks.create("bim", classifier, eps=0.1).generate(x, y)
    accuracy = ((detector.scores(x) <= 0.5).mean() + (detector.scores(adversarial) > 0.5).mean()) / 2
    assert accuracy > 0.85


def test_the_frozen_classifier_is_untouched_bit_for_bit(trained_net, labelled):
    trained_net.zero_grad()  # stock ART leaves gradients behind
    before = {name: tensor.clone() for name, tensor in trained_net.state_dict().items()}
    wrapped = estimators.classifier(trained_net, SHAPE, 10, device="cpu")
    SubnetworkDetector(wrapped, 2).fit(*labelled, nb_epochs=1)
    assert all(torch.equal(before[name], tensor) for name, tensor in trained_net.state_dict().items())
    assert all(parameter.grad is None for parameter in trained_net.parameters())


def test_arts_contract(detector, classifier, labelled):
    """The same types and shapes that ART's own binary detector returns."""
    assert isinstance(detector, EvasionDetector)
    head = PyTorchClassifier(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2)), torch.nn.CrossEntropyLoss(), SHAPE, 2
    )
    report, flagged = BinaryInputDetector(head).detect(labelled[0][:10])
    our_report, our_flagged = detector.detect(labelled[0][:10])
    assert flagged.shape == our_flagged.shape and flagged.dtype == our_flagged.dtype == bool
    assert report["predictions"].shape == our_report["predictions"].shape == (10, 2)
    np.testing.assert_allclose(our_report["predictions"].sum(1), 1, rtol=1e-6)


def test_an_art_attack_runs_on_the_detector_as_a_classifier(detector, labelled):
    """Gradients reach the input, which ART's BinaryActivationDetector does not allow."""
    as_classifier = estimators.classifier(detector.module, SHAPE, 2, device="cpu")
    x = labelled[0][400:432]
    attack = ProjectedGradientDescent(as_classifier, eps=0.1, eps_step=0.02, max_iter=10, verbose=False)
    assert detector.scores(attack.generate(x, np.ones(len(x), int))).mean() < detector.scores(x).mean()


@pytest.mark.parametrize("fpr", [0.0, 0.01, 0.05, 0.5])
def test_the_threshold_flags_at_most_that_share_of_clean_images_and_is_the_lowest_that_does(detector, digits, fpr):
    scores = detector.scores(digits[2])
    threshold = detector.threshold_at(fpr, digits[2])
    assert (scores > threshold).mean() <= fpr
    lower = scores[scores < threshold]
    assert not len(lower) or (scores > lower.max()).mean() > fpr


@pytest.mark.parametrize("n", [1, 2, 29, 40, 100, 1000])
def test_a_threshold_is_one_of_the_scores_and_no_lower_one_holds_the_rate(n):
    scores = np.random.default_rng(n).permutation(np.arange(n) // 3 if n == 40 else np.arange(n)).astype(float)
    for share in range(n):
        fpr = share / n
        threshold = threshold_on(scores, fpr)
        assert threshold == min(score for score in scores if (scores > score).mean() <= fpr)
        if n != 40:  # without ties exactly that many are flagged
            assert (scores > threshold).sum() == share


def test_a_saved_detector_scores_the_same_on_its_classifier_and_is_refused_on_another(
    detector, classifier, digits, tmp_path
):
    detector.save(tmp_path / "detector.safetensors")
    loaded = SubnetworkDetector.load(tmp_path / "detector.safetensors", classifier)
    np.testing.assert_array_equal(loaded.scores(digits[2]), detector.scores(digits[2]))
    other = estimators.classifier(make_small_net(seed=1), SHAPE, 10, device="cpu")
    with pytest.raises(UsageError, match="another classifier"):
        SubnetworkDetector.load(tmp_path / "detector.safetensors", other)
    (tmp_path / "text").write_text("<html>not found</html>")
    with pytest.raises(UsageError, match="not a detector"):
        SubnetworkDetector.load(tmp_path / "text", classifier)


def test_training_is_the_same_twice_and_the_same_after_a_kill(
    classifier, labelled, digits, tmp_path, killed_after_two_epochs
):
    def train(checkpoint=None):
        detector = SubnetworkDetector(classifier, 1, lr=1e-3, seed=3)
        held_out = labelled[0][300:500], labelled[1][300:500]
        detector.fit(*labelled, nb_epochs=3, validation=held_out, checkpoint=checkpoint)
        return detector.scores(digits[2])

    whole, again = train(), train()
    np.testing.assert_array_equal(whole, again)
    with killed_after_two_epochs():
        train(tmp_path / "checkpoint")
    np.testing.assert_array_equal(train(tmp_path / "checkpoint"), whole)


def test_a_falling_rate_ends_at_zero_and_no_other_rate_is_changed(classifier, labelled, monkeypatch):
    rates = {decay: [] for decay in (False, True)}
    step = torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam, "step", lambda self: (rates[decay].append(self.param_groups[0]["lr"]), step(self))
    )
    for decay in rates:
        SubnetworkDetector(classifier, 1, lr=1e-3).fit(*labelled, 32, 2, decay=decay)
    assert set(rates[False]) == {1e-3}
    steps = len(rates[True])
    np.testing.assert_allclose(rates[True], 1e-3 * (1 - np.arange(steps) / steps))


def test_bfloat16_changes_the_steps_of_a_detector_and_hardly_its_scores(classifier, labelled):
    if not has_bfloat16(torch.device("cpu")):
        pytest.skip("the processor has no bfloat16")
    scores = []
    for fast in (False, True):
        detector = SubnetworkDetector(classifier, 1, lr=1e-3)
        detector.fit(*labelled, 32, 1, fast=fast)
        scores.append(detector.scores(labelled[0]))
    assert not np.array_equal(*scores)
    assert np.abs(scores[0] - scores[1]).mean() < 0.05


def test_static_training_computes_the_frozen_features_once(classifier, labelled, monkeypatch):
    seen = []
    stage = classifier.model.stages[0]
    forward = stage.forward
    monkeypatch.setattr(stage, "forward", lambda x: (seen.append(len(x)), forward(x))[1])
    detector = SubnetworkDetector(classifier, 1)
    seen.clear()
    detector.fit(*labelled, nb_epochs=3)
    assert sum(seen) == len(labelled[0]) + 1  # one image asks for the shape


def test_wrong_arguments_are_named(classifier, detector, labelled, linear):
    x, y = labelled
    with pytest.raises(ValueError, match="with taps, not Linear"):
        SubnetworkDetector(estimators.classifier(Linear(), SHAPE, 4, device="cpu"))
    with pytest.raises(ValueError, match=r"position must be 0\.\.2"):
        SubnetworkDetector(classifier, 3)
    with pytest.raises(ValueError, match="lr"):
        SubnetworkDetector(classifier, 1, lr=0)
    with pytest.raises(ValueError, match="y must lie in 0..1"):
        detector.fit(x, y + 1)
    with pytest.raises(ValueError, match="both clean"):
        detector.fit(x, np.zeros(len(x), int))
    with pytest.raises(ValueError, match="validation x"):
        detector.fit(x, y, validation=(x * 255, y))
    with pytest.raises(ValueError, match="x must lie"):
        detector.scores(x * np.nan)
    with pytest.raises(ValueError, match="x must have shape"):
        detector.detect(x[:, :, :4])
    with pytest.raises(ValueError, match="fpr"):
        detector.threshold_at(1.0, x)


def test_it_attaches_to_every_tap_of_resnet32():
    wrapped = estimators.classifier(models.create("resnet32"), (3, 32, 32), 10, device="cpu")
    for position in range(5):
        assert SubnetworkDetector(wrapped, position).scores(np.zeros((1, 3, 32, 32), np.float32)).shape == (1,)
