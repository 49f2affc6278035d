"""The sizes and switches of PAGE-4D."""

import os
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from .errors import Page4DError, telling_how_to_get

# No `from __future__ import annotations` here: `@strict` checks values against the annotations as they stand.

MASK_FORMS = ("release", "paper")
CAMERA_LOSSES = ("l1", "huber")
INITIAL_EMBEDDINGS = ("random", "smooth")
INITIAL_ATTENTIONS = ("random", "same_place")
# Where weights come from; `model_card` has the licence of each.
BASE_WEIGHTS = ("page4d", "vggt", "vggt-commercial", "page4d-tiny")
DTYPES = ("float32", "float16", "bfloat16", "float64")
# Counts and widths with the least and the greatest value of each. The greatest are far beyond any network that was
# trained, and keep a configuration of somebody else from taking all memory, or all time.
WIDTH, FEW = (1, 2**16), (1, 1000)
BOUNDS = {
    "image_size": WIDTH, "patch_size": WIDTH, "num_channels": FEW, "hidden_size": WIDTH,
    "encoder_num_hidden_layers": FEW, "encoder_num_attention_heads": FEW, "encoder_num_register_tokens": (0, 1000),
    "num_hidden_layers": FEW, "num_attention_heads": FEW, "num_register_tokens": (0, 1000),
    "mask_hidden_size": WIDTH, "camera_num_hidden_layers": FEW, "camera_num_attention_heads": FEW,
    "camera_num_iterations": FEW, "dense_hidden_size": WIDTH, "dense_output_channels": WIDTH,
    "track_hidden_size": WIDTH, "track_transformer_size": WIDTH, "track_num_hidden_layers": FEW,
    "track_num_attention_heads": FEW, "track_num_virtual_tracks": WIDTH, "track_num_iterations": FEW,
    "track_corr_levels": FEW, "track_corr_radius": (0, 1000),
}  # fmt: skip
MOST_PARAMETERS = 10_000_000_000  # the published network has 1.2 billion
MOST = 1e12  # what no value here comes near, and any float can hold


class _Group(PreTrainedConfig):
    """Values of a [`Page4DConfig`] that no network is computed with."""

    def __post_init__(self, **kwargs: Any) -> None:
        if kwargs:
            raise Page4DError(
                f"There is no value called {', '.join(map(str, kwargs))} in {self.base_config_key}; the known ones are "
                f"{', '.join(type(self).__annotations__)}."
            )
        super().__post_init__()  # type: ignore[no-untyped-call]  # of the library

    def to_dict(self) -> dict[str, Any]:
        """Its own values alone. What the library has in every configuration belongs to the network's."""
        values = {name: getattr(self, name) for name in type(self).__annotations__}
        return {**values, "transformers_version": None}  # which the library takes out of nested configurations


@strict
class Page4DInitializationConfig(_Group):
    r"""
    How the weights of a new [`Page4DModel`] start. `initializer_range` is in [`Page4DConfig`], as everywhere in
    transformers.

    Args:
        encoder_layerscale_value (`float`, defaults to 1.0):
            Layer scale of the patch encoder.
        layerscale_value (`float`, defaults to 0.01):
            Layer scale of the aggregator and the camera head.
        patch_embedding (`str`, defaults to `"random"`):
            How the patch embedding starts, in a network that is trained from nothing. `"smooth"`: with filters that see
            coarse patterns more than fine ones, so that a patch that has moved by less than its size still looks like
            itself.
        global_attention (`str`, defaults to `"random"`):
            How the weights of the global blocks start, in a network that is trained from nothing. `"same_place"`: every
            patch attends to the patches at its own place in all frames, and the first global block takes their mean
            from it, so that changes over time are there to learn from at once; otherwise a network has to come upon
            them by chance, see `initialization_page4d`. With a mask only the layers before the first masked one start
            so.
    """

    base_config_key = "initialization"

    encoder_layerscale_value: float | int = 1.0
    layerscale_value: float | int = 0.01
    patch_embedding: str = "random"
    global_attention: str = "random"

    def validate_architecture(self) -> None:
        """Refuse values that no network can start from."""
        _check_numbers(self)
        for name, known in (("patch_embedding", INITIAL_EMBEDDINGS), ("global_attention", INITIAL_ATTENTIONS)):
            if getattr(self, name) not in known:
                raise Page4DError(f"{name} is {getattr(self, name)!r}; it must be one of {known}.")


