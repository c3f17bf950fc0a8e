"""What a container starts: `python -m vantage6.algorithm.entrypoint PACKAGE`.

Ends with 0 when the output is written, 1 when the algorithm failed, 2 when the input does not fit it. What is written
to standard error leaves the site, so it tells where a failure happened and never with which values.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path

from vantage6.algorithm.container import Container
from vantage6.algorithm.dispatch import dispatch
from vantage6.algorithm.errors import AlgorithmError, InputError

DONE, FAILED, BAD_INPUT = 0, 1, 2

STAYS = " (its text stays at the site)"

_HERE = Path(__file__).parent


def run(package: str, container: Container) -> int:
    """Does the run that the container was started for and says how it ended."""
    try:
        module = importlib.import_module(package)
        container.write_output(dispatch(module, container.read_input(), container))
    except InputError as error:
        return _tell(f"input: {error}", BAD_INPUT)
    except AlgorithmError as error:
        return _tell(f"algorithm: {error}", FAILED)
    except Exception as error:  # noqa: BLE001 - whatever an author's code raises ends here, told without its values
        return _tell(f"algorithm: {told(error) if container.shares_errors else describe(error)}", FAILED)
    finally:
        container.close()
    return DONE


def describe(error: Exception) -> str:
    """The text of what the proxy answered, and of everything else only its kind and place."""
    from vantage6.common.errors import SerializationError, Vantage6Error  # noqa: PLC0415 - loads gRPC

    if isinstance(error, Vantage6Error) and not isinstance(error, SerializationError):
        return f"{error.reason}: {error.message}"
    return harmless(error)


def told(error: BaseException) -> str:
    """Describes an exception with its text, for sites that let it out."""
    return f"{harmless(error).removesuffix(STAYS)}: {error}"


def harmless(error: BaseException) -> str:
    """Describes an exception by its kind and its place; its text may hold values from the data and is left out."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent != _HERE]
    places = [f"{_file(frame.filename)}:{frame.lineno} in {frame.name}" for frame in reversed(frames[:8])]
    return f"{type(error).__name__} at {' < '.join(places) or 'an unknown place'}{STAYS}"


def _file(name: str) -> str:
    path = Path(name)
    return f"{path.parent.name}/{path.name}" if path.name == "__init__.py" else path.name


def _tell(text: str, code: int) -> int:
    print(f"error > {text}", file=sys.stderr, flush=True)
    return code


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(_tell("usage: python -m vantage6.algorithm.entrypoint PACKAGE", BAD_INPUT))
    sys.exit(run(sys.argv[1], Container()))


if __name__ == "__main__":
    main()
