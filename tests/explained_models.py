"""Small networks of the usual kinds, with random weights in float64, for oracles."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import DenseNet, MobileNetV2, ResNet, VisionTransformer
from torchvision.models.resnet import BasicBlock

CLASSES = 5


def vgg(act=nn.ReLU):
    """Convolutions, in-place nonlinearities and poolings in a row."""

    def nonlinearity():
        return nn.ReLU(inplace=True) if act is nn.ReLU else act()

    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nonlinearity(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 8, 3, padding=1), nonlinearity(), nn.Conv2d(8, 8, 3, padding=1), nonlinearity()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 12), nonlinearity(), nn.Linear(12, CLASSES)),
    )


def resnet():
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=CLASSES)


def mobilenet():
    return MobileNetV2(num_classes=CLASSES, width_mult=0.25)


def densenet():
    return DenseNet(growth_rate=6, block_config=(2, 2), num_init_features=8, bn_size=2, num_classes=CLASSES)


class UNet(nn.Module):
    """Maps of classes at every pixel, by way of a skip connection."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 6, 3, padding=1)
        self.deep = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.head = nn.Conv2d(12, CLASSES, 1)

    def forward(self, x):
        side = torch.relu(self.down(x))
        deep = torch.relu(self.deep(side))
        return {"maps": self.head(torch.cat([side, self.up(deep)], dim=1))}


def vit():
    return VisionTransformer(16, 4, 2, 2, 16, 32, num_classes=CLASSES)


KINDS = {"vgg": vgg, "resnet": resnet, "mobilenet": mobilenet, "densenet": densenet, "unet": UNet, "vit": vit}


def make(kind, seed=0):
    """Return a model of this kind in evaluation mode, in float64, its running statistics drawn too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = KINDS[kind]().double().eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
            if isinstance(module, VisionTransformer):
                nn.init.normal_(module.heads.head.weight)
        return model


def without_writes(model):
    """Return the model with nothing done in place, as captum needs it."""
    for module in model.modules():
        if getattr(module, "inplace", False):
            module.inplace = False
    return model


def images(kind, count=2):
    side = 16 if kind in ("vit", "vgg", "unet") else 32
    return torch.randn(count, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
