"""Names of the trainers."""

TRAINERS = {
    "standard": "cross-entropy on clean images: crop, flip, SGD, best validation epoch",
    "weighted": "a weighted sum of the losses on clean and adversarial images (reports 002 and 003)",
    "mixed": "clean and adversarial images in one batch (report 002)",
    "static": "clean images and adversarial ones that were made before the training (report 000)",
    "adam": "cross-entropy on clean images, Adam, nothing else (report 004)",
    "gradalign": "FGSM from a random start, gradients aligned within eps (Andriushchenko & Flammarion, 2020)",
    "alternating": "a classifier and the network that attacks it, in turn on each batch (report 004)",
    "dynamic": "a detector against an adversary that attacks it as it learns (Metzen et al., 2017)",
}
