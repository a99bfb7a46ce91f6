"""What a machine lacks to run models, and what to do about it: the findings of `tlite-vk doctor`."""

from .examine import examine
from .finding import Finding, Status
from .system import System

__all__ = ["Finding", "Status", "System", "examine"]
