"""The parts of a FLUX.1 model, and what its pipeline makes of pictures that it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlxsrv.backends import flux_layout as layout
from mlxsrv.backends import image_habits as habits
from mlxsrv.backends.drawable import require_hole
from mlxsrv.backends.flow import FlowSchedule
from mlxsrv.backends.image_habits import Habits
from mlxsrv.backends.mlx.flux import FluxShape, FluxTransformer
from mlxsrv.backends.mlx.flux_texts import FluxTexts
from mlxsrv.backends.mlx.vae import Vae, VaeShape
from mlxsrv.core.image import Drawing, ImageFacts


@dataclass(frozen=True, slots=True)
class Variant:
    """A drawing begins with the picture, unless the model looks at it as one of `references`, or
    `fills` what is masked. `habits` are those of a model with guidance."""

    habits: Habits = habits.FLUX1
    references: bool = False
    fills: bool = False

    @property
    def begins(self) -> bool:
        return not (self.references or self.fills)

    def require_inputs(self, drawing: Drawing) -> None:
        """Raises InvalidRequest where the model can't do without what the drawing lacks."""
        if self.fills:
            require_hole(drawing)

    def inputs(self, latents: VaeShape) -> int:
        """Numbers a token that the transformer takes."""
        channels = latents.latents * layout.PATCH**2
        if self.fills:
            return 2 * channels + (latents.factor * layout.PATCH) ** 2
        return channels


VARIANTS: Mapping[str, Variant] = {
    "FluxPipeline": Variant(),
    "FluxKontextPipeline": Variant(habits.FLUX1_KONTEXT, references=True),
    "FluxFillPipeline": Variant(habits.FLUX1_FILL, fills=True),
}
"""By the name of the pipeline's class."""


@dataclass(frozen=True, slots=True)
class FluxParts:
    """What a folder's configurations say, and the networks."""

    variant: Variant
    shape: FluxShape
    vae_shape: VaeShape
    schedule: FlowSchedule
    transformer: FluxTransformer
    vae: Vae
    texts: FluxTexts

    @property
    def facts(self) -> ImageFacts:
        multiple = self.vae_shape.factor * layout.PATCH
        side = max(multiple, self.vae_shape.side // multiple * multiple)
        own = habits.flux1(self.variant.habits, guided=self.shape.guidance)
        return ImageFacts(
            width=side,
            height=side,
            multiple=multiple,
            steps=own.steps,
            guidance=own.guidance,
            negative_prompt=own.negative_prompt,
            inputs=1,
            references=self.variant.references,
            masks=not self.variant.references,
        )
