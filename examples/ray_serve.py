"""The server behind Ray Serve: several replicas, each with the model on a device of its own.

pip install 'tlite-vk[serve]' 'ray[serve]'
TLITE_VK_MODEL=smollm2 serve run examples.ray_serve:app

TLITE_VK_MODEL: the model's file or folder, on every machine. TLITE_VK_REPLICAS: how many (2). Ray spreads requests over
them; within one, requests take turns as in `tlite-vk serve`. TLITE_VK_DEVICE chooses one of several devices.
"""

from __future__ import annotations

import os
from pathlib import Path

from ray import serve
from starlette.applications import Starlette

import tlite_vk
from tlite_vk.server.app import make_app
from tlite_vk.server.settings import Settings


def build() -> Starlette:
    """Runs in each replica: a model, and the OpenAI API over it."""
    path = Path(os.environ["TLITE_VK_MODEL"]).resolve()
    name = os.environ.get("TLITE_VK_NAME") or path.stem
    # Ray's proxy stands in front, which is called by any name.
    return make_app(tlite_vk.load(path), Settings(name, key=os.environ.get("TLITE_VK_API_KEY"), hosts=("*",)))


@serve.deployment(num_replicas=int(os.environ.get("TLITE_VK_REPLICAS", "2")), max_ongoing_requests=64)
@serve.ingress(build)
class Replica:
    """Nothing of its own: Ray Serve starts the application, its lifespan included, and hands requests to it."""


app = Replica.bind()
