"""The result of an evaluation, read from its run directory."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from advbench import metrics
from advbench.errors import UsageError
from advbench.evaluation import exhibits
from advbench.evaluation.options import number
from advbench.files import check_tree, read_json
from advbench.metrics import Figure, of_row, where
from advbench.metrics.sanity import Check
from advbench.study.schema import read_results

PER_IMAGE = "per_image.csv"


def kept_in(norm: str, norms: Sequence[str]) -> str:
    """The stage that keeps the adversarial images in one of the norms of an evaluation."""
    return "adversarial" if len(norms) == 1 else f"adversarial-{norm}"


def _figures_by(rows: pd.DataFrame, index: list[str]) -> pd.DataFrame:
    """The accuracies of rows of results.csv, with n and 95 % interval."""
    table = rows.rename(columns={"value": "accuracy"}).set_index(index)
    return table[["accuracy", "ci_low", "ci_high", "n"]].astype({"n": int})


class Result:
    """How robust a model is: figures, tables and checks. A notebook shows it as a table.

    :param directory: the run directory of an evaluation.
    :param temporary: the folder to remove with the result, where the directory is in one.
    :raises UsageError: if it is not the directory of a finished evaluation.
    """

    def __init__(self, directory: Path | str, temporary: TemporaryDirectory | None = None) -> None:
        self.directory = Path(directory)
        self._temporary = temporary
        try:
            check_tree(self.directory)
            self.config = read_json(self.directory / "config.json")
            self._rows = read_results(self.directory / "results.csv")
            self.per_image: pd.DataFrame = pd.read_csv(self.directory / PER_IMAGE, index_col="image")
            self._exhibits = read_json(self.directory / "exhibits.json")
        except (OSError, ValueError) as error:
            raise UsageError(f"{directory} is not the run directory of a finished evaluation") from error

    @property
    def norms(self) -> list[str]:
        """The norms of the evaluation, one or several."""
        found = self.config["config"]["norm"]
        return [found] if isinstance(found, str) else found

    @property
    def robust_accuracy(self) -> dict[Any, Figure]:
        """The share of images that no attack beat, by eps; with several norms by ``(norm, eps)``."""
        return self._figures(where(self._rows, metric="robust_accuracy"))

    @property
    def in_8_bits(self) -> dict[Any, Figure]:
        """The same where the images that were found are rounded to 8 bits, as a file holds them."""
        return self._figures(where(self._rows, metric="accuracy_in_8_bits"))

    @property
    def certified(self) -> dict[Any, Figure]:
        """The same as proven, with the best method; empty where none bounds the model."""
        return self._figures(exhibits.proven(self._rows))

    @property
    def one_draw(self) -> dict[Any, Figure]:
        """How often one answer of a random model is right about the strongest images, at eps 0 too; of others empty."""
        return self._figures(where(self._rows, metric="one_draw_accuracy"))

    @property
    def union(self) -> Figure:
        """The share of images that no attack beat in any norm, in each at its largest eps."""
        rows = where(self._rows, metric="union_accuracy" if len(self.norms) > 1 else "robust_accuracy")
        return of_row(rows.sort_values("eps", kind="stable").iloc[-1])

    @property
    def clean_accuracy(self) -> Figure:
        """The share of images that are right without an attack."""
        return of_row(where(self._rows, metric="clean_accuracy").iloc[0])

    @property
    def table(self) -> pd.DataFrame:
        """The accuracy after each attack and all those above it, by norm where there are several, and eps, with n and 95 % interval.

        The last lines are those of a battery, which have no eps: the mean over all corruptions, and the worst of all rotations.
        """
        rows = where(self._rows, exhibit="robustness")
        rows = rows.assign(eps=rows.eps.map(number))
        if several := len(self.norms) > 1:
            union = where(self._rows, metric="union_accuracy")
            rows = pd.concat([rows, union.assign(norm="union", attack="all", eps="largest")])
        rows = pd.concat([rows, exhibits.unattacked(self._rows).assign(norm="none", eps="none")])
        return _figures_by(rows, ["norm", "eps", "attack"] if several else ["eps", "attack"])

    @property
    def corruptions(self) -> pd.DataFrame:
        """The accuracy under each corruption of ImageNet-C at each severity, with n and 95 % interval; empty without that battery."""
        rows = where(self._rows, metric="corruption_accuracy").rename(columns={"attack": "corruption"})
        return _figures_by(rows, ["corruption", "severity"])

    @property
    def rotations(self) -> pd.DataFrame:
        """The accuracy at the worst of all rotations, of all shifts, and of both at once; empty without that battery."""
        return _figures_by(
            where(self._rows, metric="rotation_accuracy").rename(columns={"attack": "worst of"}), ["worst of"]
        )

    @property
    def checks(self) -> list[Check]:
        """The checks of whether the attacks worked; one that is not ``passed`` says what it means and what to do."""
        return exhibits.checks(self._rows)

    @property
    def notes(self) -> list[str]:
        """What was done to the model and the images, and what was unusual about them."""
        found = [each["table"]["data"] for each in self._exhibits if each["name"] == "notes"]
        return [note for rows in found for (note,) in rows]

    @property
    def adversarial(self) -> Any:
        """The nearest adversarial image of each, float32 (N, C, H, W): ``per_image.distance`` away; where there is none, itself.

        With several norms they are in a dict, by norm.

        :raises UsageError: if the evaluation was not asked to keep them.
        """
        paths = {norm: self.directory / "arrays" / kept_in(norm, self.norms) / "images.npy" for norm in self.norms}
        if not all(path.is_file() for path in paths.values()):
            raise UsageError("the evaluation kept no adversarial images; give it keep_images=True (--keep-images)")
        found = {norm: np.load(path, mmap_mode="r") for norm, path in paths.items()}
        return found if len(found) > 1 else found[self.norms[0]]

    def _survives(self, norm: str, eps: float) -> np.ndarray:
        """The images (N,) that no attack beat within eps."""
        column = "distance" if len(self.norms) == 1 else f"{norm} distance"
        return self.per_image[column].to_numpy() > eps

    def compare(self, other: Result) -> pd.DataFrame:
        """Robust accuracy here and there on the same images, image by image, at each eps that both have in a norm.

        ``difference`` is here less there with its 95 % interval for paired proportions; ``only_here`` and ``only_there`` count
        the images that are right in one alone, and ``p`` is McNemar's exact test of whether they are as many.

        :raises UsageError: if the images, the order of them, or the norm differ, or no eps is in both.
        """
        for name in ("images_sha256", "norm"):
            here, there = (each.config["config"][name] for each in (self, other))
            if here != there:
                what = "norms" if name == "norm" else "images"
                raise UsageError(f"the two evaluations are on different {what} ({here} and {there})")
        bounds = [
            {(row.norm, row.eps) for row in where(each._rows, metric="robust_accuracy").itertuples()}
            for each in (self, other)
        ]
        if not (shared := bounds[0] & bounds[1]):
            raise UsageError("the two evaluations have no eps in common")
        several = len(self.norms) > 1
        masks = {"0": [each._survives(self.norms[0], 0) for each in (self, other)]}
        for norm, eps in sorted(shared, key=lambda bound: (self.norms.index(bound[0]), bound[1])):
            name = f"{norm} {number(eps)}" if several else number(eps)
            masks[name] = [each._survives(norm, eps) for each in (self, other)]
        if several and bounds[0] == bounds[1]:
            masks["union"] = [np.all(each, axis=0) for each in zip(*list(masks.values())[1:], strict=True)]
        rows = []
        for name, (here, there) in masks.items():
            difference = metrics.paired_difference(here, there)
            rows.append(
                {
                    "eps": name,
                    "here": here.mean(),
                    "there": there.mean(),
                    "difference": difference.value,
                    "ci_low": difference.ci_low,
                    "ci_high": difference.ci_high,
                    "only_here": int((here & ~there).sum()),
                    "only_there": int((there & ~here).sum()),
                    "p": metrics.mcnemar(here, there),
                }
            )
        return pd.DataFrame(rows).set_index("eps")

    def save(self, directory: Path | str) -> Path:
        """Copy the run directory to a new place and return it; every command for runs takes it.

        :raises UsageError: if something is there already.
        """
        target = Path(directory)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UsageError(f"{target} is there already; choose another place")
        self.page()
        shutil.copytree(self.directory, target, dirs_exist_ok=True)
        return target

    def page(self) -> Path:
        """Write report.html into the run directory and return its path."""
        from advbench.report import write_report

        return write_report(self.directory)

    def __repr__(self) -> str:
        return "\n".join([*self._sentences(), self.table.to_string(float_format="{:.3f}".format)])

    def _repr_html_(self) -> str:
        lines = "".join(f"<p>{escape(sentence)}</p>" for sentence in self._sentences())
        return f"{lines}{self.table.to_html(float_format='{:.3f}'.format)}"

    def _figures(self, rows: pd.DataFrame) -> dict[Any, Figure]:
        """The figures of rows by eps; with several norms by ``(norm, eps)``."""
        keys = rows.eps if len(self.norms) == 1 else zip(rows.norm, rows.eps, strict=True)
        return dict(zip(keys, map(of_row, (row for _, row in rows.iterrows())), strict=True))

    def _sentences(self) -> list[str]:
        """What to know before the table: the figures, the failed checks and the notes."""
        model, data = (self.config["config"][name] for name in ("model", "data"))
        several = len(self.norms) > 1
        figures = [
            f"{row.value:.1%} at {f'{row.norm} ' * several}eps = {number(row.eps)}"
            for row in where(self._rows, metric="robust_accuracy").itertuples()
        ]
        if several:
            figures.append(f"{self.union.value:.1%} in all norms at once")
        clean = self.clean_accuracy
        return [
            f"{model} on {clean.n} images of {data}, {', '.join(self.norms)}: clean accuracy {clean.value:.1%}, robust accuracy {', '.join(figures)}.",
            *(
                f"CHECK FAILED: {check.name}: {check.measured}; {check.means}. {check.do}."
                for check in self.checks
                if not check.passed
            ),
            *(f"Note: {note}." for note in self.notes),
        ]
