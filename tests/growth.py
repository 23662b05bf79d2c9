"""What ``advbench evaluate`` costs as images become more: ``python tests/growth.py OUT.csv [NUMBER ...]``.

Synthetic 32 x 32 images, a small network, FGSM, in one process, in two workers and on a Dask cluster of two workers. Memory is
the largest resident size of the process of the command, and at most that of the largest other one: Linux lets a process inherit
the peak of the one that starts it. Seconds are those of its stages, without imports.
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
from contextlib import suppress
from advbench.cli import main

def evaluate(options):
    with suppress(SystemExit):
        main(["evaluate", *options])

if __name__ == "__main__":
    peak, how, *options = sys.argv[1:]
    if how == "cluster":
        from distributed import LocalCluster
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
            evaluate([*options, "--scheduler", cluster.scheduler_address])
    else:
        evaluate([*options, "--workers", how])
    sizes = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    with open(peak, "w") as stream:
        json.dump(sizes, stream)
"""
HOW = {"1": "one process", "2": "two workers", "cluster": "a cluster of two workers"}


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


def measure(number: int, how: str = "1") -> dict[str, object]:
    """Peak memory in MiB and seconds of one evaluation of so many images.

    :param how: one of ``HOW``.
    """
    with TemporaryDirectory(prefix="growth-") as scratch:
        folder = Path(scratch)
        (folder / "net.py").write_text(NETWORK)
        (folder / "measure.py").write_text(MEASURE)
        synthetic(folder / "images.npz", number, np.random.default_rng(0))
        command = [sys.executable, "measure.py", "peak.json", how, "net.py:make", "--data", "images.npz"]
        options = ["--attacks", "fgsm", "--eps", "8/255", "--checks", "4", "--n", str(number), "--out", "run"]
        subprocess.run([*command, *options], cwd=folder, check=True, capture_output=True)
        rows = pd.read_csv(folder / "run" / "results.csv")
        headline = rows[rows.metric == "clean_accuracy"]
        if headline.n.item() != number:
            raise SystemExit(f"{headline.n.item()} of {number} images were evaluated")
        stages = {path.stem: json.loads(path.read_text()) for path in (folder / "run" / "stages").glob("*.json")}
        seconds = sum(stage["seconds"] for name, stage in stages.items() if name != "checks")  # made on four images
        own, other = json.loads((folder / "peak.json").read_text())
        worker = None if how == "1" else other
        return {"images": number, "how": HOW[how], "peak_mib": own, "worker_mib": worker, "seconds": seconds}


def main(out: Path, numbers: list[int]) -> None:
    rows = []
    for how in HOW:
        for number in numbers:
            rows.append(measure(number, how))
            print(rows[-1], flush=True)
            out.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(rows).to_csv(out, index=False)
    table = pd.DataFrame(rows)
    table["ms"] = 1000 * table.seconds / table.images
    print(table.groupby("how", sort=False)[["peak_mib", "worker_mib", "ms"]].agg(["min", "max"]).round(3).to_string())


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(number) for number in sys.argv[2:]] or [1000, 10_000, 100_000, 1_000_000])
