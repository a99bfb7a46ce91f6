"""The extension module built from tlite_vk/native: Kompute's sequences, with our buffers and pipelines.

Every failure is a tlite_vk.errors.DeviceError. Import it through tlite_vk.device only.
Written by tools/make_stub.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

_Writable: TypeAlias = NDArray[Any] | bytearray | memoryview
_Readable: TypeAlias = _Writable | bytes

class Buffer:
    """Device memory. Reads and writes of a mapped buffer don't wait for work under way."""

    @property
    def nbytes(self) -> int: ...
    @property
    def mapped(self) -> NDArray[np.uint8] | None:
        """the memory itself as uint8, writable, or None; keeps the memory alive"""

    def write(self, data: _Readable, offset: int = 0) -> None:
        """Copies a C-contiguous array or bytes to byte `offset`."""

    def read(self, nbytes: int | None = None, offset: int = 0) -> NDArray[np.uint8]:
        """A copy of `nbytes` bytes (all that follow by default)."""

    def read_into(self, target: _Writable, offset: int = 0) -> None:
        """Fills a writable C-contiguous array."""

    def close(self) -> None:
        """Gives up this handle; the memory is freed when no recording or view uses it."""

class Pipeline:
    """A shader with its specialization, ready to be dispatched."""

    @property
    def push_bytes(self) -> int: ...
    @property
    def bindings(self) -> int:
        """how many windows a dispatch takes"""

    def close(self) -> None: ...

class Recording:
    """Commands recorded once and submitted many times. For one thread at a time."""

    def dispatch(
        self,
        pipeline: Pipeline,
        windows: Sequence[tuple[Buffer, int, int]],
        groups: tuple[int, int, int],
        push: bytes = b"",
    ) -> None:
        """Runs groups = (x, y, z) workgroups; windows[i] = (buffer, offset, bytes) is bound to binding i."""

    def barrier(self) -> None:
        """All work recorded so far happens, and is visible, before what follows."""

    def copy(self, src: Buffer, src_offset: int, dst: Buffer, dst_offset: int, nbytes: int) -> None: ...
    def fill(self, buffer: Buffer, offset: int, nbytes: int, value: int) -> None:
        """Repeats a 32-bit value; offset and size are multiples of 4."""

    def timestamp(self) -> int:
        """Notes the time when all work so far has ended; returns its index in timestamps()."""

    def end(self) -> None:
        """Closes the recording; a barrier towards later submissions and the host is added."""

    def submit(self, repeat: int = 1) -> None:
        """Starts it, `repeat` times in a row, in one submission."""

    def wait(self, timeout_s: float | None = None) -> bool:
        """True when the submission has ended, False when the time is up first."""

    def run(self, repeat: int = 1) -> None:
        """submit() and wait()."""

    @property
    def pending(self) -> bool:
        """whether a submission was not waited for yet"""

    def timestamps(self) -> list[float]:
        """Seconds since the first timestamp, of the last repetition."""

    def close(self) -> None:
        """Waits for work under way and frees the commands."""

class Profile:
    """A poorer device than the one at hand; see profile()."""

def profile(
    *,
    limits: Mapping[str, int] = {},
    features: Mapping[str, bool] = {},
    max_workgroup_size: Sequence[int] = (),
    max_workgroup_count: Sequence[int] = (),
    integrated: bool = False,
) -> Profile:
    """
    What to believe of a device, by the names of DeviceInfo, where that is less than it has. integrated: a CPU driver
    passes for an integrated GPU.
    """

