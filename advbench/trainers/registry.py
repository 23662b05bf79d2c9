"""Names of the trainers."""

TRAINERS = {"standard": "cross-entropy on clean images: crop, flip, SGD, best validation epoch"}
