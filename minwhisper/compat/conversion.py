"""Arrays, devices and models as programs written for openai-whisper pass them."""

from typing import Any

import numpy as np

from ..whisper import Whisper


class Tensor(np.ndarray[Any, Any]):
    """A NumPy array with the methods of a tensor that move or convert it.

    A model moves its input to its own device and converts it to its own dtype, so these methods change neither.

    >>> mel = as_tensor(np.zeros((80, 3000), np.float32))
    >>> mel.to("cuda").half().unsqueeze(0).shape
    (1, 80, 3000)
    """

    def to(self, *_target: Any, **_options: Any) -> "Tensor":
        """Return the array itself."""
        return self

    cpu = cuda = half = float = detach = contiguous = to

    def numpy(self) -> np.ndarray[Any, Any]:
        """Return a plain NumPy array that shares the memory."""
        return np.asarray(self)

    def unsqueeze(self, dim: int) -> "Tensor":
        """Insert an axis of length 1 at ``dim``."""
        return as_tensor(np.expand_dims(self, dim))


def as_tensor(array: Any) -> Any:
    """Return a NumPy array or a number as a ``Tensor``, and an array on a GPU as it is."""
    return np.asarray(array).view(Tensor) if isinstance(array, np.ndarray | list | int) else array


def as_array(value: Any) -> Any:
    """Return a tensor, PyTorch's or a ``Tensor``, as a plain NumPy array, and anything else as it is."""
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


class Device(str):
    """A device's name, such as ``"cuda:1"``, with the attributes of a ``torch.device``.

    >>> Device("cuda:1").type, Device("cuda:1").index, Device("cpu").index
    ('cuda', 1, None)
    """

    @property
    def type(self) -> str:
        """``"cpu"`` or ``"cuda"``."""
        return self.partition(":")[0]

    @property
    def index(self) -> int | None:  # type: ignore[override]  # torch.device has it; str.index is not needed
        """The number of the GPU."""
        number = self.partition(":")[2]
        return int(number) if number else None


def device_name(device: Any) -> str:
    """Return a device's name, given the name, a ``torch.device``, the number of a GPU, or None for "auto"."""
    if device is None:
        return "auto"
    return f"cuda:{device}" if isinstance(device, int) else str(device)


def wrapped_model(model: Any) -> Whisper:
    """Return the model of this package that a ``Whisper`` wraps, or the model itself."""
    found: Whisper = getattr(model, "wrapped", model)
    return found
