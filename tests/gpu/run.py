"""All that is worth knowing of a GPU that is lent for some minutes: ``python tests/gpu/run.py OUT [SECONDS]``

The tests marked ``gpu``, then ``bench``, each stopped at its share of the seconds (240 by default). OUT holds their output and
the rows of ``bench``; exit code 1 where a test failed or nothing came to its end.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def run(words: list[str], log: Path, seconds: float) -> bool:
    """Whether a command came to its end in time and without an error."""
    with open(log, "w") as stream:
        try:
            done = subprocess.run(words, stdout=stream, stderr=subprocess.STDOUT, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            stream.write(f"\nstopped after {seconds:.0f} s\n")
            return False
    return done.returncode == 0


def main(out: Path, seconds: float, device: str = "cuda") -> bool:
    out.mkdir(parents=True, exist_ok=True)
    tests = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "--durations=10", str(HERE)]
    bench = [sys.executable, "-m", "advbench", "bench", "--preset", "quick", "--dataset", "digits", "--device", device]
    steps = {"tests": (tests, 0.5), "bench": ([*bench, "--out", str(out / "bench")], 0.45)}
    ended = {name: run(words, out / f"{name}.txt", share * seconds) for name, (words, share) in steps.items()}
    for name, well in ended.items():
        print(f"{name}: {'done' if well else 'FAILED, see ' + str(out / name) + '.txt'}")
    return all(ended.values())


if __name__ == "__main__":
    sys.exit(not main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 240.0))