@strict
class Page4DTrainingConfig(_Group):
    r"""
    What a [`Page4DModel`] is trained by: the loss (see `loss_page4d`), and the schedule of the mask's strength.

    Args:
        mask_hold_start, mask_hold_end (`int`, *optional*, default to 6000 and 10000):
            In training the strength is 1 up to optimizer step `mask_hold_start` and then follows a half cosine to 0 at
            `mask_hold_end`, whatever `mask_strength` is; [`Page4DModel.set_training_step`] counts the steps. Without
            them (`None`) training uses `mask_strength` too.
        camera_loss (`str`, defaults to `"l1"`):
            What the errors of the cameras are put into: `"l1"` as the published network was trained, or `"huber"` as
            the paper says.
        camera_huber_delta (`float`, defaults to 0.1):
            Error at which Huber turns from the square to the absolute value. It is divided by this, so that its slope
            beyond is 1 as that of `"l1"`. Neither paper nor release states one.
        camera_loss_weight (`float`, defaults to 5.0), depth_loss_weight, point_loss_weight (`float`, default to 1.0):
            Weights of the cameras, depth and points in the loss. See `loss_page4d`. A dense head whose loss weighs
            nothing is not run in training.
        fov_loss_weight (`float`, defaults to 0.5):
            Weight of the fields of view beside rotation and translation in the loss on cameras.
        mask_loss_weight (`float`, defaults to 0.0):
            Weight of a loss on the mask head itself, from labels of what moves. The published network was trained
            without: its mask head learns from the cameras alone.
        loss_quantile (`float`, defaults to 0.98):
            Pixels whose terms of depth or points lie at or above this quantile of the batch are left out, as long as
            over 1000 remain. 1 keeps them all.
    """

    base_config_key = "training"

    mask_hold_start: int | None = 6000
    mask_hold_end: int | None = 10000
    camera_loss: str = "l1"
    camera_huber_delta: float | int = 0.1
    camera_loss_weight: float | int = 5.0
    fov_loss_weight: float | int = 0.5
    depth_loss_weight: float | int = 1.0
    point_loss_weight: float | int = 1.0
    mask_loss_weight: float | int = 0.0
    loss_quantile: float | int = 0.98

    def validate_architecture(self) -> None:
        """Refuse values that nothing can be trained by."""
        _check_numbers(self)
        if self.camera_loss not in CAMERA_LOSSES:
            raise Page4DError(f"camera_loss is {self.camera_loss!r}; it must be one of {CAMERA_LOSSES}.")
        if not self.camera_huber_delta > 0:
            raise Page4DError(f"camera_huber_delta is {self.camera_huber_delta}; it must be greater than 0.")
        for name in type(self).__annotations__:
            if name.endswith("_weight") and getattr(self, name) < 0:
                raise Page4DError(f"{name} is {getattr(self, name)}; it must be a number that is not negative.")
        if not 0 < self.loss_quantile <= 1:
            raise Page4DError(f"loss_quantile is {self.loss_quantile}; it must lie in (0, 1].")
        start, end = self.mask_hold_start, self.mask_hold_end
        if (start is None) != (end is None):
            raise Page4DError(f"mask_hold_start and mask_hold_end must both be given or both None, not {start}, {end}.")
        if start is not None and end is not None and not 0 <= start < end:
            raise Page4DError(f"mask_hold_start must lie in 0 ... mask_hold_end - 1; the two are {start} and {end}.")


GROUPS = {"initialization": Page4DInitializationConfig, "training": Page4DTrainingConfig}


