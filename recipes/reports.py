"""The five reports whose claims the recipes check."""

from __future__ import annotations

from advbench.study import Report

FGSM = Report(
    "000",
    "Intelligent Systems for Pattern Recognition, midterm 3, assignment 2",
    "author not named",
    "2020/21",
    "A VGG-like network on CIFAR-10 is attacked with FGSM through the squared error, without a clip. It is then trained on clean and "
    "adversarial images, and meets images that were made on the undefended network.",
    "Report 000 (2020/21)",
    ("V-c",),
)
METZEN = Report(
    "001",
    "Defences against adversarial attacks, a review of On Detecting Adversarial Perturbations (Metzen et al., 2017)",
    "Alessandro Ristori",
    "2020/21",
    "Small subnetworks read the inner features of a classifier and learn to tell adversarial from clean images, on CIFAR-10 and on ten "
    "classes of ImageNet. A dynamic adversary attacks classifier and detector at once, and a detector is trained against it.",
    "Metzen et al. (2017)",
    ("M2", "M9"),
)
MEUCCI = Report(
    "002",
    "Harnessing adversarial examples",
    "Saverio Meucci",
    "2016",
    "A LeNet on MNIST is trained on clean images, on clean and FGSM images in one batch, and on a weighted sum of both losses. "
    "Each network meets clean images, FGSM images made on itself and those made on the others; errors and confidence are measured.",
    "Meucci (2016)",
    ("L3",),
)
WEIGHTED = Report(
    "003",
    "An Adversarial Approach to Image Classification",
    "Hippolyte Gisserot, Guillaume Kunsch and Benjamin Sykes",
    "year not stated",
    "A small CNN on CIFAR-10 is attacked with FGSM, projected gradient ascent and targeted attacks at three bounds. Networks that are "
    "trained on FGSM images alone are then measured on clean and on FGSM images.",
    "Gisserot, Kunsch and Sykes",
    ("G6",),
)
HEIDECKE = Report(
    "004",
    "Defending and attacking convolutional image classifiers with generative adversarial training",
    "Johannes Heidecke",
    "2017",
    "A network learns to perturb MNIST images within a bound so that a classifier errs. It is trained on a finished classifier "
    "(consecutive), or takes turns with it batch by batch (alternating).",
    "Heidecke (2017)",
    ("H2", "H4"),
)
