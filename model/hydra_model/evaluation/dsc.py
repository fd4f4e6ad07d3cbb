# SPDX-License-Identifier: Apache-2.0
"""The dynamic-subject score, DSC (arXiv 2603.25716): does the subject look as it did?

The mean cosine between CLIP features of the subject in predicted frames and in true frames
(GT) or context frames (ctx). A subject's feature is the mean of 7x7 points of CLIP's patch
features inside its box, brought to unit length.

The published script has flaws that are mended here, so figures differ from published ones:

- Its boxes are of the whole frame, its features of CLIP's centre crop: off for all that is not
  in the middle. Here the whole frame is squeezed into CLIP's square, boxes with it.
- Frames in which no subject is detected are left out, so a subject that vanished costs
  nothing. Here such a frame counts as 0.

Without a detector the box in a predicted frame is the true one: the score then says whether
the subject is seen where it should be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hydra_model.evaluation.perceptual import Unavailable

POINTS = 7
LEAST_SHARE = 12 / (96 * 160)  # of a frame's pixels that a subject must cover to have a box
_LEAST_SCORE = 0.5  # of a detection
_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's input, published with it
_STD = (0.26862954, 0.26130258, 0.27577711)

# Frames uint8 [T, H, W, 3] and true boxes [T, 4] to boxes [T, 4], NaN where nothing is found.
Detector = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class SubjectScore:
    """DSC against the true frames and against the context; None without a visible subject."""

    truth: float | None
    context: float | None


@dataclass(frozen=True)
class DynamicSubjectScore:
    """DSC with the features of ``network`` (a CLIP vision model) and, maybe, a detector."""

    network: Any
    detector: Detector | None = None

    def features(self, frames: Tensor, boxes: Tensor) -> Tensor:
        """Return unit features [T, dim] of boxes [T, 4]; zero where a box is NaN."""
        known = ~boxes.isnan().any(1)
        if not known.any():
            return torch.zeros(len(frames), 1)
        values = subject_features(self.patches(frames[known]), boxes[known], frames.shape[1:3])
        result = torch.zeros(len(frames), values.shape[1])
        result[known] = values
        return result

    @torch.inference_mode()
    def patches(self, frames: Tensor) -> Tensor:
        """Return CLIP's patch features [T, dim, rows, columns] of whole frames."""
        size = self.network.config.image_size
        device = next(self.network.parameters()).device
        parts = []
        for part in frames.split(16):
            x = part.to(device).permute(0, 3, 1, 2).float() / 255
            x = F.interpolate(x, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
            mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (_MEAN, _STD))
            hidden = self.network(pixel_values=(x - mean) / std).last_hidden_state[:, 1:]
            side = round(hidden.shape[1] ** 0.5)
            parts.append(hidden.mT.unflatten(2, (side, side)).float().cpu())
        return torch.cat(parts)

    def score(
        self, prediction: Tensor, truth: Tensor, context: Tensor, masks: Tensor,
        context_masks: Tensor,
    ) -> SubjectScore:  # fmt: skip
        """Score frames uint8 [T, H, W, 3]; masks uint8 [T, H, W] of truth and context.

        Counted are the target frames in which the truth shows the subject.
        """
        boxes = mask_boxes(masks)
        shown = ~boxes.isnan().any(1)
        if not shown.any():
            return SubjectScore(None, None)
        own = boxes[shown]
        found = own if self.detector is None else self.detector(prediction[shown], own)
        guessed = self.features(prediction[shown], found)
        real = self.features(truth[shown], own)
        against_truth = _cosines(guessed, real).mean()
        before = mask_boxes(context_masks)
        seen = ~before.isnan().any(1)
        against_context = None
        if seen.any():
            remembered = self.features(context[seen], before[seen])
            # Every predicted frame against every context frame.
            if guessed.shape[1] == remembered.shape[1]:
                against_context = round(float((guessed @ remembered.mT).mean()), 4)
            else:
                against_context = 0.0
        return SubjectScore(round(float(against_truth), 4), against_context)


