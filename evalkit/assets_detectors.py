"""Published weights of fake-image detectors: which file, its digest where one is published, licence, training set.

Where the authors' repository holds the file, or a Git LFS pointer to it, the digest is pinned; so it is where others
recorded the digest of the file behind the authors' link (CNNDetection, NPR). Files under no known digest are not
pinned: `sha256` is empty, nothing is fetched, and only a file that the user names is taken, whose digest then goes into
the identity of the detector.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .assets import Weights

FORENSYNTHS = "ForenSynths: LSUN photographs of 20 classes and ProGAN images of them (Wang et al. 2020)"
PROGAN_4 = "LSUN car, cat, chair, horse and ProGAN images of them (4 classes of ForenSynths)"
LATENT = "200,000 COCO and LSUN photographs and 200,000 images of Latent Diffusion (Corvi et al. 2023)"
WILDRF = "WildRF: photographs and generated images posted on Reddit (Cavia et al. 2024)"
DEEPFAKES = "faces of Deepfakes videos and of real ones, collected from the web (Afchar et al. 2018)"
FACE2FACE = "faces of Face2Face videos and of real ones, FaceForensics (Afchar et al. 2018)"
FILMS = "Hollywood2 film clips (Zhang et al. 2019, as ShieldMnt trained it)"
CIFAKE = "CIFAKE: CIFAR-10 and Stable Diffusion 1.4 images of its classes (Bird and Lotfi 2024)"

NONCOMMERCIAL = "CC BY-NC-SA 4.0 (no commercial use)"
YISSUM = "Yissum Software Research License (research use only)"
NONE_STATED = "none stated (all rights reserved)"
GRIP = "GRIP-UNINA license (nonprofit use only)"
GRIP_APACHE = "Apache-2.0 in ClipBased-SyntheticImageDetection; first released for nonprofit use only"

CNNDETECTION = "https://github.com/PeterWang512/CNNDetection"
LADEDA = "https://github.com/barcavia/RealTime-DeepfakeDetection-in-the-RealWorld"
NPR = "https://github.com/chuangchuangtan/NPR-DeepfakeDetection"
RINE = "https://github.com/mever-team/rine"
UNIVFD = "https://github.com/WisconsinAIVision/UniversalFakeDetect"
MESONET = "https://github.com/DariusAf/MesoNet"
CLIPDET = "https://github.com/grip-unina/ClipBased-SyntheticImageDetection"
RIVAGAN = "https://github.com/ShieldMnt/invisible-watermark"
DMID = "https://github.com/grip-unina/DMimageDetection"

# The commits of the authors' repositories that the pinned files are read from.
AT = {
    LADEDA: "9dc3fee018ca2cbc7d407297bbcda24dd3d773cd",
    RINE: "325a1c9ec7a44a8e46608b4cf03c3cc9db87967f",
    UNIVFD: "763391eff3284f6950ffb323599c1a7a819f2ecd",
    NPR: "68338a07847e891534f3d0b0a0e25bb137b684f7",
    RIVAGAN: "68d0376d94a4701ed240af0841ec12e00676e325",
    MESONET: "f3aa786e8f87e0894dcf36f6dba2f77a25293566",
}


def _in_repository(card: str, path: str, sha256: str, size: int, licence: str, trained_on: str) -> Weights:
    url = f"{card}/raw/{AT[card]}/{path}"
    return Weights(path.rpartition("/")[2], sha256, licence, trained_on, card=card, url=url, size=size)


def _unpinned(card: str, file: str, licence: str, trained_on: str, url: str = "") -> Weights:
    return Weights(file, "", licence, trained_on, card=card, url=url or card)


def _mesonet(file: str, sha256: str, size: int) -> Weights:
    trained_on = FACE2FACE if "F2F" in file else DEEPFAKES
    return _in_repository(MESONET, f"weights/{file}", sha256, size, "Apache-2.0", trained_on)


DETECTORS: Mapping[str, Weights] = MappingProxyType(
    {
        "cnndetection_0.5": Weights(
            file="blur_jpg_prob0.5.pth",
            sha256="3533f3e58a3b82215f21197f2faf4e99b911ec42a4a6e2d7823e04d5f3fd245a",
            licence=NONCOMMERCIAL,
            trained_on=FORENSYNTHS,
            card=CNNDETECTION,
            url="https://www.dropbox.com/s/2g2jagq2jn1fd0i/blur_jpg_prob0.5.pth?dl=1",
            size=282_442_597,
        ),
        "cnndetection_0.1": Weights(
            file="blur_jpg_prob0.1.pth",
            sha256="a73295ac66f9cb74d558ce3ade46f75e2f2997ed05eeed0f4b774623372058ea",
            licence=NONCOMMERCIAL,
            trained_on=FORENSYNTHS,
            card=CNNDETECTION,
            url="https://www.dropbox.com/s/h7tkpcgiwuftb6g/blur_jpg_prob0.1.pth?dl=1",
            size=282_442_597,
        ),
        "univfd": _in_repository(
            UNIVFD,
            "pretrained_weights/fc_weights.pth",
            "477100745713bcc957beb2b40859536859b6483fd6301b3b9293151b194c7847",
            4083,
            "MIT",
            FORENSYNTHS,
        ),
        "rine_2class": _in_repository(
            RINE,
            "ckpt/model_2class_trainable.pth",
            "680d301b6d191da85b9dabcebf42cd3df20c5c669fa8320c498f835d02bf5ccb",
            1_139_686,
            "Apache-2.0",
            "LSUN chair, horse and ProGAN images of them (2 classes of ForenSynths)",
        ),
        "rine_1class": _unpinned(
            RINE,
            "model_1class_trainable.pth",
            "Apache-2.0",
            "LSUN horse and ProGAN images of it (1 class of ForenSynths)",
            f"{RINE}/tree/main/ckpt",
        ),
        "rine_4class": _unpinned(RINE, "model_4class_trainable.pth", "Apache-2.0", PROGAN_4, f"{RINE}/tree/main/ckpt"),
        "rine_ldm": _unpinned(RINE, "model_ldm_trainable.pth", "Apache-2.0", LATENT, f"{RINE}/tree/main/ckpt"),
        "npr_progan_tables": _unpinned(NPR, "NPR.pth", NONE_STATED, PROGAN_4),
        "npr_progan_3090": _in_repository(
            NPR,
            "model_epoch_last_3090.pth",
            "b67a91555ce786a6d0463ff0cb2b0b874d1c3f971b0e3febd2ae5618a80f7e8a",
            5_842_385,
            NONE_STATED,
            PROGAN_4,
        ),
        "ladeda_forensynth": _unpinned(LADEDA, "ForenSynth_LaDeDa.pth", YISSUM, FORENSYNTHS),
        "ladeda_wildrf": _unpinned(LADEDA, "WildRF_LaDeDa.pth", YISSUM, WILDRF),
        "tiny_ladeda_forensynth": _in_repository(
            LADEDA,
            "weights/Tiny_LaDeDa/ForenSynth_Tiny_LaDeDa.pth",
            "4624258c70489cbff2778153ce6fc7f5ed16170b59a541a06dc3d4c759fd68a6",
            12_405,
            YISSUM,
            f"patch scores of LaDeDa on {FORENSYNTHS}",
        ),
        "tiny_ladeda_wildrf": _in_repository(
            LADEDA,
            "weights/Tiny_LaDeDa/WildRF_Tiny_LaDeDa.pth",
            "5e063100564d2ddfe9bf48074e351c8f2b38855552574a18a0738e7f2a764d80",
            11_654,
            YISSUM,
            f"patch scores of LaDeDa on {WILDRF}",
        ),
        "dmid_latent": Weights(
            # The repository calls it weights.pth, which says nothing in a folder of weights.
            file="Corvi2023.pth",
            sha256="0168451e84a2a35d0b141ad4f2e361a74efdd06eb8d11434087f8a0bb6e3abad",
            licence=GRIP_APACHE,
            trained_on=LATENT,
            card=CLIPDET,
            url=f"{CLIPDET}/raw/main/weights/Corvi2023/weights.pth",
            size=282_549_121,
        ),
        "dmid_progan": _unpinned(DMID, "Grag2021_progan.pth", GRIP, FORENSYNTHS),
        "meso4_df": _mesonet(
            "Meso4_DF.h5", "036ed30d04ffd9c7506f825b97c86aa64915f5818931da96817b169aad790af5", 156_128
        ),
        "meso4_f2f": _mesonet(
            "Meso4_F2F.h5", "bcfda015d217b9f8d6557693edbdf9f4e79cfd22672541968dd0e2954462b5d7", 156_128
        ),
        "mesoinception_df": _mesonet(
            "MesoInception_DF.h5", "234586d40058e76ef8b6f27ca4b63c06e31c2a5a69c0d8ba6f30b1468ab7bafa", 197_504
        ),
        "mesoinception_f2f": _mesonet(
            "MesoInception_F2F.h5", "d4533ac8a3197dc35c47405d23d99e888c1d0135e267e03540c7451feaccff3f", 197_504
        ),
        "cifake_torch": Weights(
            file="paper_model_cifake.pth",
            sha256="b10b8bd7f55a2e23d6ba363ad158d0a806251ff5f403c75fa5b5db08c95961bb",
            licence=NONE_STATED,
            trained_on=CIFAKE,
            card="https://github.com/licaili193/cifake_classification",
            url="https://github.com/licaili193/cifake_classification/raw/f30fe1f8019ae171e3a95244c88210222d718cdd/paper_model_cifake.pth",
            size=568_708,
        ),
        "cifake_keras": Weights(
            file="cifake_cnn.h5",
            sha256="7978b9541015a66352333ba46b57fb52fef3b80e8ecba6a3b05cefa38e3d599e",
            licence=NONE_STATED,
            trained_on=CIFAKE,
            card="https://github.com/UmangSaluja10/cifake-detector",
            url="https://github.com/UmangSaluja10/cifake-detector/raw/9341ed4703347d1d2a37d0b5d83aefd48963995d/app/saved_model/cifake_cnn.h5",
            size=1_047_384,
        ),
        # Reads a watermark; the file of the invisible-watermark package is the same.
        "rivagan": _in_repository(
            RIVAGAN,
            "imwatermark/rivagan_decoder.onnx",
            "6b006690cf352fa50a91a0b6d6241dbcded0a9957969e2c0665cf9a7011b3880",
            1_088_816,
            "MIT",
            FILMS,
        ),
    }
)
