"""Reference generators: small models whose quality is known, a floor and a ceiling for each modality.

`BUILTIN` says where each one lives; nothing is imported until it is asked for.
"""

from __future__ import annotations

BUILTIN: dict[str, str] = {
    "gan": "generators.gan:Gan",
    "vae": "generators.vae:Vae",
    "beta_vae": "generators.beta_vae:BetaVae",
    "diffusion": "generators.diffusion:Diffusion",
    "flow_matching": "generators.flow_matching:FlowMatching",
    "latent_diffusion": "generators.latent_diffusion:LatentDiffusion",
    "realnvp": "generators.realnvp:RealNvp",
    "pixelcnn": "generators.pixelcnn:PixelCnn",
    "pixelrnn": "generators.pixelrnn:PixelRnn",
    "gaussian_process": "generators.gaussian_process:GaussianProcess",
    "gaussian_mixture": "generators.gaussian_mixture:GaussianMixture",
    "pca": "generators.pca:Pca",
    "markov_field": "generators.markov_field:MarkovField",
    "noise": "generators.noise:Noise",
    "lm": "generators.lm:Lm",
    "lstm": "generators.lstm:Lstm",
    "masked_lm": "generators.masked_lm:MaskedLm",
    "text_diffusion": "generators.text_diffusion:TextDiffusion",
    "ngram": "generators.ngram:Ngram",
    "unigram": "generators.unigram:Unigram",
    "vanilla_gan": "generators.vanilla_gan:VanillaGan",
    "dcgan": "generators.dcgan:Dcgan",
    "wgan_gp": "generators.wgan_gp:WganGp",
    "stylegan": "generators.stylegan:StyleGan",
    "cyclegan": "generators.cyclegan:CycleGan",
    "resample": "generators.resample:Resample",
    "text_to_image": "generators.text_to_image:TextToImage",
    "captioner": "generators.captioner:Captioner",
    "shuffled_pixels": "generators.shuffled_pixels:ShuffledPixels",
    "class_mean": "generators.class_mean:ClassMean",
    "memorizer": "generators.memorizer:Memorizer",
    "mode_collapse": "generators.mode_collapse:ModeCollapse",
    "label_noise": "generators.label_noise:LabelNoise",
    "folder": "generators.folder:Folder",
    "command": "generators.command:Command",
    "diffusers": "generators.hub_diffusers:Diffusers",
    "transformers": "generators.hub_transformers:Transformers",
    "openai": "generators.chat_endpoint:ChatEndpoint",
}
