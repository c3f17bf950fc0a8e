"""Where images come from: does each registry answer, and does it take the site's credentials?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vantage6.common.findings import Finding, failed, ok, warning
from vantage6.common.settings import ConfigError
from vantage6.node.options import logins
from vantage6.node.runtimes.registries import Registries, RegistrySilentError

if TYPE_CHECKING:
    from vantage6.node.config import NodeConfig


def check_registries(config: NodeConfig) -> list[Finding]:
    """Of those that the configuration names. One that is silent keeps nobody from starting: images stay here."""
    try:
        named = logins(config)
    except ConfigError as error:
        return [failed("registry", error.message, "put the password there, or correct password_file", "refused")]
    registries = Registries(named)
    return [_registry(registries, host) for host in named]


def _registry(registries: Registries, host: str) -> Finding:
    what = f"registry {host}"
    wrong = "correct username and password in runtime_options.registries, or renew them there"
    try:
        if registries.greet(host):
            return ok(what, "it answers, and takes the log-in")
    except RegistrySilentError as error:
        if "log-in" in str(error):
            return failed(what, str(error), wrong, "refused")
        fix = "check its name, the firewalls between, and ca_file; images that are here run all the same"
        return warning(what, f"it does not answer as a registry: {error}", fix)
    return failed(what, "it does not take the log-in", wrong, "refused")
