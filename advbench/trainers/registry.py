"""Names of the trainers."""

TRAINERS = {
    "standard": "cross-entropy on clean images: crop, flip, SGD, best validation epoch",
    "adam": "cross-entropy on clean images, Adam, nothing else (report 004)",
    "alternating": "a classifier and the network that attacks it, batch by batch (report 004)",
}
