"""What setup.cfg cannot say: recipes/ is installed as advbench.recipes, and the links of the README lead to the repository."""

import re
from pathlib import Path

from setuptools import find_packages, setup

REPOSITORY = "https://github.com/advbench/advbench/blob/main"

recipes = [f"advbench.{name}" for name in find_packages(include=["recipes", "recipes.*"])]
readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
setup(
    packages=[*find_packages(include=["advbench", "advbench.*"]), *recipes],
    package_dir={"advbench.recipes": "recipes"},
    long_description=re.sub(r"\]\((?!https?:|#)", f"]({REPOSITORY}/", readme),
    long_description_content_type="text/markdown",
)