@strict
class Page4DConfig(PreTrainedConfig):
    r"""
    Configuration of a [`Page4DModel`]. The defaults are the published network: 1,190,869,017 parameters.

    VGGT is the same network without the mask: `mask_form=None`.

    Args:
        image_size (`int`, defaults to 518):
            Side in pixels of the square images that the encoder's position embeddings are laid out for. Other sizes
            work: the embeddings are resampled.
        patch_size (`int`, defaults to 14):
            Side of a patch in pixels. Image height and width must be multiples of it.
        num_channels (`int`, defaults to 3):
            Colour channels of the images.
        image_mean, image_std (`tuple[float, ...]`):
            Per-channel mean and standard deviation that the model normalises its [0, 1] input with (ImageNet's).
        hidden_size (`int`, defaults to 1024):
            Width C of the encoder and of the aggregator.
        hidden_act (`str`, defaults to `"gelu"`):
            Activation of the transformer MLPs.
        mlp_ratio (`float`, defaults to 4.0):
            Width of the transformer MLPs over the width of their layer.
        initializer_range (`float`, defaults to 0.02):
            Standard deviation of randomly initialised weights.
        encoder_num_hidden_layers (`int`, defaults to 24):
            Layers of the patch encoder, a DINOv2 ViT with registers.
        encoder_num_attention_heads (`int`, defaults to 16):
            Attention heads of the patch encoder.
        encoder_num_register_tokens (`int`, defaults to 4):
            Register tokens of the patch encoder (not those of the aggregator).
        encoder_layer_norm_eps (`float`, defaults to 1e-6):
            Epsilon of the patch encoder's LayerNorms.
        num_hidden_layers (`int`, defaults to 24):
            Layers of the aggregator. A layer is a frame-attention block and then a global-attention block.
        num_attention_heads (`int`, defaults to 16):
            Attention heads of the aggregator.
        num_register_tokens (`int`, defaults to 4):
            Register tokens per frame in the aggregator, beside the one camera token.
        layer_norm_eps (`float`, defaults to 1e-5):
            Epsilon of the LayerNorms outside the encoder.
        rope_theta (`float`, defaults to 100.0):
            Base of the aggregator's 2-D rotary position embedding.
        mask_form (`str`, *optional*, defaults to `"release"`):
            `"release"` for the mask of the published checkpoint, `"paper"` for Equations 5 and 6 of the paper, `None`
            for a network without a mask head. See `modeling_page4d_aggregator`.
        mask_layer (`int`, defaults to 9):
            The aggregator layer after whose frame block the mask is predicted, the last of the first stage.
        masked_layers (`list[int]`, defaults to 10, ..., 19):
            The layers in whose global block the mask is applied, the second stage. The paper's stages of 8, 10 and 6
            layers are `mask_layer=7, masked_layers=range(8, 18)`.
        mask_hidden_size (`int`, defaults to 256):
            Hidden channels of the mask head.
        mask_scale (`float`, defaults to 64.0):
            Logit bias of the `"release"` form at full strength for a mask value of 1.
        mask_strength (`float`, defaults to 1.0):
            Strength in [0, 1] of the mask at inference: 1 for the masked checkpoint, 0 for the unmasked.
        enable_camera, enable_depth, enable_point (`bool`, default to `True`):
            Which heads the model has.
        enable_track (`bool`, defaults to `False`):
            Whether it has a track head too.
        head_layers (`list[int]`, defaults to 4, 11, 17, 23):
            The four aggregator layers that the dense heads read, in ascending order. The camera head reads the last
            layer of the aggregator.
        camera_num_hidden_layers (`int`, defaults to 4), camera_num_attention_heads (`int`, defaults to 16):
            Transformer blocks of the camera head and their attention heads.
        camera_num_iterations (`int`, defaults to 4):
            Refinement iterations of the camera head.
        dense_hidden_size (`int`, defaults to 256):
            Channels in which the depth and point heads fuse their four levels.
        dense_channels (`list[int]`):
            Channels of the four levels before the fusion, from fine to coarse.
        dense_output_channels (`int`, defaults to 32):
            Channels before the last convolution of the depth and point heads.
        dense_frames_per_chunk (`int`, *optional*, defaults to 8):
            Frames that the dense heads work on at once, which bounds their memory. `None` for all at once. It does
            not change the result.
        track_hidden_size (`int`, defaults to 128):
            Channels of the features that are tracked.
        track_transformer_size (`int`, defaults to 384):
            Width of the track head's transformer.
        track_num_hidden_layers (`int`, defaults to 6), track_num_attention_heads (`int`, defaults to 8):
            Layers of that transformer, and their attention heads.
        track_num_virtual_tracks (`int`, defaults to 64):
            Learned tokens through which the tracks of one frame exchange information.
        track_num_iterations (`int`, defaults to 4):
            Refinement iterations of the track head.
        track_corr_levels (`int`, defaults to 7), track_corr_radius (`int`, defaults to 4):
            Pyramid levels, and radius in pixels of the windows, in which a track is correlated with the features.
        base_weights (`str`, *optional*):
            Where the weights come from, which decides their licence: `"page4d"`, `"vggt"`, `"vggt-commercial"` or
            `"page4d-tiny"`. `None`: not known, or from nothing. [`Page4DModel.save_pretrained`] puts it into the card.
        trained_on (`list[str]`, defaults to none):
            The data that the weights were trained on since, for the card.
        initialization ([`Page4DInitializationConfig`] or `dict`, *optional*):
            How new weights start. Of no effect on weights that are loaded.
        training ([`Page4DTrainingConfig`] or `dict`, *optional*):
            The loss, and the mask's schedule. Of no effect at inference.

    Sizes and counts have bounds (`BOUNDS` in this module), and all together at most 10 billion parameters.

    ```python
    >>> from page4d_hf import Page4DConfig, Page4DModel

    >>> configuration = Page4DConfig()
    >>> model = Page4DModel(configuration)  # random weights
    ```
    """

    model_type = "page4d"
    _auto_class = "AutoConfig"  # has a saved folder carry this file
    # What Trainer does not gather from every evaluated batch.
    keys_to_ignore_at_inference = ["loss_terms", "pose_enc_stages", "hidden_states", "attentions"]  # noqa: RUF012

    image_size: int = 518
    patch_size: int = 14
    num_channels: int = 3
    image_mean: list[float | int] | tuple[float | int, ...] = (0.485, 0.456, 0.406)
    image_std: list[float | int] | tuple[float | int, ...] = (0.229, 0.224, 0.225)
    hidden_size: int = 1024
    hidden_act: str = "gelu"
    mlp_ratio: float | int = 4.0
    initializer_range: float | int = 0.02

    encoder_num_hidden_layers: int = 24
    encoder_num_attention_heads: int = 16
    encoder_num_register_tokens: int = 4
    encoder_layer_norm_eps: float | int = 1e-6

    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    num_register_tokens: int = 4
    layer_norm_eps: float | int = 1e-5
    rope_theta: float | int = 100.0

    mask_form: str | None = "release"
    mask_layer: int = 9
    masked_layers: list[int] | tuple[int, ...] | range = tuple(range(10, 20))
    mask_hidden_size: int = 256
    mask_scale: float | int = 64.0
    mask_strength: float | int = 1.0

    enable_camera: bool = True
    enable_depth: bool = True
    enable_point: bool = True
    enable_track: bool = False
    head_layers: list[int] | tuple[int, ...] = (4, 11, 17, 23)

    camera_num_hidden_layers: int = 4
    camera_num_attention_heads: int = 16
    camera_num_iterations: int = 4

    dense_hidden_size: int = 256
    dense_channels: list[int] | tuple[int, ...] = (256, 512, 1024, 1024)
    dense_output_channels: int = 32
    dense_frames_per_chunk: int | None = 8

    track_hidden_size: int = 128
    track_transformer_size: int = 384
    track_num_hidden_layers: int = 6
    track_num_attention_heads: int = 8
    track_num_virtual_tracks: int = 64
    track_num_iterations: int = 4
    track_corr_levels: int = 7
    track_corr_radius: int = 4

    base_weights: str | None = None
    trained_on: list[str] | tuple[str, ...] = ()

    # Not in `sub_configs`, which the library hands a dtype and an attention implementation: these have no network.
    initialization: Any = None
    training: Any = None

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """As in every configuration of transformers; what is missing is said to be so, with how to get it.

        Raises:
            OSError: there is no such folder, and no such repository that can be reached.
            Page4DError: `config.json` holds no object.
        """
        with telling_how_to_get(pretrained_model_name_or_path):
            return super().get_config_dict(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def _dict_from_json_file(cls, json_file: str | os.PathLike[str]) -> dict[str, Any]:
        try:
            values = super()._dict_from_json_file(json_file)
        except RecursionError:
            raise Page4DError(f"{json_file} is nested too deep; expected the configuration of a network.") from None
        if not isinstance(values, dict):
            raise Page4DError(f"{json_file} holds no JSON object; expected the configuration of a network.")
        return values

    def __setattr__(self, key: str, value: Any) -> None:
        if (group := GROUPS.get(key)) is not None and not isinstance(value, group):
            if value is not None and not isinstance(value, dict):
                raise Page4DError(f"{key} is a {type(value).__name__}; it must be a {group.__name__} or a dict.")
            value = group(**(value or {}))
        super().__setattr__(key, value)  # type: ignore[no-untyped-call]  # of the library

    def __post_init__(self, **kwargs: Any) -> None:
        # As JSON gives them back.
        for name in ("image_mean", "image_std", "masked_layers", "head_layers", "dense_channels", "trained_on"):
            setattr(self, name, list(getattr(self, name)))
        kwargs.pop("num_labels", None)  # of classifiers: the library would make as many labels
        for name in kwargs:
            for key, group in GROUPS.items():
                if name in group.__annotations__:
                    raise Page4DError(f"{name} is a value of {key}: give it as {key}={{{name!r}: ...}}.")
            if callable(getattr(type(self), name, None)):
                raise Page4DError(f"{name} is no value of a configuration; remove it.")
        if isinstance(self.dtype, str) and self.dtype not in DTYPES:
            raise Page4DError(f"dtype is {self.dtype!r:.50}; it must be one of {', '.join(DTYPES)}.")
        try:
            super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]  # of the library
        except (AttributeError, TypeError) as error:  # of values that are the library's own
            raise Page4DError(f"The configuration has a value of another type than it must have: {error}.") from error

    def validate_architecture(self) -> None:
        """Refuse values that no network can be built from."""
        self._validate_numbers()
        if not self.hidden_size * self.mlp_ratio >= 1:
            raise Page4DError(f"mlp_ratio is {self.mlp_ratio}, which leaves nothing of hidden_size {self.hidden_size}.")
        if self.hidden_act not in ACT2FN:
            raise Page4DError(f"hidden_act is {self.hidden_act!r}; it must be one of {', '.join(ACT2FN)}.")
        for name, size, heads, multiple in (
            ("hidden_size", self.hidden_size, "num_attention_heads", 4),  # rotary: two axes, each in pairs
            ("hidden_size", self.hidden_size, "encoder_num_attention_heads", 1),
            ("2 * hidden_size", 2 * self.hidden_size, "camera_num_attention_heads", 1),
            ("track_transformer_size", self.track_transformer_size, "track_num_attention_heads", 1),
        ):
            if size % (multiple * getattr(self, heads)):
                raise Page4DError(
                    f"{name} is {size}, which {heads} = {getattr(self, heads)} does not divide into heads"
                    + (f" of a width that is a multiple of {multiple}." if multiple > 1 else ".")
                )
        if self.image_size % self.patch_size:
            raise Page4DError(f"image_size is {self.image_size}, which is no multiple of patch_size {self.patch_size}.")
        if len(self.image_mean) != self.num_channels or len(self.image_std) != self.num_channels:
            raise Page4DError(
                f"image_mean and image_std need {self.num_channels} values, one per channel; "
                f"they have {len(self.image_mean)} and {len(self.image_std)}."
            )
        for name in ("initializer_range", "encoder_layer_norm_eps", "layer_norm_eps"):
            if getattr(self, name) < 0:
                raise Page4DError(f"{name} is {getattr(self, name)}; it must be at least 0.")
        for name, values in (("rope_theta", [self.rope_theta]), ("image_std", self.image_std)):
            if min(values) <= 0:
                raise Page4DError(f"{name} is {getattr(self, name)}; it must be above 0.")
        self._validate_mask()
        if any(channels % 4 or channels < 4 for channels in (*self.dense_channels, self.dense_hidden_size // 2)):
            raise Page4DError(
                "dense_channels and half of dense_hidden_size must be multiples of 4, for the position embedding; "
                f"they are {list(self.dense_channels)} and {self.dense_hidden_size // 2}."
            )
        if self.track_hidden_size % 4:
            raise Page4DError(
                f"track_hidden_size is {self.track_hidden_size}; it must be a multiple of 4, for position embeddings."
            )
        if len(self.dense_channels) != 4 or len(self.head_layers) != 4:
            raise Page4DError(
                "The dense heads read four levels; dense_channels and head_layers need four values each, "
                f"they have {len(self.dense_channels)} and {len(self.head_layers)}."
            )
        if not all(0 <= layer < self.num_hidden_layers for layer in self.head_layers):
            raise Page4DError(
                f"head_layers {list(self.head_layers)} must lie in 0 ... num_hidden_layers - 1 = "
                f"{self.num_hidden_layers - 1}."
            )
        if self.dense_frames_per_chunk is not None and self.dense_frames_per_chunk < 1:
            raise Page4DError(
                f"dense_frames_per_chunk is {self.dense_frames_per_chunk}; it must be at least 1, or None."
            )

    def _validate_numbers(self) -> None:
        _check_numbers(self)
        for name, (least, most) in BOUNDS.items():
            if not getattr(self, name) >= least:
                raise Page4DError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
            if getattr(self, name) > most:
                raise Page4DError(f"{name} is {getattr(self, name)}; it must be at most {most:,}.")
        if max(map(len, (self.masked_layers, self.head_layers, self.dense_channels)), default=0) > FEW[1]:
            raise Page4DError(f"masked_layers, head_layers and dense_channels may have {FEW[1]:,} values at most.")
        if self.base_weights is not None and self.base_weights not in BASE_WEIGHTS:
            raise Page4DError(f"base_weights is {self.base_weights!r:.50}; it must be one of {BASE_WEIGHTS}, or None.")
        if (count := self._least_parameters()) > MOST_PARAMETERS:
            raise Page4DError(
                f"These sizes make a network of over {count:.1e} parameters; it may have {MOST_PARAMETERS:,} at most."
            )

    def _least_parameters(self) -> float:
        """About how many parameters the network has: the large matrices alone."""
        width, block = self.hidden_size, 4 + 2 * max(self.mlp_ratio, 0)  # matrices of width x width in a block
        tokens = (self.image_size / self.patch_size) ** 2 + self.encoder_num_register_tokens + self.num_register_tokens
        count = block * width**2 * (self.encoder_num_hidden_layers + 2 * self.num_hidden_layers)
        count += width * (tokens + self.num_channels * self.patch_size**2 + self.mask_hidden_size)
        if self.enable_camera:
            count += block * (2 * width) ** 2 * self.camera_num_hidden_layers
        dense, last = self.dense_hidden_size, self.dense_output_channels
        levels = sum(2 * width * channels + 9 * channels * dense for channels in self.dense_channels)
        levels += 25 * max(self.dense_channels, default=0) ** 2
        count += (self.enable_depth + self.enable_point) * (levels + 9 * dense * (14 * dense + last))
        if self.enable_track:
            track, inner = self.track_hidden_size, self.track_transformer_size
            window = self.track_corr_levels * (2 * self.track_corr_radius + 1) ** 2
            count += levels + 126 * track**2 + inner * (5 * track + window + self.track_num_virtual_tracks)
            count += 4 * block * inner**2 * self.track_num_hidden_layers
        return count

    def _validate_mask(self) -> None:
        if self.mask_form is None:
            return
        if self.mask_form not in MASK_FORMS:
            raise Page4DError(f"mask_form is {self.mask_form!r}; it must be one of {MASK_FORMS}, or None.")
        if not 0 <= self.mask_layer < self.num_hidden_layers:
            raise Page4DError(
                f"mask_layer is {self.mask_layer}; it must lie in 0 ... num_hidden_layers - 1 = "
                f"{self.num_hidden_layers - 1} (or set mask_form=None)."
            )
        if not all(self.mask_layer <= layer < self.num_hidden_layers for layer in self.masked_layers):
            raise Page4DError(
                f"masked_layers {list(self.masked_layers)} must lie in mask_layer ... num_hidden_layers - 1 = "
                f"{self.mask_layer} ... {self.num_hidden_layers - 1}: the mask exists only from mask_layer on."
            )
        if not 0 <= self.mask_strength <= 1:
            raise Page4DError(f"mask_strength is {self.mask_strength}; it must lie in [0, 1].")


def _check_numbers(config: PreTrainedConfig) -> None:
    for name, annotation in type(config).__annotations__.items():
        value = getattr(config, name)
        values = value if isinstance(value, list) else [value]
        if any(isinstance(one, bool) for one in values) and annotation is not bool:
            raise Page4DError(f"{name} is {value!r}; it must be a number.")
        if any(isinstance(one, (int, float)) and not abs(one) <= MOST for one in values):
            raise Page4DError(f"{name} is {value!r:.50}; it must be a finite number.")


__all__ = ["Page4DConfig", "Page4DInitializationConfig", "Page4DTrainingConfig"]
