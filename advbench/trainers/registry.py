"""Names of the trainers."""

TRAINERS = {
    "standard": "cross-entropy on clean images: crop, flip, SGD, best validation epoch",
    "weighted": "a weighted sum of the losses on clean and adversarial images (reports 002 and 003)",
    "mixed": "clean and adversarial images in one batch (report 002)",
}
