"""Every study on the embedded data, as small as it can be and still have all its parts."""

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


def settings(recipe: str) -> list[str]:
    """The options of ``advbench recipe`` that make it so small."""
    return [part for key, value in TINY[recipe].items() for part in ("--set", f"{key}={value}")]