class DeviceInfo:
    """What is known of a device before it is opened."""

    @property
    def index(self) -> int:
        """its place in list_devices()"""

    @property
    def name(self) -> str: ...
    @property
    def device_type(self) -> str:
        """'cpu', 'integrated', 'discrete', 'virtual' or 'other'"""

    @property
    def driver_name(self) -> str: ...
    @property
    def driver_info(self) -> str: ...
    @property
    def driver_version(self) -> int:
        """in the vendor's own encoding"""

    @property
    def vendor_id(self) -> int: ...
    @property
    def device_id(self) -> int: ...
    @property
    def api_version(self) -> tuple[int, int, int]:
        """major, minor, patch"""

    @property
    def pipeline_cache_uuid(self) -> str:
        """32 hexadecimal digits; changes with the driver"""

    @property
    def limits(self) -> dict[str, int]:
        """what the device can do at most (max_...), or needs at least (min_..._alignment), in bytes or counts"""

    @property
    def features(self) -> dict[str, bool]:
        """what is offered, and enabled on an opened device"""

    @property
    def max_workgroup_size(self) -> tuple[int, int, int]:
        """invocations along x, y, z"""

    @property
    def max_workgroup_count(self) -> tuple[int, int, int]:
        """workgroups along x, y, z"""

    @property
    def timestamp_period(self) -> float:
        """nanoseconds per tick"""

    @property
    def heaps(self) -> list[tuple[int, bool]]:
        """(bytes, whether it is the device's own) of each memory heap"""

    @property
    def device_bytes(self) -> int:
        """bytes of all heaps of the device's own"""

    @property
    def host_bytes(self) -> int:
        """bytes of all other heaps"""

    @property
    def cooperative_matrix_shapes(self) -> list[tuple[int, int, int, str, str, str, str, str]]:
        """(M, N, K, type of A, of B, of C, of the result, scope), in the driver's order, without the saturating ones"""

    def lowered(self, profile: Profile) -> DeviceInfo:
        """The poorer of this device and a profile."""

class Device:
    """An opened device. What is made from it keeps it alive, in any order of destruction."""

    @property
    def info(self) -> DeviceInfo: ...
    @property
    def low_priority(self) -> bool:
        """whether the driver granted it"""

    @property
    def memory_used(self) -> int:
        """bytes allocated now"""

    @property
    def memory_peak(self) -> int:
        """most bytes ever allocated"""

    @property
    def memory_limit(self) -> int:
        """most bytes of all buffers together; 0: what the heaps hold"""

    @memory_limit.setter
    def memory_limit(self, arg: int, /) -> None: ...
    @property
    def lost(self) -> bool:
        """whether the driver gave it up; all that is left to do is to close it and open it again"""

    def fail_after(self, submissions: int, waiting: bool = False) -> None:
        """For tests: the device is lost at the submission after so many more, or (waiting) when that has ended."""

    def buffer(self, nbytes: int, host: bool = False) -> Buffer:
        """Memory of the device, or of the host (mapped, cached). Its content is undefined at first."""

    def pipeline(
        self,
        spirv: bytes,
        bindings: Sequence[str],
        *,
        specialization: Mapping[int, int] | Sequence[int] = (),
        push_bytes: int = 0,
        subgroup_size: int = 0,
        full_subgroups: bool = False,
    ) -> Pipeline:
        """
        A compute pipeline with entry point main. bindings[i] is what binding i of set 0 is: 'storage', 'uniform' or
        'texel_FORMAT'. specialization maps constant ids to 32-bit values; a sequence numbers them from 0.
        """

    def recording(self) -> Recording:
        """A new, empty recording."""

    def pipeline_cache(self) -> bytes:
        """The driver's compiled pipelines, to be saved."""

    def load_pipeline_cache(self, data: bytes) -> bool:
        """Adds saved pipelines. False, and nothing happens, where they are damaged or of another device or driver."""

    def validation_messages(self) -> list[str]:
        """Warnings and errors of the validation layer so far."""

    def clear_validation_messages(self) -> None: ...
    def close(self) -> None:
        """Gives up this handle; the device goes when nothing made from it is left."""

def list_devices() -> list[DeviceInfo]:
    """Every device of every installed driver. DeviceError without loader, driver or device."""

def open(
    index: int = 0,
    *,
    low_priority: bool = True,
    validation: bool = False,
    validation_log: str = "",
    staging: bool = False,
    profile: Profile | None = None,
    memory_limit: int = 0,
) -> Device:
    """
    Opens a device with every feature that this runtime knows and the device offers. Low priority is asked for where
    offered. validation turns on the Khronos layer with its synchronization checks, and appends its messages to the
    file validation_log, if it names one. staging never maps device memory, even where the host shares it, as on a
    discrete GPU. profile lowers what the device offers, and is held to:
    what asks for more is refused. memory_limit: most bytes of all buffers together; 0: what the heaps hold.
    """

def priority_extension(extensions: Sequence[str], low_priority: bool = True) -> str | None:
    """Through which of a device's extensions open() asks for a low priority; None: it does not ask."""
