"""What a container starts: `python -m vantage6.algorithm.entrypoint PACKAGE`.

Ends with 0 when the output is written, 1 when the algorithm failed, 2 when the input does not fit it. What is written
to standard error leaves the site, so it tells where a failure happened and never with which values.
"""

from __future__ import annotations

import importlib
import sys
import threading

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
    except BaseException as error:  # noqa: BLE001 - whatever an author's code raises ends here, told without its values
        if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
            return error.code or DONE
        from vantage6.algorithm.failures import describe, told  # noqa: PLC0415 - slow to load, and not for who succeeds

        return _tell(f"algorithm: {told(error) if container.shares_errors else describe(error)}", FAILED)
    finally:
        container.close()
    return DONE


def tell_no_values() -> None:
    """Has Python tell by kind and place, too, what reaches no caller: in threads, in `__del__`, at the exit."""
    sys.excepthook = lambda kind, error, trace: _tell_uncaught(kind, error)
    sys.unraisablehook = lambda uncaught: _tell_uncaught(uncaught.exc_type, uncaught.exc_value)
    threading.excepthook = lambda uncaught: _tell_uncaught(uncaught.exc_type, uncaught.exc_value)


def _tell_uncaught(kind: type[BaseException], error: BaseException | None) -> None:
    if issubclass(kind, SystemExit):  # As Python has it, a thread that exits has nothing to tell.
        return
    try:
        from vantage6.algorithm.failures import harmless  # noqa: PLC0415 - slow to load

        text = harmless(error or kind())
    except BaseException:  # noqa: BLE001 - late in the interpreter's end there are no imports; Python would print it all
        text = f"{kind.__name__} (its text stays at the site)"
    _tell(f"uncaught: {text}", FAILED)


def _tell(text: str, code: int) -> int:
    print(f"error > {text}", file=sys.stderr, flush=True)
    return code


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(_tell("usage: python -m vantage6.algorithm.entrypoint PACKAGE", BAD_INPUT))
    container = Container()
    if not container.shares_errors:
        tell_no_values()
    sys.exit(run(sys.argv[1], container))


if __name__ == "__main__":
    main()
