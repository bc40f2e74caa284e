"""Every weight file evalkit knows: what it must hash to, where it comes from, its licence, what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Weights:
    """One weight file. Without a `url` it travels with the package, and `file` is relative to it.

    sha256: hex digest of the file's bytes; fewer than 64 digits where only a prefix is published (then the size, where
    known, is checked too), empty where nobody published one: such a file is never fetched. size: bytes, 0 when unknown.
    aliases: other names the same file goes by in the hub caches.
    """

    file: str
    sha256: str
    licence: str
    trained_on: str
    card: str = ""
    url: str = ""
    preprocessing: str = ""
    size: int = 0
    aliases: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """Where the file lies when it travels with the package."""
        return PACKAGE / self.file

    @property
    def name(self) -> str:
        """The name the file is kept under."""
        return Path(self.file).name

    @property
    def names(self) -> tuple[str, ...]:
        """All names the file may go by on this machine."""
        return (self.name, *self.aliases)

    @property
    def pinned(self) -> str:
        """What of the file's content is fixed, in words."""
        if not self.sha256:
            return "no digest is published"
        whole = len(self.sha256) == 64
        return f"sha256 {self.sha256}" if whole else f"sha256 {self.sha256}... (only this prefix is published)"


SHIPPED: Mapping[str, Weights] = MappingProxyType(
    {
        "digits_net": Weights(
            file="extractors/weights/digits_net.safetensors",
            sha256="5ea7b68447880113b68fc4d36e72dcf66ca82b20a29bed330469c53b2ae6e9c6",
            licence="Apache-2.0",
            trained_on="embedded:digits/train (UCI optical digits, CC BY 4.0)",
            card="extractors/weights/digits_net.card.json",
        ),
        "digits_captions": Weights(
            file="extractors/weights/digits_captions.safetensors",
            sha256="1fdf0b24e21e7656de70568f0a722eb2d4b55477bc6b64eb706e529c69173b10",
            licence="Apache-2.0",
            trained_on="embedded:digits/train (UCI optical digits, CC BY 4.0)",
            card="extractors/weights/digits_captions.card.json",
        ),
        "prose_lm": Weights(
            file="extractors/weights/prose_lm.safetensors",
            sha256="bae69b57564d9806aec473aca1d17decce40bbc70a5802fba305c2c779a7ecbc",
            licence="Apache-2.0",
            trained_on="embedded:prose/train (CPython's reference topics, PSF-2.0)",
            card="extractors/weights/prose_lm.card.json",
        ),
    }
)

IMAGENET = "ImageNet-1k (ILSVRC 2012)"
NORM = "ImageNet mean and std"
TORCHVISION = "BSD-3-Clause (torchvision); ImageNet's terms apply to the data"
WIT = "WIT, 400 million image-text pairs of the web (OpenAI, unpublished)"
CLIP_NORM = "bicubic, centre crop, CLIP mean and std"
LVD = "LVD-142M (Meta, unpublished)"

