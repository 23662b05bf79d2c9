"""The result of an evaluation, read from its run directory."""

from __future__ import annotations

import shutil
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

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
    def robust_accuracy(self) -> dict[float, Figure]:
        """The share of images that no attack beat, by eps."""
        return self._by_eps("robust_accuracy")

    @property
    def in_8_bits(self) -> dict[float, Figure]:
        """The same, by eps, where the images that were found are rounded to 8 bits, as a file holds them."""
        return self._by_eps("accuracy_in_8_bits")

    @property
    def certified(self) -> dict[float, Figure]:
        """The share of images that are proven right, by eps, with the best method; empty where none bounds the model."""
        return {float(row.eps): of_row(row) for _, row in exhibits.proven(self._rows).iterrows()}

    @property
    def one_draw(self) -> dict[float, Figure]:
        """How often one answer of a random model is right about the strongest images, by eps, 0 among them; else empty."""
        return self._by_eps("one_draw_accuracy")

    @property
    def clean_accuracy(self) -> Figure:
        """The share of images that are right without an attack."""
        return of_row(where(self._rows, metric="clean_accuracy").iloc[0])

    @property
    def table(self) -> pd.DataFrame:
        """The accuracy after each attack and all those above it, by eps, with n and 95 % interval."""
        rows = where(self._rows, exhibit="robustness")
        table = rows.assign(eps=rows.eps.map(number)).rename(columns={"value": "accuracy"})
        return table.set_index(["eps", "attack"])[["accuracy", "ci_low", "ci_high", "n"]].astype({"n": int})

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
    def adversarial(self) -> np.ndarray:
        """The nearest adversarial image of each, float32 (N, C, H, W): ``per_image.distance`` away; where there is none, itself.

        :raises UsageError: if the evaluation was not asked to keep them.
        """
        path = self.directory / "arrays" / "adversarial" / "images.npy"
        if not path.is_file():
            raise UsageError("the evaluation kept no adversarial images; give it keep_images=True (--keep-images)")
        return np.load(path, mmap_mode="r")

    def compare(self, other: Result) -> pd.DataFrame:
        """Robust accuracy here and there on the same images, image by image, at each eps that both have.

        ``difference`` is here less there with its 95 % interval for paired proportions; ``only_here`` and ``only_there`` count
        the images that are right in one alone, and ``p`` is McNemar's exact test of whether they are as many.

        :raises UsageError: if the images, the order of them, or the norm differ, or no eps is in both.
        """
        for name in ("images_sha256", "norm"):
            here, there = (each.config["config"][name] for each in (self, other))
            if here != there:
                what = "norms" if name == "norm" else "images"
                raise UsageError(f"the two evaluations are on different {what} ({here} and {there})")
        if not (shared := [eps for eps in self.robust_accuracy if eps in other.robust_accuracy]):
            raise UsageError("the two evaluations have no eps in common")
        rows = []
        for eps in (0.0, *shared):
            here, there = (each.per_image.distance.to_numpy() > eps for each in (self, other))
            difference = metrics.paired_difference(here, there)
            rows.append(
                {
                    "eps": number(eps),
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

    def _by_eps(self, metric: str) -> dict[float, Figure]:
        return {float(row.eps): of_row(row) for _, row in where(self._rows, metric=metric).iterrows()}

    def _sentences(self) -> list[str]:
        """What to know before the table: the figures, the failed checks and the notes."""
        model, data, norm = (self.config["config"][name] for name in ("model", "data", "norm"))
        figures = [f"{figure.value:.1%} at eps = {number(eps)}" for eps, figure in self.robust_accuracy.items()]
        clean = self.clean_accuracy
        return [
            f"{model} on {clean.n} images of {data}, {norm}: clean accuracy {clean.value:.1%}, robust accuracy {', '.join(figures)}.",
            *(
                f"CHECK FAILED: {check.name}: {check.measured}; {check.means}. {check.do}."
                for check in self.checks
                if not check.passed
            ),
            *(f"Note: {note}." for note in self.notes),
        ]
