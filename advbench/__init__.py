"""advbench: how robust is this image classifier, really? An extension of the Adversarial Robustness Toolbox."""

__version__ = "0.1.0"
