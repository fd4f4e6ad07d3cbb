# SPDX-License-Identifier: Apache-2.0
"""Prompt embeddings by umT5, made once per prompt and kept on disk."""

from __future__ import annotations

import gc
import hashlib
import html
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hydra_model.config import TextConfig


def build_text_model(config: TextConfig) -> nn.Module:
    """Return transformers' ``UMT5EncoderModel`` with the sizes of ``config``."""
    from transformers import UMT5Config, UMT5EncoderModel  # takes seconds: only where needed

    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=config.vocab_size,
            d_model=config.dim,
            d_kv=config.dim // config.num_heads,
            d_ff=config.ffn_dim,
            num_layers=config.num_blocks,
            num_heads=config.num_heads,
            relative_attention_num_buckets=config.num_buckets,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            use_cache=False,
        )
    ).eval()


def clean_prompt(prompt: str) -> str:
    """Resolve HTML entities (also those escaped twice) and put one space for any whitespace."""
    return " ".join(html.unescape(html.unescape(prompt)).split())


@torch.no_grad()
def encode_tokens(model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """Return embeddings [B, L, dim] of token ids [B, L]; rows where ``mask`` is 0 are zero."""
    embeddings = model(input_ids=ids, attention_mask=mask).last_hidden_state
    return embeddings * mask.unsqueeze(-1).to(embeddings.dtype)


class TextEncoder:
    """Turns prompts into embeddings, loading its model only for prompts that it has not seen.

    ``load_model`` returns the model of ``build_text_model`` with weights; it is called when a
    prompt is not in the cache, and the model is let go when ``embed`` returns, so that the
    11 GB of umT5-XXL do not stay beside the transformer. ``tokenizer_folder`` holds the
    tokenizer's files; nothing is downloaded. ``identity`` names the weights: embeddings in
    ``cache_folder`` (None keeps none) are only used with the weights that made them.
    """

    def __init__(
        self,
        config: TextConfig,
        *,
        load_model: Callable[[], nn.Module],
        tokenizer_folder: Path,
        identity: str,
        cache_folder: Path | None = None,
    ) -> None:
        self.config = config
        self._load_model = load_model
        self._tokenizer_folder = tokenizer_folder
        self._identity = identity
        self._cache_folder = cache_folder

    def embed(self, prompt: str) -> Tensor:
        """Return the embedding [max_tokens, dim] of a prompt, on the CPU; see ``embed_all``."""
        return self.embed_all([prompt])[0]

    def embed_all(self, prompts: list[str]) -> list[Tensor]:
        """Return one embedding [max_tokens, dim] a prompt; the model is loaded at most once.

        Rows past a prompt's end are zero; longer prompts are cut at ``max_tokens``.
        """
        cleaned = [clean_prompt(prompt) for prompt in prompts]
        embeddings = {prompt: self._recall(prompt) for prompt in set(cleaned)}
        unseen = sorted(prompt for prompt, rows in embeddings.items() if rows is None)
        if unseen:
            for prompt, rows in zip(unseen, self._encode(unseen), strict=True):
                self._remember(prompt, rows)
                embeddings[prompt] = rows
        return [self._pad(embeddings[prompt]) for prompt in cleaned]

    def fill_cache(
        self, prompts: list[str], progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Embed all prompts of a data set into the cache folder, with the model loaded once.

        ``progress(done, total)`` is called after each prompt that was not in the cache.
        """
        cleaned = sorted({clean_prompt(prompt) for prompt in prompts})
        unseen = [prompt for prompt in cleaned if self._recall(prompt) is None]
        if unseen:
            for done, rows in enumerate(self._rows(unseen)):
                self._remember(unseen[done], rows)
                if progress is not None:
                    progress(done + 1, len(unseen))

    def _encode(self, prompts: list[str]) -> list[Tensor]:
        return list(self._rows(prompts))

    def _rows(self, prompts: list[str]) -> Iterator[Tensor]:
        tokenizer = load_tokenizer(self._tokenizer_folder)
        model = self._load_model()
        device = next(model.parameters()).device
        for prompt in prompts:
            tokens = tokenizer(
                prompt, truncation=True, max_length=self.config.max_tokens, return_tensors="pt"
            )
            # Unpadded: masked positions change nothing, and a prompt is short.
            ids, mask = tokens["input_ids"].to(device), tokens["attention_mask"].to(device)
            yield encode_tokens(model, ids, mask)[0].cpu()
        del model
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()

    def _pad(self, rows: Tensor | None) -> Tensor:
        assert rows is not None
        padded = rows.new_zeros(self.config.max_tokens, self.config.dim)
        padded[: len(rows)] = rows
        return padded

    def _cache_file(self, prompt: str) -> Path | None:
        if self._cache_folder is None:
            return None
        key = f"{self._identity}\n{self.config}\n{prompt}"
        return self._cache_folder / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"

    def _recall(self, prompt: str) -> Tensor | None:
        path = self._cache_file(prompt)
        if path is None or not path.exists():
            return None
        try:
            rows = load_file(path)["rows"]
        except (OSError, SafetensorError, KeyError):
            return None  # made anew: a damaged cache costs time, not correctness
        fits = rows.ndim == 2 and rows.shape[1] == self.config.dim
        return rows if fits and len(rows) <= self.config.max_tokens else None

    def _remember(self, prompt: str, rows: Tensor) -> None:
        path = self._cache_file(prompt)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            save_file({"rows": rows.contiguous()}, unfinished)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer in ``folder``, or raise ``ValueError`` naming the folder."""
    from transformers import AutoTokenizer

    if not folder.is_dir():
        raise ValueError(f"tokenizer folder {folder} does not exist")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # its errors are of many kinds
        raise ValueError(f"tokenizer folder {folder} cannot be read: {error}") from error
