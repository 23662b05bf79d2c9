"""What griffe does not read in the docstrings of this project: roles, which become links, and the fields of configs."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth):`~?([\w.]+)`")


class Roles(griffe.Extension):
    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        loader.resolve_aliases(external=False)
        rewrite(pkg)


def rewrite(obj: griffe.Object) -> None:
    if obj.docstring:
        text = ROLE.sub(lambda match: f"[`{match[1]}`][{target(match[1], obj)}]", obj.docstring.value)
        if isinstance(obj, griffe.Class) and "BaseModel" in map(str, obj.bases):
            text = text.replace(":param ", ":ivar ")  # griffe looks for parameters in a signature
        obj.docstring.value = text
    for member in obj.members.values():
        if isinstance(member, griffe.Object):
            rewrite(member)


def target(name: str, obj: griffe.Object) -> str:
    """The path of what a docstring names; an unknown name stays as it is, and the build stops at it."""
    first, dot, rest = name.partition(".")
    try:
        path = name if first == obj.package.name else obj.resolve(first) + dot + rest
        return obj.modules_collection[path].canonical_path
    except (griffe.NameResolutionError, griffe.AliasResolutionError, KeyError):
        return name
