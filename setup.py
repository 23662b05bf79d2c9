"""The packages: those of advbench/, and recipes/ as advbench.recipes, which no line of setup.cfg can say with find."""

from setuptools import find_packages, setup

recipes = [f"advbench.{name}" for name in find_packages(include=["recipes", "recipes.*"])]
setup(
    packages=[*find_packages(include=["advbench", "advbench.*"]), *recipes],
    package_dir={"advbench.recipes": "recipes"},
)
