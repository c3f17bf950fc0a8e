"""The central server: hands out tasks, never computes, sees only ciphertext."""

from importlib.metadata import version

from vantage6.common.contract import VERSION as CONTRACT_VERSION

__all__ = ["CONTRACT_VERSION", "__version__"]

__version__ = version("vantage6-grpc")
