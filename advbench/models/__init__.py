"""The networks of the reports as plain modules: ``create(name)`` for a new one, ``load(file)`` for a trained one."""

from advbench.models.registry import MODELS, ModelSpec, create, load, save

__all__ = ["MODELS", "ModelSpec", "create", "load", "save"]
