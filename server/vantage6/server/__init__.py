"""The central server: hands out tasks, never computes, sees only ciphertext."""

from importlib.metadata import version

__version__ = version("vantage6-grpc")
CONTRACT_VERSION = "1.0"
