"""The rows of ``compare_defences``: how each defence is made, and which attack knows it."""

from __future__ import annotations

from advbench.recipes import _compare_defences_attacks as against
from advbench.recipes import _compare_defences_detectors as detectors
from advbench.recipes import _compare_defences_networks as networks

NO_GRADIENT = "no gradient of its score reaches the image: the adaptive attack is a best effort without one"

DEFENCES = {
    "none": networks.training("advbench", networks.clean, "Adam on clean images", against.restarts, kind="none"),
    "jpeg-compression": networks.preprocessing(networks.jpeg, "JpegCompression: every image is stored as a JPEG first"),
    "feature-squeezing": networks.preprocessing(
        networks.squeezing,
        "FeatureSqueezing: fewer bits a pixel",
        "ART's returns float64 under NumPy 2, which a float32 network refuses: its result is cast to float32 here",
    ),
    "spatial-smoothing": networks.preprocessing(
        networks.smoothing, "SpatialSmoothing: the median of each pixel's neighbours"
    ),
    "vae-reformer": networks.reformer("VAEReformer: a variational autoencoder's decoding of one random draw"),
    "gaussian-augmentation": networks.training(
        "art",
        networks.with_art(networks.augmentation),
        "GaussianAugmentation: noisy copies join the training images",
        against.restarts,
    ),
    "defensive-distillation": networks.training(
        "art",
        networks.distilled,
        "DefensiveDistillation: a student learns a teacher's probabilities at a high temperature",
        against.at_temperature,
    ),
    "adversarial-training": networks.training(
        "art",
        networks.with_art(networks.on_fgsm),
        "AdversarialTrainer: FGSM images replace half of each batch",
        against.restarts,
    ),
    "madry-pgd": networks.training(
        "art",
        networks.with_art(networks.on_pgd),
        "AdversarialTrainerMadryPGD: PGD images replace each batch",
        against.restarts,
    ),
    "trades": networks.training(
        "art",
        networks.with_art(networks.trades),
        "AdversarialTrainerTRADES: the loss on clean images and the divergence to attacked ones",
        against.restarts,
        "its images come from PGD on the cross-entropy, those of the paper from PGD on the divergence",
    ),
    "fbf": networks.training(
        "art",
        networks.with_art(networks.fast, sgd=True),
        "AdversarialTrainerFBF: one random step an image, fast learning rates",
        against.restarts,
        "ART's never puts the network into training mode, so batch norm keeps the statistics that it began with",
    ),
    "weighted": networks.training(
        "advbench",
        networks.with_ours(networks.weighted),
        "half the loss on clean, half on FGSM images",
        against.restarts,
    ),
    "mixed": networks.training(
        "advbench", networks.with_ours(networks.mixed), "clean and FGSM images in one batch", against.restarts
    ),
    "alternating": networks.training(
        "advbench",
        networks.with_ours(networks.alternating),
        "an attacking network learns along, batch by batch",
        against.restarts,
    ),
    "fgsm-rs-gradalign": networks.training(
        "advbench",
        networks.with_ours(networks.aligned),
        "FGSM from a random start, with gradients that keep their direction within the bound",
        against.restarts,
        "lambda is the paper's for CIFAR-10 and stays at 2 beyond 16/255",
    ),
    "lipschitz": networks.training(
        "advbench",
        networks.bounded,
        "every layer of norm one: a known Lipschitz constant and a certified l2 radius",
        against.restarts,
        "a network of its own, not that of the other rows",
        model="lipschitz",
    ),
    "binary-input": detectors.detector(
        "art",
        detectors.on_input,
        detectors.margin,
        "BinaryInputDetector: a second network on the image",
        against.joint_gradients,
        detectors.input_network,
        detectors.fit_binary(detectors.on_input),
    ),
    "binary-activation": detectors.detector(
        "art",
        detectors.on_tap,
        detectors.margin,
        "BinaryActivationDetector: a second network on inner activations",
        against.gradient_free,
        detectors.tap_network,
        detectors.fit_binary(detectors.on_tap),
        f"{NO_GRADIENT}; ART takes the activations through NumPy",
    ),
    "subset-scanning": detectors.detector(
        "art",
        detectors.scanning,
        detectors.scan_score,
        "SubsetScanningDetector: unusually many unusual activations at the last tap",
        against.gradient_free,
        note=f"{NO_GRADIENT}; it counts activations",
    ),
    "beyond": detectors.detector(
        "art",
        detectors.with_views,
        detectors.dissimilarity,
        "BeyondDetector: augmented copies of an image must look alike to a self-supervised network",
        against.gradient_free,
        detectors.supervised,
        detectors.fit_beyond,
        f"{NO_GRADIENT}; ART's never asks the classifier, the label that copies must agree on is the second network's own",
    ),
    "ad-static": detectors.detector(
        "advbench",
        detectors.subnetwork,
        detectors.own_score,
        "AD(k): a subnetwork on inner activations (Metzen et al., 2017)",
        against.joint_gradients,
        detectors.fresh_subnetwork,
        detectors.fit_static,
    ),
    "ad-dynamic": detectors.detector(
        "advbench",
        detectors.subnetwork,
        detectors.own_score,
        "AD(k), trained against an adversary that attacks it as it learns",
        against.joint_gradients,
        detectors.fresh_subnetwork,
        detectors.fit_dynamic,
    ),
}
"""In the order of the page; no defence first."""
