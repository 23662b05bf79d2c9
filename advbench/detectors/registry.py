"""Names of the detectors."""

DETECTORS = {
    "subnetwork-static": "subnetwork at AD(k), trained on precomputed adversarial images (Metzen et al., 2017)",
    "subnetwork-dynamic": "the same, trained against an adversary that attacks it as it learns",
}
