"""May this run here? The site's own rules, checked for every run, whoever asks and whoever its parent is."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vantage6.api.v1.delivery_pb2 import Assignment
from vantage6.common.errors import InvalidArgument, PermissionDenied
from vantage6.node.config import PolicySection
from vantage6.node.runtimes.registries import parse


class Refused(PermissionDenied):
    """A rule of the site forbids a run; `rule` is the machine-readable reason of its final state."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def _known_as(image: str) -> tuple[str, ...]:
    """One image has several names; with a digest, the tag beside it is still fetched under its name."""
    try:
        named = parse(image)
    except InvalidArgument:
        return (image,)
    return (named.host.lower().replace("index.docker.io", "docker.io"), named.repository, named.tag)


class Policy:
    """The rules of one site's configuration."""

    def __init__(self, section: PolicySection, own_images: Iterable[str] = ()) -> None:
        self._section = section
        self._own = {_known_as(image) for image in own_images}
        self._images = [re.compile(pattern) for pattern in section.allowed_images]
        methods = section.allowed_methods
        self._methods = None if methods is None else [re.compile(pattern) for pattern in methods]

    @property
    def outputs_per_day(self) -> int | None:
        """How many outputs one user may get in a day."""
        return self._section.max_outputs_per_day

    def check(self, run: Assignment) -> None:
        """Raises Refused with the first rule that forbids the run; called before anything is fetched or opened."""
        self._check_image(run.image)
        self._check_user(run)
        self._check_organization(run)
        self._check_participants(run)
        allowed = self._section.allowed_databases
        for label in run.databases:
            if allowed is not None and label not in allowed:
                raise Refused("DATABASE_NOT_ALLOWED", f"the site's policy does not open database {label!r}")

    def check_vouched(self, vouched: bool | None) -> None:
        """Called with whether the initiator's own facts of the task are the server's; None where it gave none."""
        if vouched is False:
            raise Refused(
                "TASK_CHANGED",
                "the number of participants, the image or the databases are not those that the task was created with",
            )
        if vouched is None and self._section.vouched_facts:
            raise Refused(
                "NOT_VOUCHED", "this site runs only tasks whose creator vouches for their facts; use a current client"
            )

    def check_method(self, method: str | None) -> None:
        """Called with what the opened input asks for; None where that cannot be told."""
        if self._methods is None:
            return
        if method is None:
            raise Refused(
                "METHOD_NOT_ALLOWED", "the site allows some methods only, and the input names none that can be read"
            )
        if not any(pattern.fullmatch(method) for pattern in self._methods):
            raise Refused(
                "METHOD_NOT_ALLOWED", f"method {method[:80]!r} matches no pattern of the site's allowed_methods"
            )

    def check_size(self, size: int) -> None:
        """Called with the size of what is about to leave."""
        most = self._section.max_output_bytes
        if most is not None and size > most:
            raise Refused("OUTPUT_TOO_LARGE", f"the output has {size} bytes, and at most {most} may leave this site")

    def lists(self, digest: str) -> bool:
        """Whether the site itself names this content."""
        return digest.rpartition("@")[2] in self._section.allowed_digests

    def check_digest(self, image: str, digest: str) -> None:
        """Binds what is allowed to its content: called with the digest of what would really run."""
        if self._section.allowed_digests and not self.lists(digest):
            raise Refused(
                "DIGEST_NOT_ALLOWED", f"image {image!r} is {digest or 'without digest'}, which is not allowed"
            )

    def _check_image(self, image: str) -> None:
        if _known_as(image) in self._own:
            raise Refused(
                "IMAGE_RESERVED", f"image {image!r} is what this site's node itself works with; no run may have it"
            )
        if not self._images:
            if self._section.allowed_digests:
                return  # Whatever its name, its digest decides.
            raise Refused(
                "IMAGE_NOT_ALLOWED",
                "this node allows no image at all: its administrator has to set policy.allowed_images",
            )
        # fullmatch: a pattern for one image must not let in a name that only begins like it.
        if not any(pattern.fullmatch(image) for pattern in self._images):
            raise Refused("IMAGE_NOT_ALLOWED", f"image {image!r} matches no pattern of the site's allowed_images")

    def _check_participants(self, run: Assignment) -> None:
        least = self._section.min_participants
        # A central part works with what the others let out; those who touch records are the ones that databases open.
        if least is not None and run.databases and run.participants < least:
            raise Refused(
                "TOO_FEW_PARTICIPANTS",
                f"the task has {run.participants} participants; this site takes part with at least {least}",
            )

    def _check_user(self, run: Assignment) -> None:
        allowed = self._section.allowed_users
        if allowed is not None and run.username not in allowed:
            raise Refused("USER_NOT_ALLOWED", f"the site's policy does not admit user {run.username!r}")

    def _check_organization(self, run: Assignment) -> None:
        allowed = self._section.allowed_organizations
        party = run.initiator
        # Numbers are ids and texts are names: an organization called "12" is not the one with id 12.
        if allowed is not None and party.organization_id not in allowed and party.name not in allowed:
            raise Refused("ORGANIZATION_NOT_ALLOWED", f"the site's policy does not admit organization {party.name!r}")
