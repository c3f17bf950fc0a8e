"""What a container starts: `python -m vantage6.algorithm.entrypoint PACKAGE`.

Ends with 0 when the output is written, 1 when the algorithm failed, 2 when the input does not fit it. What is written
to standard error leaves the site, so it tells where a failure happened and never with which values.
"""

from __future__ import annotations

import importlib
import sys

from vantage6.algorithm.container import Container
from vantage6.algorithm.dispatch import dispatch
from vantage6.algorithm.errors import AlgorithmError, InputError

DONE, FAILED, BAD_INPUT = 0, 1, 2


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
        from vantage6.algorithm.failures import describe, told  # noqa: PLC0415 - slow to load, and not for who succeeds

        return _tell(f"algorithm: {told(error) if container.shares_errors else describe(error)}", FAILED)
    finally:
        container.close()
    return DONE


def _tell(text: str, code: int) -> int:
    print(f"error > {text}", file=sys.stderr, flush=True)
    return code


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(_tell("usage: python -m vantage6.algorithm.entrypoint PACKAGE", BAD_INPUT))
    sys.exit(run(sys.argv[1], Container()))


if __name__ == "__main__":
    main()
