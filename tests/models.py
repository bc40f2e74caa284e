"""Small causal language models for tests: a bigram table known by hand, and hub models with first weights, on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from evalkit.extractors.causal.streaming import Head

TEXTS = [
    "The cat sat on the mat and looked at the door.",
    "A short one.",
    "What follows a word depends on the words before it, and sometimes on the last one alone. " * 6,
    "Numbers 1, 2 and 3; signs (like these)! and \u05e2\u05d1\u05e8\u05d9\u05ea with \u200f marks.",
]


class Bigram:
    """p(next | last) from a table of logits [V, V]; states are rows of the identity."""

    context = 8

    def __init__(self, table: Tensor, separable: bool = True) -> None:
        self.table, self.vocabulary = table.float(), len(table)
        self.head = Head(self.table.T.contiguous()) if separable else None
        self.read: list[tuple[int, int]] = []

    def to(self, device: str) -> None: ...

    def states(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        self.read.append(tuple(tokens.shape))
        return torch.eye(self.vocabulary)[tokens]

    def blocks(self, tokens: Tensor, size: int) -> Iterator[Tensor]:
        for part in tokens.split(size):
            yield self.table[part]


def table(vocabulary: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(vocabulary, vocabulary, generator=torch.Generator().manual_seed(seed))


def hub_folder(folder: Path, kind: str = "gpt2", *, vocabulary: int = 400, begins: bool = True, seed: int = 0) -> Path:
    """A tiny model with first weights and a byte-level tokenizer learnt from TEXTS, saved as the hub has them."""
    import tokenizers
    import transformers

    inner = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "</s>"] if begins else ["</s>"]
    inner.train_from_iterator(TEXTS, vocab_size=330, min_frequency=2, special_tokens=special)
    marks = {"bos_token": "<s>"} if begins else {}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner._tokenizer, eos_token="</s>", **marks)
    tokenizer.save_pretrained(folder)
    sizes = {"vocab_size": vocabulary, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    llama = {**sizes, "intermediate_size": 48, "max_position_embeddings": 32, "num_key_value_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "gpt2":
            config = transformers.GPT2Config(vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=4, n_positions=32)
            model = transformers.GPT2LMHeadModel(config)
        elif kind == "llama":
            model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**llama))
        else:
            # Divides its logits, so that they are no product of states and a matrix alone.
            model = transformers.GraniteForCausalLM(transformers.GraniteConfig(**llama, logits_scaling=4.0))
        for p in model.parameters():
            p.data.mul_(4.0)  # first weights are small, and every token would be about as likely
    model.save_pretrained(folder)
    return folder


def plain_loop(model, tokens: list[int]) -> dict[str, Tensor]:
    """Statistics of every token but the first of one text, by full logits in float64; no batch, no windows."""
    with torch.no_grad():
        logits = model(torch.tensor([tokens]))[0, :-1].double()
    log_p = logits.log_softmax(-1)
    p, targets = log_p.exp(), torch.tensor(tokens[1:])
    own = log_p.gather(1, targets[:, None])
    mu = (p * log_p).sum(1)
    return {
        "log_p": own[:, 0],
        "rank": 1 + (log_p > own).sum(1).double(),
        "entropy": -mu,
        "mu": mu,
        "variance": (p * log_p.square()).sum(1) - mu.square(),
    }
