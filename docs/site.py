"""Builds the documentation site, build/site, from the pages of the project and its docstrings: ``python docs/site.py``.

The pages keep their places, so that links lead to the same files as in the repository. A warning is an error.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "build" / "pages"
ROOMS = (
    *("data", "models", "estimators", "attacks", "detectors", "trainers", "preprocessors"),
    *("metrics", "study", "report", "evaluation", "cli"),
)


def main() -> None:
    gather()
    command = ["zensical", "build", "--strict", "--clean", "--config-file", str(ROOT / "zensical.toml")]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout)
    if done.returncode != 0 or "griffe:" in done.stdout:  # --strict does not stop at a warning about a docstring
        sys.exit(1)


def gather() -> None:
    """Fill build/pages with the pages of the project and those of the API, one a room."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for folder in ("docs", "examples", "recipes"):
        shutil.copytree(ROOT / folder, PAGES / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE"):
        shutil.copy(ROOT / page, PAGES)
    package = griffe.load("advbench", search_paths=[ROOT], resolve_aliases=True)
    (PAGES / "api").mkdir()
    for room in ROOMS:
        write_page(room, page_of(package[room]))
    write_page("advbench", page_of(package))


def write_page(name: str, lines: Iterable[str]) -> None:
    (PAGES / "api" / f"{name}.md").write_text("\n".join(lines), encoding="utf-8")


def page_of(package: griffe.Module) -> Iterator[str]:
    """The page of a room: what it is, the names to import from it, then its modules."""
    yield f"# {package.path}\n\n{package.docstring.value}\n"
    yield from names_of(package)
    for name, module in sorted(package.modules.items()):
        if not name.startswith("_") and module.path.removeprefix("advbench.") not in ROOMS:
            yield f"::: {module.path}\n"


def names_of(package: griffe.Module) -> Iterator[str]:
    """A table of the names that a package exports, each with the first line of its docstring."""
    aliases = [each for _, each in sorted(package.members.items()) if each.is_alias]
    own = [alias.final_target for alias in aliases if alias.target_path.startswith("advbench.")]
    exported = [target for target in own if target.kind is not griffe.Kind.MODULE]
    if exported:
        yield f"Import these names from `{package.path}`.\n\n| name | what it is |\n| --- | --- |"
    for target in exported:
        first = target.docstring.value.split("\n")[0].replace("|", "\\|") if target.docstring else ""
        yield f"| [`{target.name}`][{target.path}] | {first} |" if first else f"| `{target.name}` | |"
    yield ""


if __name__ == "__main__":
    main()
