"""torchvision's networks for classification, by family. The names are listed here so that reading
options does not import torchvision; a test compares them with its own list.
"""

from __future__ import annotations

from collections.abc import Iterator

from traiNNer.archs.clips import AtLeastOne
from traiNNer.archs.spec import ArchSpec

# What the list of torchvision has besides, and why it is not here.
LEFT_OUT = {"maxvit_t": "its attention works on pictures of one size only"}


def _family(
    source: str, names: str, *, min_size: int, size_multiple: int = 1, min_batch: int = 1
) -> Iterator[ArchSpec]:
    for name in names.split():
        yield ArchSpec(
            name=name,
            architecture="torchvision",
            class_name="build_classifier",
            home="traiNNer.archs.classifiers",
            scale_parameter=None,
            scales=(1,),
            defaults={"name": name},
            hidden=("name",),
            annotations={"num_classes": AtLeastOne},
            task="classification",
            spandrel_detects=False,
            source=source,
            size_multiple=size_multiple,
            min_size=min_size,
            min_batch=min_batch,
        )


CLASSIFIERS: tuple[ArchSpec, ...] = (
    *_family("AlexNet, 2014", "alexnet", min_size=63),
    *_family(
        "ConvNeXt, 2022",
        "convnext_tiny convnext_small convnext_base convnext_large",
        min_size=32,
    ),
    *_family(
        "DenseNet, 2017",
        "densenet121 densenet161 densenet169 densenet201",
        min_size=32,
        min_batch=2,
    ),
    *_family(
        "EfficientNet, 2019",
        "efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 "
        "efficientnet_b5 efficientnet_b6 efficientnet_b7",
        min_size=32,
        min_batch=2,
    ),
    *_family(
        "EfficientNetV2, 2021",
        "efficientnet_v2_s efficientnet_v2_m efficientnet_v2_l",
        min_size=32,
        min_batch=2,
    ),
    *_family("GoogLeNet, 2015", "googlenet", min_size=32, min_batch=2),
    *_family("Inception v3, 2016", "inception_v3", min_size=75, min_batch=2),
    *_family(
        "MnasNet, 2019",
        "mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3",
        min_size=32,
        min_batch=2,
    ),
    *_family("MobileNetV2, 2018", "mobilenet_v2", min_size=32, min_batch=2),
    *_family(
        "MobileNetV3, 2019", "mobilenet_v3_small mobilenet_v3_large", min_size=32, min_batch=2
    ),
    *_family(
        "RegNet, 2020",
        "regnet_x_400mf regnet_x_800mf regnet_x_1_6gf regnet_x_3_2gf regnet_x_8gf regnet_x_16gf "
        "regnet_x_32gf regnet_y_400mf regnet_y_800mf regnet_y_1_6gf regnet_y_3_2gf regnet_y_8gf "
        "regnet_y_16gf regnet_y_32gf regnet_y_128gf",
        min_size=32,
        min_batch=2,
    ),
    *_family(
        "ResNet, 2016",
        "resnet18 resnet34 resnet50 resnet101 resnet152",
        min_size=32,
        min_batch=2,
    ),
    *_family(
        "ResNeXt, 2017",
        "resnext50_32x4d resnext101_32x8d resnext101_64x4d",
        min_size=32,
        min_batch=2,
    ),
    *_family("Wide ResNet, 2016", "wide_resnet50_2 wide_resnet101_2", min_size=32, min_batch=2),
    *_family(
        "ShuffleNetV2, 2018",
        "shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0",
        min_size=32,
        min_batch=2,
    ),
    *_family("SqueezeNet, 2016", "squeezenet1_0 squeezenet1_1", min_size=32),
    *_family("Swin, 2021", "swin_t swin_s swin_b", min_size=32, size_multiple=4),
    *_family("Swin v2, 2022", "swin_v2_t swin_v2_s swin_v2_b", min_size=32, size_multiple=4),
    *_family("VGG, 2015", "vgg11 vgg13 vgg16 vgg19", min_size=32),
    *_family("VGG, 2015", "vgg11_bn vgg13_bn vgg16_bn vgg19_bn", min_size=32, min_batch=2),
    *_family("ViT, 2021", "vit_b_16 vit_l_16", min_size=32, size_multiple=16),
    *_family("ViT, 2021", "vit_b_32 vit_l_32", min_size=32, size_multiple=32),
    *_family("ViT, 2021", "vit_h_14", min_size=28, size_multiple=14),
)


def list_available_models() -> list[str]:
    """The names of the networks that the classifier's `network_g.type` can name."""
    return [spec.name for spec in CLASSIFIERS]
