"""The names of the 1,000 classes of ImageNet (ILSVRC 2012), in the order of the classifier's outputs.

Each class is a synset of WordNet, and its name is the first word of that synset; three that would stand twice are told
apart. WordNet 3.0 Copyright 2006 by Princeton University; its words may be used and passed on with this notice, for any
purpose and without warranty: https://wordnet.princeton.edu/license-and-commercial-use.
"""

from __future__ import annotations

from importlib import resources

LABELS: tuple[str, ...] = tuple(
    resources.files("imagelake.models.efficientnet_lite0").joinpath("labels.txt").read_text("utf-8").splitlines()
)
