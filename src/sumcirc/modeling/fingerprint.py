"""A hash by which one model is known again, whatever it lies under."""

from __future__ import annotations

import hashlib
import json

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from sumcirc.modeling.parts import base_model

INCIDENTAL = ("_name_or_path", "transformers_version", "architectures")  # say nothing of the output
# in names of parameters, by PEFT: of the linear that it wraps, and of its own
WRAPPED, ADAPTER = ".base_layer", ".lora_"


def model_fingerprint(model: PreTrainedModel | PeftModel) -> str:
    """A hash of the configuration and of every parameter's name, type, device, shape and bytes.

    Of an adapted model it is that of its base: adapters are left out.
    """
    base = base_model(model)
    settings = {name: v for name, v in base.config.to_dict().items() if name not in INCIDENTAL}
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True, default=str).encode())
    named = {name.replace(WRAPPED, ""): p for name, p in base.named_parameters()}
    for name, parameter in sorted(named.items()):
        if ADAPTER in name:
            continue
        about = (name, parameter.dtype, parameter.device.type, tuple(parameter.shape))
        digest.update(repr(about).encode())
        values = parameter.detach().cpu().contiguous().view(-1).view(torch.uint8)
        digest.update(values.numpy().data)
    return digest.hexdigest()
