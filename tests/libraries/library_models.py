"""Models of libraries in small configurations, with random weights, and the samples that they are used with.

Nothing is downloaded, and a library is imported when one of its models is built. Names of layers are those of the
versions that `pyproject.toml` asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import nn

Maps = Callable[[torch.Tensor], torch.Tensor]  # from a layer's output to (N, C, *units), by hand


def channels_first(output: torch.Tensor) -> torch.Tensor:
    """Return the output of a layer that is (N, C, *units) as it is."""
    return output


def channels_last(output: torch.Tensor) -> torch.Tensor:
    """Return the maps of an output (N, *units, C)."""
    return output.movedim(-1, 1)


def tokens(height: int, width: int, leading: int = 0) -> Maps:
    """Return a function that gives the maps of tokens (N, leading + height * width, C)."""
    return lambda output: output[:, leading:].transpose(1, 2).unflatten(2, (height, width))


def plain_call(model: nn.Module, images: torch.Tensor) -> Any:
    """Return what a model returns, called on a batch of images and nothing else."""
    return model(images)


def plain_sample(image: torch.Tensor, index: int) -> Any:
    """Return a sample of a data set of images and classes."""
    return image, index


def logits_in(output: Any) -> torch.Tensor:
    """Return one score for each image: the mean of its first channel or class, in an output of any form."""
    while not isinstance(output, torch.Tensor):
        output = next(iter(output.values())) if isinstance(output, Mapping) else output[0]
    return output[:, 0].reshape(len(output), -1).mean(1)


@dataclass(frozen=True)
class LibraryModel:
    """A model as its library builds it, its samples, and which axes of some of its layers are which."""

    library: str
    name: str
    build: Callable[[ModuleType], nn.Module]  # from the library
    shape: tuple[int, ...]  # of one image
    layers: Mapping[str, Maps]
    call: Callable[[nn.Module, torch.Tensor], Any] = plain_call
    inputs: Callable[[torch.Tensor], tuple[Any, ...]] = lambda images: (images,)
    sample: Callable[[torch.Tensor, int], Any] = plain_sample
    collate: Callable[[list[Any]], Any] | None = None
    forward: Callable[[nn.Module, Any], Any] | None = None  # where the batch alone does not say how the model is called
    score: Callable[[Any], torch.Tensor] = logits_in
    refused: Mapping[str, str] = field(default_factory=dict)  # function -> the reason, where it is not for this model
    ci: bool = False
    slow: bool = False  # takes so long that it runs only where all libraries are installed

    def __str__(self) -> str:
        return f"{self.library}-{self.name}"

    def built(self) -> nn.Module:
        """Return the model in evaluation mode, with the same weights each time."""
        torch.manual_seed(0)
        return self.build(import_module(self.library)).eval()

    def images(self, count: int = 2) -> torch.Tensor:
        """Return images with values between 0 and 1, the same each time."""
        return torch.rand(count, *self.shape, generator=torch.Generator().manual_seed(1))

    def samples(self, count: int = 4) -> list[Any]:
        """Return a data set."""
        return [self.sample(image, index) for index, image in enumerate(self.images(count))]


SMP = "segmentation_models_pytorch"


def torchvision_models() -> Iterator[LibraryModel]:
    """Yield classifiers, a segmenter, detectors and a network for videos."""

    def plain(name: str, **options: Any) -> Callable[[ModuleType], nn.Module]:
        return lambda tv: tv.models.get_model(name, weights=None, num_classes=5, **options)

    small = (3, 64, 64)
    yield LibraryModel(
        "torchvision",
        "ResNet-18",
        plain("resnet18"),
        small,
        {"conv1": channels_first, "layer2": channels_first},
        ci=True,
    )
    yield LibraryModel("torchvision", "VGG-11", plain("vgg11"), (3, 32, 32), {"features.3": channels_first})
    yield LibraryModel(
        "torchvision",
        "GoogLeNet",
        plain("googlenet", aux_logits=False, init_weights=False),
        small,
        {"inception3a": channels_first},
    )
    yield LibraryModel(
        "torchvision", "DenseNet-121", plain("densenet121"), small, {"features.denseblock1": channels_first}
    )
    yield LibraryModel("torchvision", "MobileNetV3", plain("mobilenet_v3_small"), small, {"features.4": channels_first})
    yield LibraryModel(
        "torchvision", "EfficientNet-B0", plain("efficientnet_b0"), small, {"features.2": channels_first}
    )
    yield LibraryModel("torchvision", "ShuffleNetV2", plain("shufflenet_v2_x0_5"), small, {"stage2": channels_first})
    yield LibraryModel(
        "torchvision",
        "ConvNeXt",
        lambda tv: tv.models.ConvNeXt(
            [tv.models.convnext.CNBlockConfig(8, 16, 2), tv.models.convnext.CNBlockConfig(16, None, 1)], num_classes=5
        ),
        (3, 32, 32),
        {"features.1.0.block.0": channels_first, "features.1.0.block.3": channels_last, "features.3": channels_first},
    )
    yield LibraryModel(
        "torchvision",
        "Swin",
        lambda tv: tv.models.SwinTransformer([4, 4], 8, [2, 2], [2, 2], [4, 4], num_classes=5),
        (3, 64, 64),
        {"features.1.0.norm1": channels_last, "features.3": channels_last},
        ci=True,
    )
    yield LibraryModel(
        "torchvision",
        "ViT",
        lambda tv: tv.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5),
        (3, 32, 32),
        {"conv_proj": channels_first, "encoder.layers.encoder_layer_1.mlp": tokens(4, 4, 1)},
    )
    yield LibraryModel(
        "torchvision",
        "LR-ASPP",
        lambda tv: tv.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5),
        small,
        {"backbone.4": channels_first, "classifier.low_classifier": channels_first},
        score=lambda output: logits_in(output["out"]),
    )
    yield LibraryModel(
        "torchvision",
        "R3D-18",
        plain("r3d_18"),
        (3, 4, 32, 32),
        {"stem.0": channels_first, "layer2": channels_first},
    )
    detector: dict[str, Any] = {
        "call": lambda model, images: model(list(images)),
        "inputs": lambda images: (list(images),),
        "sample": lambda image, index: (image, {"boxes": torch.zeros(index, 4), "labels": torch.zeros(index).long()}),
        "collate": lambda batch: tuple(zip(*batch, strict=True)),
        "score": lambda found: torch.stack([one["scores"].sum() for one in found]),
    }
    yield LibraryModel(
        "torchvision",
        "SSDLite",
        lambda tv: tv.models.detection.ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=3
        ),
        (3, 320, 320),
        {"backbone.features.0.2": channels_first},
        **detector,
    )
    yield LibraryModel(
        "torchvision",
        "Faster R-CNN",
        lambda tv: tv.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=64
        ),
        (3, 64, 64),
        {"backbone.body.4": channels_first, "backbone.fpn.layer_blocks.0": channels_first},
        **detector,
        ci=True,
        slow=True,
    )


def timm_models() -> Iterator[LibraryModel]:
    """Yield convolutional networks, transformers and hybrids."""

    def plain(name: str, **options: Any) -> Callable[[ModuleType], nn.Module]:
        return lambda timm: timm.create_model(name, pretrained=False, num_classes=5, **options)

    small = (3, 64, 64)
    yield LibraryModel("timm", "ResNet", plain("test_resnet"), small, {"layer1": channels_first}, ci=True)
    yield LibraryModel("timm", "EfficientNet", plain("test_efficientnet"), small, {"blocks.1": channels_first})
    yield LibraryModel("timm", "NFNet", plain("test_nfnet"), small, {"stages.0": channels_first})
    yield LibraryModel(
        "timm",
        "ConvNeXt",
        plain("test_convnext"),
        small,
        {"stages.0": channels_first, "stages.0.blocks.0.mlp.fc1": channels_last},
    )
    yield LibraryModel(
        "timm",
        "ViT",
        plain("test_vit", img_size=64),
        small,
        {"blocks.1": tokens(4, 4, 1), "norm": tokens(4, 4, 1)},
        ci=True,
    )
    yield LibraryModel(
        "timm",
        "ViT with registers",
        plain("test_vit", img_size=64, reg_tokens=3),
        small,
        {"blocks.1": tokens(4, 4, 4)},
    )
    yield LibraryModel(
        "timm",
        "Swin",
        plain(
            "swin_tiny_patch4_window7_224", img_size=64, embed_dim=16, depths=(2, 2), num_heads=(2, 2), window_size=4
        ),
        small,
        {"layers.0": channels_last, "layers.1.blocks.1": channels_last},
    )
    yield LibraryModel(
        "timm",
        "PVTv2",
        plain("pvt_v2_b0", depths=(1, 1, 1, 1)),
        small,
        {"stages.0": channels_first, "stages.0.blocks.0.mlp.fc1": tokens(16, 16)},
    )
    yield LibraryModel(
        "timm",
        "PoolFormer",
        plain("poolformer_s12"),
        small,
        {"stages.1": channels_first},
    )
    yield LibraryModel(
        "timm",
        "MobileViT",
        plain("mobilevit_xxs"),
        (3, 128, 128),
        {"stages.1": channels_first, "stages.3": channels_first},
    )
    yield LibraryModel("timm", "EdgeNeXt", plain("edgenext_xx_small"), small, {"stages.0": channels_first})
    yield LibraryModel("timm", "MLP-Mixer", plain("mixer_s32_224", img_size=64), small, {"blocks.0": tokens(2, 2)})
    yield LibraryModel(
        "timm",
        "features_only",
        lambda timm: timm.create_model("test_resnet", pretrained=False, features_only=True),
        small,
        {"layer1": channels_first},
        score=lambda output: logits_in(output[-1]),
    )


def transformers_models() -> Iterator[LibraryModel]:
    """Yield classifiers, segmenters and encoders of Hugging Face, on samples with `pixel_values` and `labels`."""
    options: dict[str, Any] = {
        "sample": lambda image, index: {"pixel_values": image, "labels": index % 2},
        "score": lambda output: logits_in(output[0]),
    }
    small: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    patches = {"image_size": 32, "patch_size": 8}

    def plain(kind: str, head: str, **settings: Any) -> Callable[[ModuleType], nn.Module]:
        return lambda hf: getattr(hf, f"{kind}{head}")(getattr(hf, f"{kind}Config")(**settings))

    image = (3, 32, 32)
    classifier = "ForImageClassification"
    yield LibraryModel(
        "transformers",
        "ViT",
        plain("ViT", classifier, **small, **patches),
        image,
        {"vit.layernorm": tokens(4, 4, 1)},
        **options,
        ci=True,
    )
    yield LibraryModel(
        "transformers",
        "DINOv2 with registers",
        plain("Dinov2WithRegisters", "Model", **{**small, "mlp_ratio": 2}, **patches, num_register_tokens=3),
        image,
        {"layernorm": tokens(4, 4, 4)},
        **options,
    )
    yield LibraryModel(
        "transformers",
        "BEiT",
        plain("Beit", classifier, **small, **patches),
        image,
        {"beit.layers.0": tokens(4, 4, 1)},
        **options,
    )
    yield LibraryModel(
        "transformers",
        "CLIP, vision",
        plain("CLIPVision", "Model", **small, **patches),
        image,
        {"encoder.layers.0.mlp": tokens(4, 4, 1)},
        **options,
    )
    yield LibraryModel(
        "transformers",
        "Swin",
        plain(
            "Swin",
            classifier,
            image_size=64,
            patch_size=4,
            embed_dim=16,
            depths=[2, 2],
            num_heads=[2, 2],
            window_size=4,
        ),
        (3, 64, 64),
        {"swin.encoder.layers.0.blocks.0.layernorm_before": tokens(16, 16), "swin.layernorm": tokens(8, 8)},
        **options,
    )
    yield LibraryModel(
        "transformers",
        "ConvNeXt",
        plain("ConvNext", classifier, hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1]),
        (3, 64, 64),
        {"convnext.encoder.stages.1": channels_first, "convnext.encoder.stages.1.layers.0.pwconv1": channels_last},
        **options,
    )
    yield LibraryModel(
        "transformers",
        "ResNet",
        plain("ResNet", classifier, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
        (3, 64, 64),
        {"resnet.encoder.stages.1": channels_first},
        **options,
    )
    yield LibraryModel(
        "transformers",
        "MobileNetV2",
        plain("MobileNetV2", classifier, depth_multiplier=0.25),
        (3, 64, 64),
        {"mobilenet_v2.layer.2": channels_first},
        **options,
    )
    yield LibraryModel(
        "transformers",
        "SegFormer",
        plain(
            "Segformer",
            "ForSemanticSegmentation",
            hidden_sizes=[8, 16, 16, 16],
            num_attention_heads=[1, 2, 2, 2],
            depths=[1] * 4,
            decoder_hidden_size=16,
        ),
        (3, 64, 64),
        {"segformer.stages.0.layer_norm": tokens(16, 16), "decode_head.classifier": channels_first},
        **{**options, "sample": lambda image, index: {"pixel_values": image, "labels": torch.zeros(64, 64).long()}},
        ci=True,
    )
    yield LibraryModel(
        "transformers",
        "DPT",
        plain(
            "DPT",
            "ForDepthEstimation",
            **{**small, "num_hidden_layers": 4},
            **patches,
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[8] * 4,
            fusion_hidden_size=8,
            is_hybrid=False,
        ),
        image,
        {"dpt.encoder.layer.0": tokens(4, 4, 1), "neck.convs.0": channels_first},
        **{**options, "score": lambda output: output[0].flatten(1).mean(1)},
    )
    yield LibraryModel(
        "transformers",
        "PVTv2",
        plain("PvtV2", classifier, hidden_sizes=[8, 16, 16, 16], num_attention_heads=[1, 2, 2, 2], depths=[1] * 4),
        (3, 64, 64),
        {"pvt_v2.encoder.layers.0.layer_norm": tokens(16, 16)},
        **options,
    )


def smp_models() -> Iterator[LibraryModel]:
    """Yield encoders with decoders, on images and masks."""

    def plain(name: str, encoder: str = "resnet18", **options: Any) -> Callable[[ModuleType], nn.Module]:
        return lambda smp: getattr(smp, name)(encoder, encoder_weights=None, classes=3, **options)

    options: dict[str, Any] = {"sample": lambda image, index: (image, torch.zeros(64, 64).long())}
    decoder = {"encoder.layer1": channels_first, "segmentation_head": channels_first}
    shape = (3, 64, 64)
    yield LibraryModel(
        SMP, "U-Net", plain("Unet"), shape, {**decoder, "decoder.blocks.0": channels_first}, **options, ci=True
    )
    yield LibraryModel(SMP, "U-Net++", plain("UnetPlusPlus"), shape, decoder, **options)
    yield LibraryModel(SMP, "FPN", plain("FPN"), shape, decoder, **options)
    yield LibraryModel(SMP, "PSPNet", plain("PSPNet"), shape, {"encoder.layer1": channels_first}, **options)
    yield LibraryModel(SMP, "DeepLabV3+", plain("DeepLabV3Plus"), shape, decoder, **options)
    yield LibraryModel(SMP, "Linknet", plain("Linknet"), shape, decoder, **options)
    yield LibraryModel(SMP, "MAnet", plain("MAnet"), shape, decoder, **options)
    yield LibraryModel(
        SMP,
        "SegFormer",
        plain("Segformer", "mit_b0"),
        shape,
        {"encoder.norm1": channels_first, "segmentation_head": channels_first},
        **options,
    )


def monai_models() -> Iterator[LibraryModel]:
    """Yield networks for volumes, on mappings of `image` and `label`."""

    def plain(name: str, **options: Any) -> Callable[[ModuleType], nn.Module]:
        return lambda monai: getattr(import_module("monai.networks.nets"), name)(**options)

    options: dict[str, Any] = {
        "sample": lambda image, index: {"image": image, "label": torch.zeros(1, *image.shape[1:])},
        "forward": lambda model, batch: model(batch["image"]),
    }
    volume: dict[str, Any] = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2}
    shape = (1, 16, 16, 16)
    yield LibraryModel(
        "monai",
        "UNet",
        plain("UNet", **volume, channels=(4, 8, 8), strides=(2, 2)),
        shape,
        {"model.0": channels_first, "model.2": channels_first},
        **options,
        ci=True,
    )
    yield LibraryModel(
        "monai",
        "BasicUNet",
        plain("BasicUNet", **volume, features=(4, 4, 8, 8, 8, 4)),
        (1, 32, 32, 32),
        {"conv_0": channels_first, "down_1": channels_first},
        **options,
    )
    yield LibraryModel(
        "monai",
        "SegResNet",
        plain("SegResNet", **volume, init_filters=8),
        shape,
        {"down_layers.1": channels_first},
        **options,
    )
    yield LibraryModel(
        "monai",
        "DynUNet",
        plain(
            "DynUNet",
            **volume,
            kernel_size=[3, 3, 3],
            strides=[1, 2, 2],
            upsample_kernel_size=[2, 2],
            filters=[4, 8, 8],
        ),
        shape,
        {"input_block": channels_first, "output_block": channels_first},
        **options,
    )
    yield LibraryModel(
        "monai",
        "AttentionUnet",
        plain("AttentionUnet", **volume, channels=(4, 8), strides=(2,)),
        shape,
        {"model.0": channels_first},
        **options,
    )
    yield LibraryModel(
        "monai",
        "VNet",
        plain("VNet", spatial_dims=3, in_channels=1, out_channels=2),
        shape,
        {"in_tr": channels_first},
        **options,
    )
    yield LibraryModel(
        "monai",
        "DenseNet",
        plain("DenseNet", **volume, init_features=8, growth_rate=4, block_config=(2, 2)),
        shape,
        {"features.denseblock1": channels_first},
        **options,
    )
    yield LibraryModel(
        "monai",
        "UNETR",
        plain(
            "UNETR",
            in_channels=1,
            out_channels=2,
            img_size=16,
            feature_size=4,
            hidden_size=16,
            mlp_dim=32,
            num_heads=2,
            spatial_dims=3,
        ),
        shape,
        {"encoder1": channels_first, "out": channels_first},
        **options,
    )


def diffusers_models() -> Iterator[LibraryModel]:
    """Yield denoisers, which take a timestep and a text beside the noisy image, and autoencoders."""

    def plain(name: str, **options: Any) -> Callable[[ModuleType], nn.Module]:
        return lambda diffusers: getattr(diffusers, name)(**options)

    step: dict[str, Any] = {
        "call": lambda model, images: model(images, 7),
        "inputs": lambda images: (images, 7),
        "sample": lambda image, index: {"sample": image, "timestep": torch.tensor(7)},
        "score": lambda output: logits_in(output.sample),
    }
    blocks: dict[str, Any] = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
    yield LibraryModel(
        "diffusers",
        "UNet2D",
        plain(
            "UNet2DModel",
            sample_size=16,
            in_channels=3,
            out_channels=3,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=4,
            **blocks,
        ),
        (3, 16, 16),
        {"conv_in": channels_first, "down_blocks.0.resnets.0": channels_first, "conv_out": channels_first},
        **step,
    )
    text = torch.rand(4, 8, generator=torch.Generator().manual_seed(2))
    yield LibraryModel(
        "diffusers",
        "UNet2DCondition",
        plain(
            "UNet2DConditionModel",
            sample_size=16,
            in_channels=3,
            out_channels=3,
            cross_attention_dim=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=4,
            **blocks,
        ),
        (3, 16, 16),
        {"conv_in": channels_first, "down_blocks.1.attentions.0.transformer_blocks.0": tokens(8, 8)},
        **{
            **step,
            "call": lambda model, images: model(images, 7, text.expand(len(images), -1, -1)),
            "inputs": lambda images: (images, 7, text.expand(len(images), -1, -1)),
            "sample": lambda image, index: {
                "sample": image,
                "timestep": torch.tensor(7),
                "encoder_hidden_states": text,
            },
        },
        ci=True,
    )
    image = {"sample": lambda image, index: (image, index), "score": lambda output: logits_in(output.sample)}
    yield LibraryModel(
        "diffusers",
        "AutoencoderKL",
        plain(
            "AutoencoderKL",
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            sample_size=16,
            **blocks,
        ),
        (3, 16, 16),
        {"encoder.conv_in": channels_first, "decoder.conv_out": channels_first},
        **image,
    )
    yield LibraryModel(
        "diffusers",
        "AutoencoderTiny",
        plain(
            "AutoencoderTiny",
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
        ),
        (3, 16, 16),
        {"encoder.layers.0": channels_first},
        **image,
        refused={"attribute": "The scores do not depend on layer"},  # latents are rounded to bytes
    )


def all_models() -> list[LibraryModel]:
    """Return every model, library by library; each is built when it is used."""
    makers = [torchvision_models, timm_models, transformers_models, smp_models, monai_models, diffusers_models]
    return [model for maker in makers for model in maker()]