HUB: Mapping[str, Weights] = MappingProxyType(
    {
        "inception": Weights(
            file="pt_inception-2015-12-05-6726825d.pth",
            sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            licence="Apache-2.0",
            trained_on=IMAGENET,
            card="https://github.com/mseitzer/pytorch-fid",
            url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
            preprocessing="299 x 299, (x - 128) / 128; how it is resized is the dialect",
            size=95_628_359,
            aliases=("weights-inception-2015-12-05-6726825d.pth",),
        ),
        "inception_nvidia": Weights(
            file="inception-2015-12-05.pt",
            sha256="f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
            licence="Apache-2.0 (the network); published with NVIDIA's stylegan2-ada-pytorch",
            trained_on=IMAGENET,
            card="https://github.com/NVlabs/stylegan2-ada-pytorch",
            url="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
            preprocessing="299 x 299, (x - 128) / 128; TorchScript that can also resize",
            size=95_607_719,
        ),
        "inception_adm": Weights(
            file="classify_image_graph_def.pb",
            sha256="009d6814d1bc560d4e7b236e170e9b2d5ca6f4b57bd8037f6db05776204415c6",
            licence="Apache-2.0",
            trained_on=IMAGENET,
            card="https://github.com/openai/guided-diffusion/tree/main/evaluations",
            url="https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/classify_image_graph_def.pb",
            preprocessing="299 x 299, (x - 128) / 128; a TensorFlow graph that can also resize",
            size=95_673_916,
        ),
        "clip_vit_b_32": Weights(
            file="ViT-B-32.pt",
            sha256="40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
            licence="MIT",
            trained_on=WIT,
            card="https://github.com/openai/CLIP/blob/main/model-card.md",
            url="https://openaipublic.azureedge.net/clip/models/40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
            preprocessing=f"224 x 224, {CLIP_NORM}; QuickGELU",
            size=353_976_522,
        ),
        "clip_vit_l_14": Weights(
            file="ViT-L-14.pt",
            sha256="b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
            licence="MIT",
            trained_on=WIT,
            card="https://github.com/openai/CLIP/blob/main/model-card.md",
            url="https://openaipublic.azureedge.net/clip/models/b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt",
            preprocessing=f"224 x 224, {CLIP_NORM}; QuickGELU",
            size=932_768_134,
        ),
        "clip_vit_l_14_336": Weights(
            file="ViT-L-14-336px.pt",
            sha256="3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
            licence="MIT",
            trained_on=WIT,
            card="https://github.com/openai/CLIP/blob/main/model-card.md",
            url="https://openaipublic.azureedge.net/clip/models/3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02/ViT-L-14-336px.pt",
            preprocessing=f"336 x 336, {CLIP_NORM}; QuickGELU",
            size=934_088_680,
        ),
        "dinov2_vitl14": Weights(
            file="dinov2_vitl14_pretrain.pth",
            sha256="d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
            licence="Apache-2.0",
            trained_on=LVD,
            card="https://github.com/facebookresearch/dinov2/blob/main/MODEL_CARD.md",
            url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
            preprocessing=f"sides a multiple of 14, {NORM}",
            size=1_217_586_395,
        ),
        "dinov2_vitb14": Weights(
            file="dinov2_vitb14_pretrain.pth",
            sha256="0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
            licence="Apache-2.0",
            trained_on=LVD,
            card="https://github.com/facebookresearch/dinov2/blob/main/MODEL_CARD.md",
            url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth",
            preprocessing=f"sides a multiple of 14, {NORM}",
            size=346_378_731,
        ),
        "dinov2_vits14": Weights(
            file="dinov2_vits14_pretrain.pth",
            sha256="b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
            licence="Apache-2.0",
            trained_on=LVD,
            card="https://github.com/facebookresearch/dinov2/blob/main/MODEL_CARD.md",
            url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth",
            preprocessing=f"sides a multiple of 14, {NORM}",
            size=88_283_115,
        ),
        "convnext_tiny": Weights(
            file="convnext_tiny-983f1562.pth",
            sha256="983f1562536e84ff750a1576fb08e54de751dbf2e17c0d8a4a13704341fdcd3d",
            licence=TORCHVISION,
            trained_on=IMAGENET,
            card="https://pytorch.org/vision/stable/models/convnext.html",
            url="https://download.pytorch.org/models/convnext_tiny-983f1562.pth",
            preprocessing=f"224 x 224, {NORM}",
            size=114_419_221,
        ),
        "alexnet": Weights(
            file="alexnet-owt-7be5be79.pth",
            sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            licence=TORCHVISION,
            trained_on=IMAGENET,
            card="https://pytorch.org/vision/stable/models/alexnet.html",
            url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            preprocessing=f"{NORM}; backbone of LPIPS",
            size=244_408_911,
        ),
        "squeezenet1_1": Weights(
            file="squeezenet1_1-b8a52dc0.pth",
            sha256="b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
            licence=TORCHVISION,
            trained_on=IMAGENET,
            card="https://pytorch.org/vision/stable/models/squeezenet.html",
            url="https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
            preprocessing=f"{NORM}; backbone of LPIPS",
            size=4_958_839,
        ),
        "vgg16": Weights(
            file="vgg16-397923af.pth",
            sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
            licence=TORCHVISION,
            trained_on=IMAGENET,
            card="https://pytorch.org/vision/stable/models/vgg.html",
            url="https://download.pytorch.org/models/vgg16-397923af.pth",
            preprocessing=f"{NORM}; backbone of LPIPS",
            size=553_433_881,
        ),
    }
)
