"""AdaLoRA's part of training: the regularization of its directions and the removal of ranks."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from peft import AdaLoraModel, PeftModel, get_peft_model_state_dict
from torch import Tensor, nn


class RankAllocation(pl.Callback):
    """Remove the least important singular values of an AdaLoRA adapter on PEFT's schedule.

    After each optimizer step, PEFT's RankAllocator ranks the singular values of all linears by the
    gradients of the step, and sets those that exceed the current total of ranks to zero. The term
    that keeps the singular directions orthonormal (`orth_reg_weight`) contributes to the gradient
    but not to the logged loss.

    Args:
        model: the adapted model.
    """

    def __init__(self, model: PeftModel) -> None:
        tuner = model.base_model
        assert isinstance(tuner, AdaLoraModel)
        self._tuner: Any = tuner
        self._config: Any = model.peft_config["default"]
        self._directions = [
            (name, parameter)
            for name, parameter in model.named_parameters()
            if "lora_A" in name or "lora_B" in name
        ]

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the gradient of the regularization.

        Args:
            trainer: knows the number of batches in a step, whose gradients are summed.
            pl_module: ignored.
        """
        share = self._config.orth_reg_weight / trainer.accumulate_grad_batches
        (share * orthogonality(self._directions)).backward()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_index: int,
    ) -> None:
        """Rank and remove singular values if the batch completed an optimizer step.

        Args:
            trainer: knows the step.
            pl_module, outputs, batch: ignored.
            batch_index: tells whether the batch completed a step.
        """
        if (batch_index + 1) % trainer.accumulate_grad_batches == 0:
            self._tuner.update_and_allocate(trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Return the running importances and the ranks that are left, for a checkpoint."""
        allocator = self._tuner.rankallocator
        return {
            "ipt": dict(allocator.ipt),
            "exp_avg_ipt": dict(allocator.exp_avg_ipt),
            "exp_avg_unc": dict(allocator.exp_avg_unc),
            "rank_pattern": self._config.rank_pattern,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        allocator, device = self._tuner.rankallocator, self._directions[0][1].device
        for name in ("ipt", "exp_avg_ipt", "exp_avg_unc"):
            moved = {key: value.to(device) for key, value in state_dict[name].items()}
            setattr(allocator, name, moved)
        self._config.rank_pattern = state_dict["rank_pattern"]


def parameters_left(model: nn.Module) -> int | None:
    """Return the number of an AdaLoRA adapter's parameters without the removed ranks.

    Args:
        model: the model that was trained; None is returned for any other than AdaLoRA.
    """
    if not (isinstance(model, PeftModel) and isinstance(model.base_model, AdaLoraModel)):
        return None
    stored = get_peft_model_state_dict(model, save_embedding_layers=False)
    return sum(value.numel() for value in stored.values())


def restore_ranks(model: nn.Module, callbacks: dict[str, Any]) -> None:
    """Give an AdaLoRA adapter the ranks that it had at a checkpoint; others are left as they are.

    Args:
        model: the model, which has the weights of the checkpoint.
        callbacks: the states of callbacks in the checkpoint.
    """
    state = callbacks.get(RankAllocation.__qualname__)
    if state is not None and isinstance(model, PeftModel):
        config: Any = model.peft_config["default"]
        config.rank_pattern = state["rank_pattern"]


def orthogonality(directions: list[tuple[str, nn.Parameter]]) -> Tensor:
    """Return the mean distance of the singular directions from orthonormal ones, as PEFT does.

    Args:
        directions: names and values of all A [rank, in] and B [out, rank].

    Returns:
        The mean over matrices of the Frobenius norm of `A Aᵀ - I`, or `Bᵀ B - I`.
    """
    found = []
    for name, matrix in directions:
        gram = matrix @ matrix.T if "lora_A" in name else matrix.T @ matrix
        found.append(torch.linalg.norm(gram - torch.eye(len(gram), device=gram.device)))
    return torch.stack(found).mean()
