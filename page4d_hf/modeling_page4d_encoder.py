"""The patch encoder: DINOv2 with registers (arXiv 2304.07193, 2309.16588), of which only the patch tokens are used."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from .configuration_page4d import Page4DConfig
from .modeling_page4d_layers import Page4DLayer, is_static


class Page4DEncoderEmbeddings(nn.Module):
    """Class token, registers and patches of the encoder; position embeddings on all but the registers."""

    def __init__(self, config: Page4DConfig):
        super().__init__()
        self.grid_size = config.image_size // config.patch_size
        hidden_size = config.hidden_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, hidden_size))
        # Only DINOv2's pre-training masks patches; every checkpoint carries the token. It never has a gradient, which
        # processes that share gradients would wait for.
        self.mask_token = nn.Parameter(torch.zeros(1, hidden_size), requires_grad=False)
        self.register_tokens = nn.Parameter(torch.zeros(1, config.encoder_num_register_tokens, hidden_size))
        self.position_embeddings = nn.Parameter(torch.zeros(1, self.grid_size**2 + 1, hidden_size))
        self.patch_embeddings = nn.Conv2d(config.num_channels, hidden_size, config.patch_size, stride=config.patch_size)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Turn normalised images `[N, 3, H, W]` into tokens `[N, 1 + registers + h * w, C]`."""
        patches = self.patch_embeddings(pixel_values)  # [N, C, h, w]
        height, width = patches.shape[-2:]
        patches = patches.flatten(2).transpose(1, 2) + self.resampled_position_embeddings(height, width)
        cls_token = self.cls_token + self.position_embeddings[:, :1]
        prefix = torch.cat((cls_token, self.register_tokens), dim=1)
        return torch.cat((prefix.expand(patches.shape[0], -1, -1), patches), dim=1)

    def resampled_position_embeddings(self, height: int, width: int) -> Tensor:
        """Position embeddings `[1, h * w, C]` of a grid of patches: as they are at the size they were made for."""
        embeddings = self.position_embeddings[:, 1:]
        # In a graph for many sizes none is left out: resampled to the same size they would be the same.
        if is_static(height) and is_static(width) and (height, width) == (self.grid_size, self.grid_size):
            return embeddings
        grid = embeddings.unflatten(1, (self.grid_size, self.grid_size)).permute(0, 3, 1, 2)
        grid = nn.functional.interpolate(
            grid.float(), size=(height, width), mode="bicubic", align_corners=False, antialias=True
        )
        return grid.flatten(2).transpose(1, 2).to(embeddings.dtype)


class Page4DEncoder(nn.Module):
    """DINOv2 with registers, from normalised images to normalised patch tokens."""

    def __init__(self, config: Page4DConfig):
        super().__init__()
        self.num_prefix_tokens = 1 + config.encoder_num_register_tokens
        self.embeddings = Page4DEncoderEmbeddings(config)
        self.layers = nn.ModuleList(
            Page4DLayer(
                config,
                config.hidden_size,
                config.encoder_num_attention_heads,
                layer_norm_eps=config.encoder_layer_norm_eps,
                layerscale_value=config.initialization.encoder_layerscale_value,
            )
            for _ in range(config.encoder_num_hidden_layers)
        )
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.encoder_layer_norm_eps)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encode normalised images `[N, 3, H, W]` of whole patches to patch tokens `[N, h * w, C]`, row by row."""
        hidden_states = self.embeddings(pixel_values)
        for layer in self.layers:
            hidden_states, _ = layer(hidden_states)
        return cast(Tensor, self.norm(hidden_states[:, self.num_prefix_tokens :]))
