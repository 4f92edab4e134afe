"""An image for both architectures, built and pushed by BuildKit, and proven before anybody gets its name.

Imported by programs of users' own; it needs the extra ``build`` and a Docker engine.
"""

import asyncio
import posixpath
from dataclasses import dataclass, field, replace
from typing import Final

import pulumi
import pulumi_docker_build as docker_build

from archshift.cluster.image_evidence import audit_options
from archshift.common.errors import ArchshiftError
from archshift.images.audit import audit_images
from archshift.images.image_build import PLATFORMS, ImageBuild
from archshift.images.registry.hosts import ImageRules
from archshift.images.verdict import MULTI_ARCH


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiarchImageArgs:
    """Arguments of ``MultiarchImage``.

    Attributes:
        build: What is built.
        builder: The buildx builder; None for the current one. It must be able to build for both
            platforms: docker-container, kubernetes or remote, or an engine with the containerd store.
        rules: How the registry is reached to prove the image.
    """

    build: ImageBuild
    builder: str | None = None
    rules: ImageRules = field(default_factory=ImageRules)


class MultiarchImage(pulumi.ComponentResource):
    """One image for linux/amd64 and linux/arm64; with the extra ``build``."""

    TYPE: Final = "archshift:index:MultiarchImage"

    image: docker_build.Image
    """What was built and pushed."""

    ref: pulumi.Output[str]
    """Its name and digest, which is there only once the deep audit found both architectures in it."""

    def __init__(
        self, name: str, args: MultiarchImageArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        build = args.build
        self.image = docker_build.Image(
            name,
            push=True,
            # A preview would push nothing, and take as long.
            build_on_preview=False,
            platforms=[docker_build.Platform(platform) for platform in PLATFORMS],
            tags=list(build.tags),
            context=docker_build.BuildContextArgs(location=build.context),
            dockerfile=docker_build.DockerfileArgs(
                location=posixpath.join(build.context, build.dockerfile or "Dockerfile")
            ),
            target=build.target or None,
            build_args=dict(build.build_args) or None,
            builder=docker_build.BuilderConfigArgs(name=args.builder) if args.builder else None,
            opts=pulumi.ResourceOptions(parent=self),
        )

        async def proven(ref: str) -> str:
            # Not in the event loop: other resources go on meanwhile.
            return await asyncio.to_thread(_proven, ref, args.rules)

        self.ref = self.image.ref.apply(proven)
        self.register_outputs({"ref": self.ref})


def _proven(ref: str, rules: ImageRules) -> str:
    """Return a reference that runs on both architectures, binaries looked at; fail for any other."""
    rules = replace(rules, check=True, deep=True)
    try:
        # What was pushed a moment ago has no evidence of earlier runs to count.
        (verdict,) = audit_images([ref], audit_options(rules, keep=False)).values()
        if verdict.verdict != MULTI_ARCH:
            has = ", ".join(verdict.platforms) or "no platform that is proven"
            raise ArchshiftError(
                f"{ref}: it was built for {' and '.join(PLATFORMS)} and is {verdict.verdict}: "
                f"{verdict.reason or has}",
                "its Dockerfile must make the program for TARGETARCH",
            )
    except ArchshiftError as error:
        # A sentence for a person; the engine prints it without a traceback.
        raise pulumi.RunError(str(error)) from None
    return ref
