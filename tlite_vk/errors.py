"""Errors a user may meet. Each message is one clear line that says what to do next."""


class TliteError(Exception):
    """Base of every error that tlite-vk raises on purpose; the command line prints it and exits with code 2."""


class DeviceError(TliteError):
    """No Vulkan loader, no driver, no such device, or a device that cannot do what was asked."""


class NoDeviceError(DeviceError):
    """No Vulkan loader, no driver, or a driver without a device."""


class ModelError(TliteError):
    """A model file that is missing, damaged, or holds something that is not supported."""


class InputError(TliteError):
    """An argument, prompt or array that does not fit the model."""


class FetchError(TliteError):
    """A download that failed or did not match its checksum."""