def mask_boxes(masks: Tensor) -> Tensor:
    """Return boxes (left, top, right, bottom) in pixels, float32 [T, 4], of masks [T, H, W].

    NaN where a mask covers less than ``LEAST_SHARE`` of the frame.
    """
    boxes = torch.full((len(masks), 4), torch.nan)
    for i, mask in enumerate(masks > 0):
        if mask.sum() < LEAST_SHARE * mask.numel():
            continue
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        boxes[i] = torch.tensor(
            [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=torch.float32
        )
    return boxes


def subject_features(patches: Tensor, boxes: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return unit features [T, dim]: the mean of 7x7 points inside boxes of a frame of ``size``.

    ``patches`` [T, dim, rows, columns] cover the whole frame; points between patches are
    interpolated.
    """
    height, width = size
    steps = (torch.arange(POINTS) + 0.5) / POINTS
    left, top, right, bottom = (boxes / torch.tensor([width, height, width, height])).unbind(1)
    x = left[:, None] + (right - left)[:, None] * steps
    y = top[:, None] + (bottom - top)[:, None] * steps
    grid = torch.stack(
        (x[:, None, :].expand(-1, POINTS, -1), y[:, :, None].expand(-1, -1, POINTS)), dim=-1
    )
    points = F.grid_sample(
        patches, 2 * grid - 1, mode="bilinear", padding_mode="border", align_corners=False
    )
    return F.normalize(points.mean((2, 3)), dim=1)


def open_dsc(
    clip: Path | None, detector: Path | None = None, device: torch.device | str = "cpu"
) -> DynamicSubjectScore | Unavailable:
    """Return DSC with CLIP's weights from a folder, or why it cannot be had."""
    if clip is None:
        return Unavailable("no weights of CLIP ViT-B/16 were given (--clip-weights FOLDER)")
    from transformers import CLIPVisionModel

    try:
        network = CLIPVisionModel.from_pretrained(clip, local_files_only=True).to(device).eval()
    except Exception as error:  # its errors are of many kinds
        return Unavailable(f"CLIP's weights in {clip} cannot be loaded: {error}")
    if detector is None:
        return DynamicSubjectScore(network)
    try:
        return DynamicSubjectScore(network, open_detector(detector, device))
    except Exception as error:
        return Unavailable(f"the detector in {detector} cannot be loaded: {error}")


def open_detector(folder: Path, device: torch.device | str = "cpu") -> Detector:
    """Return a detector that finds the object which overlaps the true box most."""
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    network = AutoModelForObjectDetection.from_pretrained(folder, local_files_only=True)
    network = network.to(device).eval()

    @torch.inference_mode()
    def detect(frames: Tensor, wanted: Tensor) -> Tensor:
        found = torch.full((len(frames), 4), torch.nan)
        for i, frame in enumerate(frames):
            inputs = processor(images=frame.cpu().numpy(), return_tensors="pt").to(device)
            [result] = processor.post_process_object_detection(
                network(**inputs), threshold=_LEAST_SCORE, target_sizes=[tuple(frame.shape[:2])]
            )
            found[i] = best_box(result["boxes"].cpu(), wanted[i])
        return found

    return detect


def best_box(boxes: Tensor, wanted: Tensor) -> Tensor:
    """Return the one of boxes [N, 4] that overlaps ``wanted`` [4] most, NaN where none does."""
    if len(boxes) == 0:
        return torch.full((4,), torch.nan)
    corner = torch.minimum(boxes[:, 2:], wanted[2:]) - torch.maximum(boxes[:, :2], wanted[:2])
    common = corner.clamp(min=0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (wanted[2:] - wanted[:2]).prod()
    share = common / (areas - common)
    best = int(share.argmax())
    return boxes[best] if share[best] > 0 else torch.full((4,), torch.nan)


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    # Where nothing was found in any frame the features have no width: all zeros.
    return (a * b).sum(1) if a.shape[1] == b.shape[1] else torch.zeros(len(a))
