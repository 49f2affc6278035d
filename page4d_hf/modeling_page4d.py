"""PAGE-4D: cameras, depth, points and motion of a sequence of images in one pass (arXiv 2510.17568).

The network is VGGT's (arXiv 2503.11651) with a dynamics-aware mask in the middle third of its global attention:

    pixel_values -> encoder -> aggregator -> camera_head, depth_head, point_head, track_head
                               (mask_head)
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import logging
from transformers.utils.generic import ModelOutput, can_return_tuple

from .configuration_page4d import Page4DConfig
from .errors import Page4DError
from .geometry import pose_encoding_to_cameras
from .initialization_page4d import start_at_same_place, start_smooth, start_still, start_with_changes
from .labels_page4d import check_labels
from .loss_page4d import page4d_loss
from .model_card import write_model_card
from .modeling_page4d_aggregator import (
    Page4DAggregator,
    Page4DMaskSchedule,
    Page4DPaperMaskHead,
    Page4DSpecialTokens,
    side_by_side,
)
from .modeling_page4d_encoder import Page4DEncoder, Page4DEncoderEmbeddings
from .modeling_page4d_heads import Page4DCameraHead, Page4DDenseHead
from .modeling_page4d_layers import Page4DLayer, in_full
from .modeling_page4d_track import Page4DTrackHead, Page4DTrackTransformer

logger = logging.get_logger(__name__)

HEADS = ("camera", "depth", "point")  # a caller may leave some out; the track head runs where there are query points
# What a saved folder gives the Auto classes, with `trust_remote_code=True`, where this package is not installed.
AUTO_MAP = {
    "AutoConfig": "configuration_page4d.Page4DConfig",
    "AutoModel": "modeling_page4d.Page4DModel",
    "AutoModelForDepthEstimation": "modeling_page4d.Page4DForDepthEstimation",
}
RANGE_TOLERANCE = 0.5  # how far beyond [0, 1] images may go, by a filter or an augmentation, without a warning


@dataclass
class Page4DOutput(ModelOutput):
    """What [`Page4DModel`] sees in a sequence of S frames of H x W pixels.

    The world is the first frame's camera (OpenCV axes: x right, y down, z forward), in a scale of the network's own
    choice, the same for cameras, depth and points. What a model has no head for is `None`.

    Args:
        loss (`torch.FloatTensor` of shape `()`, with `labels`):
            What training makes small. See `loss_page4d`.
        loss_terms (`dict[str, torch.FloatTensor]`, with `labels`):
            What it is made of, unweighted and without gradients. See [`Page4DLosses`].
        pose_enc (`torch.FloatTensor` of shape `(batch_size, num_frames, 9)`):
            Cameras: translation and quaternion (x, y, z, w; of any norm) of the world-to-camera transform, vertical and
            horizontal field of view in radians. See [`Page4DOutput.cameras`].
        pose_enc_stages (`tuple(torch.FloatTensor)`, with `output_pose_enc_stages=True` or `labels`):
            The cameras after every iteration of the camera head; the last is `pose_enc`.
        depth (`torch.FloatTensor` of shape `(batch_size, num_frames, height, width, 1)`):
            z in the frame's camera, greater than 0.
        depth_conf (`torch.FloatTensor` of shape `(batch_size, num_frames, height, width)`):
            Confidence in the depth, greater than 1.
        world_points (`torch.FloatTensor` of shape `(batch_size, num_frames, height, width, 3)`):
            Where in the world the pixels' points are.
        world_points_conf (`torch.FloatTensor` of shape `(batch_size, num_frames, height, width)`):
            Confidence in the points, greater than 1.
        dynamics_mask (`torch.FloatTensor` of shape `(batch_size, num_frames, height, width)`):
            How strongly the mask head wants a place kept from the cameras, in (0, 1): low = static, high = dynamic.
            With `mask_form="release"` 1/2 is neutral: attention to the place is neither suppressed nor favoured.
            Predicted whatever the strength that the mask is applied with.
        tracks (`torch.FloatTensor` of shape `(batch_size, num_frames, num_points, 2)`, with `query_points`):
            Where the query points are in every frame, (x, y) in pixels.
        track_visibility, track_confidence (`torch.FloatTensor` of shape `(batch_size, num_frames, num_points)`):
            Probabilities that a tracked point is visible, and that its place is right.
        hidden_states (`tuple(torch.FloatTensor)`, with `output_hidden_states=True`):
            For every layer of the aggregator the output of its frame block and of its global block side by side, of
            shape `(batch_size, num_frames, num_tokens, 2 * hidden_size)`; tokens are camera, registers, patches.
        attentions (`tuple(torch.FloatTensor)`, with `output_attentions=True`):
            For every layer of the aggregator the weights of its frame block, of shape `(batch_size * num_frames,
            num_heads, num_tokens, num_tokens)`, and then of its global block, of shape `(batch_size, num_heads,
            num_frames * num_tokens, num_frames * num_tokens)`.
    """

    loss: Tensor | None = None
    loss_terms: dict[str, Tensor] | None = None
    pose_enc: Tensor | None = None
    pose_enc_stages: tuple[Tensor, ...] | None = None
    depth: Tensor | None = None
    depth_conf: Tensor | None = None
    world_points: Tensor | None = None
    world_points_conf: Tensor | None = None
    dynamics_mask: Tensor | None = None
    tracks: Tensor | None = None
    track_visibility: Tensor | None = None
    track_confidence: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None

    def cameras(self, image_size: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
        """Decode `pose_enc`.

        Args:
            image_size: (height, width) in pixels of the image that the intrinsics shall belong to. By default that
                of the network's input.

        Returns:
            extrinsics `[B, S, 3, 4]`, world-to-camera with OpenCV axes, and intrinsics `[B, S, 3, 3]` in pixels, the
            principal point at the centre of the image.

        Raises:
            Page4DError: the model has no camera head, or no output that tells the image's size.
        """
        if self.pose_enc is None:
            raise Page4DError(
                "There are no cameras: the model was built with enable_camera=False, or heads= left them out."
            )
        if image_size is None:
            for maps in (self.depth_conf, self.world_points_conf, self.dynamics_mask):
                if maps is not None:
                    image_size = (maps.shape[2], maps.shape[3])
                    break
            else:
                raise Page4DError("This output has no map that tells the size of the image: pass image_size=(H, W).")
        return pose_encoding_to_cameras(self.pose_enc, image_size)


@dataclass
class Page4DDepthEstimatorOutput(ModelOutput):
    """What [`Page4DForDepthEstimation`] sees in N images of H x W pixels, each by itself.

    Args:
        predicted_depth (`torch.FloatTensor` of shape `(num_images, height, width)`):
            z in the image's camera, greater than 0, in a scale that every image has of its own.
        confidence (`torch.FloatTensor` of shape `(num_images, height, width)`):
            Confidence in the depth, greater than 1.
        image_boxes (`torch.FloatTensor` of shape `(num_images, 4)`, with `image_boxes`):
            Where the images are in the network's input, for
            [`~Page4DImageProcessor.post_process_depth_estimation`].
        hidden_states, attentions (`tuple(torch.FloatTensor)`):
            As in [`Page4DOutput`], with the images as the batch and one frame each.
    """

    predicted_depth: Tensor | None = None
    confidence: Tensor | None = None
    image_boxes: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class Page4DPreTrainedModel(PreTrainedModel):
    """Initialisation of the weights, and what the library needs to know about the network."""

    config: Page4DConfig
    config_class = Page4DConfig
    base_model_prefix = "page4d"
    main_input_name = "pixel_values"
    input_modalities = "image"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    # The few special queries under the mask's bias, and the float32 heads, go by sdpa: see Page4DAttention.
    _supports_flash_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _no_split_modules = [  # noqa: RUF012
        "Page4DEncoderEmbeddings",
        "Page4DLayer",
        "Page4DSpecialTokens",
        "Page4DReleaseMaskHead",
        "Page4DPaperMaskHead",
        "Page4DMaskSchedule",
        "Page4DCameraHead",
        "Page4DDenseHead",
        "Page4DTrackHead",
    ]
    _keep_in_fp32_modules_strict = [  # noqa: RUF012
        "aggregator.mask_head",
        "camera_head",
        "depth_head",
        "point_head",
        "track_head",
    ]
    # Quantization leaves alone what this list names, in full from the root.
    _keep_in_fp32_modules = _keep_in_fp32_modules_strict

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]  # of the library
        std = self.config.initializer_range
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            # Keeps the scale through the dense heads at any width.
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
        elif isinstance(module, Page4DLayer):
            init.constant_(module.layer_scale1, module.layerscale_value)
            init.constant_(module.layer_scale2, module.layerscale_value)
            if module.starts_at_same_place:
                start_at_same_place(module, std, self.config.rope_theta)
            if module.starts_with_changes:
                start_with_changes(module)
        elif isinstance(module, Page4DEncoderEmbeddings):
            init.normal_(module.cls_token, std=std)
            init.zeros_(module.mask_token)
            init.normal_(module.register_tokens, std=std)
            init.normal_(module.position_embeddings, std=std)
            if self.config.initialization.patch_embedding == "smooth":
                start_smooth(module.patch_embeddings)
        elif isinstance(module, Page4DSpecialTokens):
            init.normal_(module.camera, std=std)
            init.normal_(module.register, std=std)
        elif isinstance(module, Page4DPaperMaskHead):
            init.zeros_(module.tau_logit)
            init.zeros_(module.alpha_logit)
        elif isinstance(module, Page4DMaskSchedule):
            init.zeros_(module.step)
        elif isinstance(module, Page4DCameraHead):
            init.zeros_(module.empty_pose)
            start_still(module, std)
        elif isinstance(module, Page4DTrackHead):
            init.normal_(module.frame_tokens, std=std)
        elif isinstance(module, Page4DTrackTransformer):
            init.normal_(module.virtual_tracks, std=std)

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """As in every model of transformers; a model card goes with it, with base weights, licence and data."""
        count = self.num_parameters()
        if (state := kwargs.get("state_dict")) is not None:  # of a sharded model, whose own parameters are parts
            count = sum(value.numel() for name, value in state.items() if not name.endswith("mask_schedule.step"))
        self.config.auto_map = dict(AUTO_MAP)  # the library enters the class that is saved, and no other
        super().save_pretrained(save_directory, *args, **kwargs)
        is_main_process = args[0] if args else kwargs.get("is_main_process", True)
        if is_main_process and os.path.isdir(save_directory):
            write_model_card(save_directory, self.config, num_parameters=count)

    def _upload_modified_files(self, working_dir: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """As in every model of transformers, which has put a card of its own, without a licence, in place of ours."""
        write_model_card(working_dir, self.config, num_parameters=self.num_parameters())
        return super()._upload_modified_files(working_dir, *args, **kwargs)


class Page4DModel(Page4DPreTrainedModel):
    """Cameras, depth, world points and motion of a sequence of images.

    The aggregator may run in a half precision; the heads stay in float32 whatever the model is cast to.
    """

    _auto_class = "AutoModel"

    def __init__(self, config: Page4DConfig):
        super().__init__(config)
        self._looks_at_values = [True]  # a list, which the replicas of nn.DataParallel share
        self.encoder = Page4DEncoder(config)
        self.aggregator = Page4DAggregator(config)
        self.camera_head = in_full(Page4DCameraHead(config)) if config.enable_camera else None
        self.depth_head = in_full(Page4DDenseHead(config, config.dense_hidden_size, 2)) if config.enable_depth else None
        self.point_head = in_full(Page4DDenseHead(config, config.dense_hidden_size, 4)) if config.enable_point else None
        self.track_head = in_full(Page4DTrackHead(config)) if config.enable_track else None
        self.post_init()  # type: ignore[no-untyped-call]  # of the library

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As in every model of transformers; the mask token of the encoder stays without a gradient."""
        loaded: Any = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        # The library makes every parameter anew that it loads, with a gradient.
        model.encoder.embeddings.mask_token.requires_grad_(False)
        return loaded

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.embeddings.patch_embeddings

    def set_training_step(self, step: int) -> None:
        """Tell the mask's schedule how many optimizer steps have been made.

        The count is saved with the weights, so that a training that is taken up again goes on where it was. Without a
        schedule there is nothing to tell.
        """
        if self.aggregator.mask_schedule is not None:
            self.aggregator.mask_schedule.step.fill_(step)

    @can_return_tuple  # type: ignore[untyped-decorator]  # of the library
    def forward(
        self,
        pixel_values: Tensor,
        query_points: Tensor | None = None,
        mask_strength: float | Tensor | None = None,
        output_pose_enc_stages: bool = False,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        original_sizes: Tensor | None = None,
        image_boxes: Tensor | None = None,
        labels: Mapping[str, Tensor] | None = None,
        heads: Collection[str] | None = None,
        visible: Tensor | None = None,
    ) -> Page4DOutput:
        r"""
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, num_frames, 3, height, width)`):
                Images with values in [0, 1], not normalised further; height and width multiples of the patch size.
                One sequence may come without the batch dimension. Of values far out of that range a model warns once:
                on the CPU at any call, on another device, which looking stalls, only at the first, and never from a
                compiled graph.
            query_points (`torch.FloatTensor` of shape `(batch_size, num_points, 2)`, *optional*):
                Points to track, (x, y) in pixels of the first frame, the first pixel's centre being 0. One sequence's
                may come without the batch dimension. Needs the track head.
            mask_strength (`float` or scalar tensor, *optional*):
                Strength of the mask in [0, 1]. By default that of the schedule in training, and of the configuration
                otherwise. A model without a mask takes none but 0.
            output_pose_enc_stages (`bool`, defaults to `False`):
                Whether to give the cameras of every iteration too.
            output_hidden_states, output_attentions (`bool`, *optional*):
                Whether to give these too; attentions need `attn_implementation="eager"`.
            original_sizes, image_boxes (`torch.Tensor`, *optional*):
                What [`Page4DImageProcessor`] gives for its `post_process_*` methods, so that `model(**inputs)` works.
                Not looked at here.
            labels (`dict[str, torch.Tensor]`, *optional*):
                What is known of the images, in any world and any scale; some of

                - `extrinsics` `(batch_size, num_frames, 3, 4)`: world-to-camera, OpenCV axes,
                - `intrinsics` `(batch_size, num_frames, 3, 3)`: in pixels, the first pixel's centre being (0.5, 0.5);
                  they count together with `extrinsics`,
                - `depth` `(batch_size, num_frames, height, width)`: z in the frame's camera, in the scale of the
                  extrinsics; what is not a positive number of at most 1e6 is not known,
                - `world_points` `(batch_size, num_frames, height, width, 3)`: by default unprojected from depth; not
                  known where not finite or more than 1e6 from the first camera along one of its axes, nor where depth
                  is given and not known,
                - `has_pose`, `has_depth` `(batch_size,)` bool: which sequences have cameras, and which have depth or
                  points; by default all. What the others hold is not looked at,
                - `motion_mask` `(batch_size, num_frames, height, width)` bool: true where something moves; of no
                  effect unless `training.mask_loss_weight` is above 0,
                - `has_motion` `(batch_size,)` bool: of which sequences it says so; by default of all.

                The output then has a `loss`, from those labels that there are and those heads that the model has. A
                `transformers.Trainer` needs [`Page4DDataCollator`], as its own collators know no nested labels, and
                where the mask has a schedule [`Page4DMaskScheduleCallback`]; `TrainingArguments` can stay as they are,
                `remove_unused_columns` included.
            heads (`Collection[str]`, *optional*):
                Which of `"camera"`, `"depth"` and `"point"` to run; the outputs of the others are `None`. By default
                all that the model has.
            visible (`torch.BoolTensor` of shape `(batch_size, num_frames, height, width)`, *optional*):
                False where the user hides the images, as over moving things. In the layers of the mask, camera and
                register tokens give no attention to patches of which less than half is visible, whether or not the
                model has a mask head: those layers are `masked_layers` of the configuration. All else sees the whole
                images. Without the batch dimension it is taken as a batch of one.

        Raises:
            Page4DError: the input is not of such a shape or type, the mask's strength is out of its range, a head is
                not known, or there are labels of which the model predicts nothing.

        ```python
        >>> import torch
        >>> from page4d_hf import Page4DModel

        >>> model = Page4DModel.from_pretrained("page4d")
        >>> with torch.no_grad():
        ...     output = model(torch.rand(1, 4, 3, 280, 518))
        >>> extrinsics, intrinsics = output.cameras()
        ```"""
        config = self.config
        if output_hidden_states is None:
            output_hidden_states = config.output_hidden_states
        if output_attentions is None:
            output_attentions = config.output_attentions
        if output_attentions and config._attn_implementation != "eager":
            raise Page4DError(
                f"attn_implementation={config._attn_implementation!r} never has the attention weights in memory; "
                'output_attentions=True needs attn_implementation="eager".'
            )
        if isinstance(mask_strength, Real) and not 0 <= mask_strength <= 1:
            raise Page4DError(f"mask_strength is {mask_strength}; it must lie in [0, 1].")
        unmasked = mask_strength is None or (isinstance(mask_strength, Real) and mask_strength == 0)
        if config.mask_form is None and not unmasked:
            raise Page4DError("mask_strength needs a mask, and this model was built with mask_form=None; leave it out.")
        if isinstance(heads, str):
            raise Page4DError(f"heads must be a collection of names, as ({heads!r},); got the string {heads!r}.")
        heads = HEADS if heads is None else tuple(heads)
        if unknown := sorted(set(heads) - set(HEADS)):
            raise Page4DError(f"heads must be some of {', '.join(HEADS)}; got {', '.join(unknown)}.")
        pixel_values = self._checked_pixel_values(pixel_values)
        query_points = self._checked_query_points(query_points, pixel_values)
        visible = self._checked_visible(visible, pixel_values)
        if labels is not None:
            labels = self._checked_labels(labels, pixel_values, heads)

        # 1. Every frame to patch tokens, by itself.
        batch_size, num_frames, _, height, width = pixel_values.shape
        grid = (height // config.patch_size, width // config.patch_size)
        patch_tokens = self.encoder(self._normalised(pixel_values).flatten(0, 1))  # [B * S, h * w, C]

        # 2. All frames together.
        kept_layers = {*config.head_layers, config.num_hidden_layers - 1}
        if visible is not None:
            share = nn.functional.avg_pool2d(visible.to(patch_tokens.device, torch.float32), config.patch_size)
            visible = share.flatten(2) >= 0.5  # [B, S, h * w]
        aggregated = self.aggregator(
            patch_tokens.unflatten(0, (batch_size, num_frames)),
            *grid,
            kept_layers,
            mask_strength,
            output_hidden_states,
            output_attentions,
            visible,
        )

        # 3. What the heads read off.
        output = Page4DOutput()
        if self.camera_head is not None and "camera" in heads:
            frame_tokens, global_tokens = aggregated.features[config.num_hidden_layers - 1]
            stages = self.camera_head(side_by_side(frame_tokens[:, :, 0], global_tokens[:, :, 0]))  # [B, S, 2 C]
            output.pose_enc = stages[-1]
            if output_pose_enc_stages or labels is not None:
                output.pose_enc_stages = stages
        features = [aggregated.features[layer] for layer in config.head_layers]
        in_training = self.training and labels is not None
        training = config.training
        if self.depth_head is not None and "depth" in heads and not (in_training and training.depth_loss_weight == 0):
            maps = self.depth_head(features, (height, width)).movedim(2, -1)  # [B, S, H, W, 2]
            output.depth, output.depth_conf = maps[..., :1].exp(), 1 + maps[..., 1].exp()
        if self.point_head is not None and "point" in heads and not (in_training and training.point_loss_weight == 0):
            maps = self.point_head(features, (height, width)).movedim(2, -1)  # [B, S, H, W, 4]
            points = maps[..., :3]
            output.world_points = points.sign() * torch.expm1(points.abs())
            output.world_points_conf = 1 + maps[..., 3].exp()
        if self.track_head is not None and query_points is not None:
            tracks = self.track_head(features, (height, width), query_points)
            output.tracks, output.track_visibility, output.track_confidence = tracks
        if aggregated.mask is not None:
            output.dynamics_mask = nn.functional.interpolate(
                aggregated.mask.dynamics, size=(height, width), mode="bilinear", align_corners=False
            )
        if labels is not None:
            losses = page4d_loss(
                labels,
                config.training,
                pose_enc_stages=output.pose_enc_stages,
                depth=output.depth,
                depth_conf=output.depth_conf,
                world_points=output.world_points,
                world_points_conf=output.world_points_conf,
                dynamics_logits=None if aggregated.mask is None else aggregated.mask.dynamics_logits,
            )
            terms = {name: term.detach() for name, term in losses.terms.items()}
            # A new one, as the order in which fields are set is their order in a tuple, and the loss is to come first.
            output = Page4DOutput(loss=losses.total, loss_terms=terms, **output)
        if output_hidden_states:
            output.hidden_states = aggregated.hidden_states
        if output_attentions:
            output.attentions = aggregated.attentions
        return output

    def _normalised(self, pixel_values: Tensor) -> Tensor:
        """Images as the encoder was trained on them, in its dtype."""
        # Channel by channel with plain numbers: a tensor of means would have to be copied to the device every time.
        statistics = zip(pixel_values.float().unbind(2), self.config.image_mean, self.config.image_std, strict=True)
        normalised = torch.stack([(channel - mean) / std for channel, mean, std in statistics], dim=2)
        return normalised.to(self.encoder.embeddings.patch_embeddings.weight.dtype)

    def _checked_pixel_values(self, pixel_values: Tensor) -> Tensor:
        """`[B, S, 3, H, W]` from that, or from `[S, 3, H, W]`."""
        shape = tuple(pixel_values.shape)
        expected = f"pixel_values must be (batch, frames, {self.config.num_channels}, height, width)"
        if len(shape) not in (4, 5):
            raise Page4DError(f"{expected}, or that without the batch; it has {len(shape)} dimensions: {shape}.")
        if shape[-3] != self.config.num_channels:
            raise Page4DError(f"{expected}; it has {shape[-3]} channels: {shape}.")
        if min(shape) == 0:
            raise Page4DError(f"{expected} with at least one frame and one pixel; it is empty: {shape}.")
        if not pixel_values.is_floating_point():
            raise Page4DError(
                f"pixel_values must be floating point with values in [0, 1], it is {pixel_values.dtype}: "
                "divide 8-bit images by 255, or let Page4DImageProcessor do it."
            )
        patch, height, width = self.config.patch_size, shape[-2], shape[-1]
        if height % patch or width % patch:
            nearest = [max(patch, patch * round(side / patch)) for side in (height, width)]
            raise Page4DError(
                f"Image height and width must be multiples of the patch size {patch}, they are {height} and {width}. "
                f"The nearest valid size is {nearest[0]} x {nearest[1]}; Page4DImageProcessor resizes to a valid one."
            )
        self._look_at_values(pixel_values)
        return pixel_values if len(shape) == 5 else pixel_values[None]

    def _look_at_values(self, pixel_values: Tensor) -> None:
        """Warn once of images that are of 0 to 255, or normalised already."""
        if not self._looks_at_values[0] or pixel_values.is_meta or torch.compiler.is_compiling():
            return
        low, high = (bound.item() for bound in pixel_values.detach().aminmax())
        in_range = low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE  # NaN is not
        self._looks_at_values[0] = in_range and pixel_values.device.type == "cpu"
        if not in_range:
            logger.warning(
                "Expected pixel_values in [0, 1], got values from %g to %g, which give wrong outputs: divide images of "
                "0 to 255 by 255, leave out a normalisation, which is the model's own first step, or let "
                "Page4DImageProcessor prepare them.",
                low,
                high,
            )

    def _checked_query_points(self, query_points: Tensor | None, pixel_values: Tensor) -> Tensor | None:
        """`[B, N, 2]` from that, or from `[N, 2]`."""
        if query_points is None:
            return None
        if self.track_head is None:
            raise Page4DError("query_points need the track head, and this model was built with enable_track=False.")
        if query_points.ndim == 2:
            query_points = query_points[None]
        if query_points.ndim != 3 or query_points.shape[0] != len(pixel_values) or query_points.shape[2] != 2:
            raise Page4DError(
                f"query_points must be (batch, points, 2) with a batch of {len(pixel_values)}; "
                f"it is {tuple(query_points.shape)}."
            )
        if query_points.shape[1] == 0:
            raise Page4DError("query_points must hold at least one point, and holds none; leave it out to track none.")
        return query_points.float()

    def _checked_visible(self, visible: Tensor | None, pixel_values: Tensor) -> Tensor | None:
        """`[B, S, H, W]` from that, or from `[S, H, W]`."""
        if visible is None:
            return None
        if visible.ndim == 3:
            visible = visible[None]
        expected = (*pixel_values.shape[:2], *pixel_values.shape[-2:])
        if visible.dtype != torch.bool or tuple(visible.shape) != expected:
            raise Page4DError(
                f"visible must be bool and (batch, frames, height, width), {expected}; it is {visible.dtype} and "
                f"{tuple(visible.shape)}."
            )
        return visible

    def _checked_labels(
        self, labels: Mapping[str, Tensor], pixel_values: Tensor, heads: Collection[str]
    ) -> dict[str, Tensor]:
        """All of them, of which the missing ones are said to be missing."""
        batch_size, num_frames, _, height, width = pixel_values.shape
        checked = check_labels(labels, (batch_size, num_frames, height, width), pixel_values.device)
        posed, has_depth, has_points = (
            labels.get(name) is not None for name in ("extrinsics", "depth", "world_points")
        )
        training = self.config.training
        learners = (
            ("camera", self.camera_head, posed, training.camera_loss_weight),
            ("depth", self.depth_head, has_depth, training.depth_loss_weight),
            ("point", self.point_head, posed and (has_depth or has_points), training.point_loss_weight),
        )
        learns_mask = training.mask_loss_weight > 0 and labels.get("motion_mask") is not None
        if not (learns_mask and self.aggregator.mask_head is not None) and not any(
            name in heads and head is not None and labelled and (weight > 0 or not self.training)
            for name, head, labelled, weight in learners
        ):
            raise Page4DError(
                f"The model has no head that learns from labels of {', '.join(sorted(labels))}: the camera head takes "
                "extrinsics and intrinsics, the depth head depth, the point head cameras and depth or world_points; "
                "none that heads= leaves out learns, nor in training one whose loss weighs 0."
            )
        return checked


class Page4DForDepthEstimation(Page4DModel):
    """The depth of single images, as transformers' depth models and its pipeline `depth-estimation` give it.

    Every image is a clip of one frame. For frames of one clip, which share a scale and help each other, there is
    [`Page4DModel`], whose weights these are without its other heads.

    Raises:
        Page4DError: the configuration has no depth head.
    """

    _auto_class = "AutoModelForDepthEstimation"
    _keys_to_ignore_on_load_unexpected = [r"^(camera|point|track)_head\."]  # noqa: RUF012

    def __init__(self, config: Page4DConfig):
        if not config.enable_depth:
            raise Page4DError("Depth estimation needs a depth head, and this model was built with enable_depth=False.")
        config = copy.deepcopy(config)
        config.enable_camera = config.enable_point = config.enable_track = False
        super().__init__(config)

    @can_return_tuple  # type: ignore[untyped-decorator]  # of the library
    def forward(
        self,
        pixel_values: Tensor,
        mask_strength: float | Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        original_sizes: Tensor | None = None,
        image_boxes: Tensor | None = None,
    ) -> Page4DDepthEstimatorOutput:
        r"""
        `mask_strength`, `output_hidden_states` and `output_attentions` are as in [`Page4DModel`].

        Args:
            pixel_values (`torch.FloatTensor` of shape `(num_images, 3, height, width)`):
                Images as [`Page4DModel`] takes them. Of shape `(batch_size, num_frames, 3, height, width)`, as
                [`Page4DImageProcessor`] gives them, they are `batch_size * num_frames` images.
            original_sizes (`torch.Tensor`, *optional*):
                What [`Page4DImageProcessor`] gives; not used.
            image_boxes (`torch.FloatTensor`, *optional*):
                What [`Page4DImageProcessor`] gives; the output carries it on to its `post_process_depth_estimation`.

        Raises:
            Page4DError: as [`Page4DModel`].

        ```python
        >>> import page4d_hf
        >>> from transformers import pipeline

        >>> depth = pipeline("depth-estimation", model="page4d", trust_remote_code=False)
        >>> photo_depth = depth("photo.jpg")["predicted_depth"]
        ```"""
        images = pixel_values.flatten(0, 1) if pixel_values.ndim == 5 else pixel_values
        seen = super().forward(
            images[:, None] if images.ndim == 4 else images,
            mask_strength=mask_strength,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            return_dict=True,
        )
        return Page4DDepthEstimatorOutput(
            predicted_depth=seen.depth[:, 0, ..., 0],
            confidence=seen.depth_conf[:, 0],
            image_boxes=None if image_boxes is None else image_boxes.reshape(-1, 4),
            hidden_states=seen.hidden_states,
            attentions=seen.attentions,
        )


__all__ = [
    "Page4DDepthEstimatorOutput",
    "Page4DForDepthEstimation",
    "Page4DModel",
    "Page4DOutput",
    "Page4DPreTrainedModel",
]
