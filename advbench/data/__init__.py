"""``load(name, split)``: the data sets of the reports, verified by checksum each time they are loaded."""

from advbench.data.dataset import Dataset, Images, split_indices
from advbench.data.store import AUTO_FALLBACK, DATASETS, cache_dir, load

__all__ = ["AUTO_FALLBACK", "DATASETS", "Dataset", "Images", "cache_dir", "load", "split_indices"]
