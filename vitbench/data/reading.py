"""How is one image of a split read, and what is its label? From a listed folder or tar, or through timm.

An image that cannot be read is named; nothing takes its place.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitbench.data.listing import Listing
from vitbench.files import error_reason
from vitbench.text import printable

if TYPE_CHECKING:
    import numpy as np

    from vitbench.data.decode import StoredImage


class FileSplit:
    """One split with random access: timm's `ImageDataset` or a data set of torchvision."""

    random_access = True
    notes: Sequence[str] = ()
    """What a user might not expect of it, a line each."""

    def __init__(self, dataset: Any, title: str) -> None:
        self.dataset = dataset
        self.title = title
        # timm's own ImageDataset.__getitem__ hands out the next image in place of one that it cannot read; its
        # reader does not.
        self.reader: Any = getattr(dataset, "reader", None)

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: int) -> tuple[StoredImage, int]:
        """(image as a viewer shows it, label). Raises ValueError, naming the file, where it cannot be read."""
        try:
            return self._read(index)
        except Exception as error:  # decoders have no list of what they raise for bytes that they cannot decode
            raise self._unreadable(index, error) from error

    def _read(self, index: int) -> tuple[StoredImage, int]:
        from vitbench.data.decode import as_shown, read_image

        if self.reader is None:
            image, label = self.dataset[index]
            return as_shown(image), int(label)
        file, label = self.reader[index][:2]
        with file:
            return read_image(file), int(label)

    def _unreadable(self, index: int, error: Exception) -> ValueError:
        return ValueError(f"{self.image_name(index)} cannot be read ({error_reason(error)}); mend or remove it")

    def __iter__(self) -> Iterator[tuple[StoredImage, int]]:
        return (self.read(index) for index in range(len(self)))

    def image_name(self, index: int) -> str:
        """What refusals call it: `image 'cat/1.png' of the train split of 'pets'`."""
        return f"image {self.filename(index)!r} of {self.title}"

    def filename(self, index: int) -> str:
        """The file, or the image's number where there is none."""
        if self.reader is not None:
            with contextlib.suppress(Exception):  # readers differ, and a message must not fail
                return str(self.reader.filename(index))
        samples = getattr(self.dataset, "samples", None) or getattr(self.dataset, "imgs", None)
        return str(samples[index][0]) if samples else f"#{index}"

    def labels(self) -> np.ndarray:
        """int64 [N], without decoding images where the data set allows that."""
        import numpy as np

        targets = getattr(self.reader, "targets", None)
        if targets is None and self.reader is not None and hasattr(self.reader, "samples"):
            targets = [sample[1] for sample in self.reader.samples]
        if targets is None and hasattr(self.reader, "iter_targets"):
            targets = list(self.reader.iter_targets())
        if targets is None and self.reader is None:
            targets = getattr(self.dataset, "targets", None)
        if targets is None:
            targets = [label for _, label in self]
        return np.asarray(targets, dtype=np.int64)

    def class_names(self) -> list[str] | None:
        """In the order of their indices; None where the data set has no names."""
        for holder in (self.reader, self.dataset):
            for field in ("class_to_idx", "class_name_to_idx"):
                mapping = getattr(holder, field, None)
                if mapping:
                    return [str(name) for name in sorted(mapping, key=mapping.__getitem__)]
        return None


class ListedSplit(FileSplit):
    """One split of a folder or a tar that was listed. It keeps no file open: processes may share it."""

    def __init__(self, root: str, listing: Listing, title: str) -> None:
        self.root = root
        self.files = listing.files
        self.classes = listing.classes()
        self.title = title
        self.notes = listing.notes(title)
        self._labels = {name: label for label, name in enumerate(self.classes)}
        self._is_folder = Path(root).is_dir()

    def __len__(self) -> int:
        return len(self.files)

    def _read(self, index: int) -> tuple[StoredImage, int]:
        from vitbench.data.decode import MAX_BYTES, read_image

        file = self.files[index]
        if file.size > MAX_BYTES:
            raise ValueError(f"its {file.size:,} bytes are more than {MAX_BYTES:,}")
        if self._is_folder:
            with open(f"{self.root}/{file.name}", "rb") as content:
                return read_image(content, file.name), self._label(index)
        with open(self.root, "rb", buffering=0) as tar:
            tar.seek(file.offset)
            return read_image(io.BytesIO(tar.read(file.size)), file.name), self._label(index)

    def _label(self, index: int) -> int:
        return self._labels[self.files[index].name.partition("/")[0]]

    def filename(self, index: int) -> str:
        return self.files[index].name

    def labels(self) -> np.ndarray:
        import numpy as np

        return np.array([self._label(index) for index in range(len(self))], dtype=np.int64)

    def class_names(self) -> list[str]:
        """In the order of their indices, as they can be printed; all with escapes where some would become one."""
        shown = [printable(name) for name in self.classes]
        return shown if len({*shown}) == len(shown) else [repr(name)[1:-1] for name in self.classes]


class IterableSplit(FileSplit):
    """One split that can only be read from its start (hfids, tfds, wds)."""

    random_access = False

    def __iter__(self) -> Iterator[tuple[StoredImage, int]]:
        from PIL.Image import fromarray

        from vitbench.data.decode import as_shown

        images = iter(self.dataset)
        count = 0
        while True:
            try:
                image, label = next(images)
                if not hasattr(image, "mode"):  # tfds gives arrays
                    image = fromarray(image)
                shown = as_shown(image)
            except StopIteration:
                break
            except Exception as error:
                raise self._unreadable(count, error) from error
            count += 1
            yield shown, int(label)
        # Some of these readers skip what they cannot read.
        if len(self) and count != len(self):
            raise ValueError(f"{self.title} gave {count} images instead of {len(self)}; mend what cannot be read")

    def read(self, index: int) -> tuple[StoredImage, int]:
        if index:
            raise ValueError(f"{self.title} has no random access; raise VITBENCH_CACHE_LIMIT_GB so that it is cached")
        return next(iter(self))

    def filename(self, index: int) -> str:
        return f"#{index}"

    def labels(self) -> np.ndarray:
        import numpy as np

        return np.array([label for _, label in self], dtype=np.int64)
