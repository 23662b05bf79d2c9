"""Where machines share the finished stages of a study: a folder, or any URL that fsspec knows (s3://, gs://, ...)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from advbench.errors import AdvbenchError, UsageError
from advbench.files import write
from advbench.study import stages


class Store:
    """Finished stages, laid out as in a run directory.

    The marker of a stage lists its files and checksums and is written last: a stage that was being written when its
    machine died, or has been damaged since, is computed again.

    :param url: a folder or a URL; credentials come from the environment, as its file system has it.
    :raises UsageError: if there is no such kind of URL, or what it needs is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            self._files, self._root = fsspec.core.url_to_fs(url.rstrip("/"))
        except (ImportError, ValueError) as error:
            raise UsageError(f"--store {url}: {error}") from error
        # a folder by its whole path: other processes may stand elsewhere
        self.url = self._root if isinstance(self._files, LocalFileSystem) else url.rstrip("/")

    def part(self, name: str) -> Store:
        """The part of this store that belongs to one study."""
        return Store(f"{self.url}/{name}")

    def finished(self) -> list[str]:
        """The names of the stages that are here.

        :raises AdvbenchError: if the store cannot be read.
        """
        with self._reached():
            self._files.invalidate_cache()  # of what other machines have written since
            return sorted(Path(place).stem for place in self._files.glob(f"{self._root}/stages/*.json"))

    def fetch(self, stage: str, directory: Path) -> bool:
        """Copy a finished stage into a run directory; False where the store does not have it.

        :raises UsageError: if it names a file outside of the directory.
        :raises AdvbenchError: if the store cannot be read.
        """
        marker = stages.marker(directory, stage)
        with self._reached():
            if not self._files.exists(self._place(directory, marker)):
                return False
            try:
                content = self._files.cat_file(self._place(directory, marker))
                files = [stages.inside(directory, name) for name in json.loads(content)["files"]]
                for path in files:
                    with self._files.open(self._place(directory, path), "rb") as source:
                        write(path, partial(shutil.copyfileobj, source))
            except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
                return False  # being written, or damaged
            write(marker, lambda stream: stream.write(content))
        return True

    def keep(self, stage: str, directory: Path, files: Iterable[Path]) -> None:
        """Copy a finished stage of a run directory here, unless it is here already.

        :raises AdvbenchError: if the store cannot be written.
        """
        marker = stages.marker(directory, stage)
        with self._reached():
            place = self._place(directory, marker)
            if self._files.exists(place) and self._files.cat_file(place) == marker.read_bytes():
                return
            for path in (*files, marker):
                place = self._place(directory, path)
                self._files.makedirs(place.rpartition("/")[0], exist_ok=True)
                self._files.put_file(str(path), place)

    def _place(self, directory: Path, path: Path) -> str:
        return f"{self._root}/{path.relative_to(directory).as_posix()}"

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except AdvbenchError:
            raise
        except Exception as error:  # each file system has its own
            raise AdvbenchError(
                f"the store {self.url} cannot be used: {error}; what was finished is kept in the run directory"
            ) from error
