"""An image for both architectures: BuildKit builds and pushes it, and an audit proves it.

For your own Pulumi programs. It needs the extra ``build`` and a Docker engine.
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
from archshift.images.building.image_build import PLATFORMS, ImageBuild
from archshift.images.registry.hosts import ImageRules
from archshift.images.verdict import MULTI_ARCH
from components import engine_text


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiarchImageArgs:
    """Arguments of ``MultiarchImage``.

    Attributes:
        builder: The buildx builder; None for the current one. It must build for both platforms:
            docker-container, kubernetes or remote, or an engine with the containerd store.
        rules: How archshift reaches the registry to prove the image.
    """

    build: ImageBuild
    builder: str | None = None
    rules: ImageRules = field(default_factory=ImageRules)


class MultiarchImage(pulumi.ComponentResource):
    """One image for linux/amd64 and linux/arm64."""

    TYPE: Final = "archshift:index:MultiarchImage"

    image: docker_build.Image
    """The image that BuildKit built and pushed."""

    ref: pulumi.Output[str]
    """Name and digest of the image; known once the deep audit proves both architectures."""

    def __init__(
        self, name: str, args: MultiarchImageArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        build = args.build
        self.image = docker_build.Image(
            name,
            push=True,
            # A build in the preview would take as long and push nothing.
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
            # In a thread, so that other resources go on.
            return await asyncio.to_thread(_proven, ref, args.rules)

        self.ref = self.image.ref.apply(proven)
        self.register_outputs(engine_text.outputs({"ref": self.ref}))


def _proven(ref: str, rules: ImageRules) -> str:
    """Return the reference if a deep audit proves both architectures; otherwise fail."""
    rules = replace(rules, check=True, deep=True)
    try:
        # Evidence of earlier runs cannot be about an image that was pushed a moment ago.
        (verdict,) = audit_images([ref], audit_options(rules, keep=False)).values()
        if verdict.verdict != MULTI_ARCH:
            has = ", ".join(verdict.platforms) or "no platform is proven"
            raise ArchshiftError(
                f"{ref}: the build was for {' and '.join(PLATFORMS)}, but the image is {verdict.verdict}: "
                f"{verdict.reason or has}",
                "its Dockerfile must build the program for TARGETARCH",
            )
    except ArchshiftError as error:
        # A sentence for a person; the engine prints it without a traceback.
        raise engine_text.run_error(error) from None
    return ref
