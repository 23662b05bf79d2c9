"""What ``advbench evaluate`` costs as images become more: ``python tests/growth.py OUT.csv [NUMBER ...]``.

Synthetic 32 x 32 images, a small network, FGSM; memory is the largest resident size of the whole process, seconds are those
of its stages, without imports.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import numpy as np
import pandas as pd

NETWORK = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(784, 10)
    )
"""
MEASURE = """
import json, resource, sys
from advbench.cli import main
try:
    main(sys.argv[2:])
finally:
    with open(sys.argv[1], "w") as stream:
        json.dump(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, stream)
"""


def synthetic(path: Path, number: int, rng: np.random.Generator) -> None:
    """An npz file of random images and labels, written without holding them."""
    labels = rng.integers(0, 10, number)
    with ZipFile(path, "w") as archive:
        with archive.open("x.npy", "w", force_zip64=True) as stream:
            header = {"descr": "|u1", "fortran_order": False, "shape": (number, 3, 32, 32)}
            np.lib.format.write_array_header_1_0(stream, header)
            for start in range(0, number, 1000):
                stream.write(rng.integers(0, 256, (min(1000, number - start), 3, 32, 32), np.uint8).tobytes())
        with archive.open("y.npy", "w") as stream:
            np.lib.format.write_array(stream, labels)


def measure(number: int) -> dict[str, float]:
    """Peak memory in MiB and seconds of one evaluation of so many images."""
    with TemporaryDirectory(prefix="growth-") as scratch:
        folder = Path(scratch)
        (folder / "net.py").write_text(NETWORK)
        (folder / "measure.py").write_text(MEASURE)
        synthetic(folder / "images.npz", number, np.random.default_rng(0))
        command = [sys.executable, "measure.py", "peak.json", "evaluate", "net.py:make", "--data", "images.npz"]
        options = ["--attacks", "fgsm", "--eps", "8/255", "--checks", "4", "--n", str(number), "--out", "run"]
        subprocess.run([*command, *options], cwd=folder, check=True, capture_output=True)
        rows = pd.read_csv(folder / "run" / "results.csv")
        headline = rows[rows.metric == "clean_accuracy"]
        if headline.n.item() != number:
            raise SystemExit(f"{headline.n.item()} of {number} images were evaluated")
        stages = {path.stem: json.loads(path.read_text()) for path in (folder / "run" / "stages").glob("*.json")}
        seconds = sum(stage["seconds"] for name, stage in stages.items() if name != "checks")  # made on four images
        return {"images": number, "peak_mib": json.loads((folder / "peak.json").read_text()) / 1024, "seconds": seconds}


def main(out: Path, numbers: list[int]) -> None:
    rows = []
    for number in numbers:
        rows.append(measure(number))
        print(rows[-1], flush=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(out, index=False)
    table = pd.DataFrame(rows)
    each = 1000 * table.seconds / table.images
    print(
        f"{numbers[0]} to {numbers[-1]} images: peak memory {table.peak_mib.min():.0f} to {table.peak_mib.max():.0f} MiB, "
        f"{each.min():.3f} to {each.max():.3f} ms an image"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(number) for number in sys.argv[2:]] or [10_000, 100_000, 1_000_000])
