"""Training rows whose scenario is hidden, so that what is trained can forecast a scenario that it has not seen.

A new scenario has index 0 and words that no vocabulary holds: ids that training rows never have, whose embeddings would
be what they were drawn as. DropoutNet (Volkovs, Yu, Poutanen, NeurIPS 2017) trains recommenders for cold start by
dropping what a new user or item would lack; here it is the scenario's id, and attributes of it.

Letters: B rows, A scenario attributes.
"""

from dataclasses import replace

import numpy as np
import torch

from m2m_model.batch import Batch
from m2m_model.contracts.spec import MISSING_ID, OUT_OF_VOCABULARY_ID, UNSEEN_SCENARIO, DatasetSpec

ATTRIBUTES_DROPPED = 0.5
"""Share of a hidden scenario's attributes: some of a new one's are known values."""


def drop_scenarios(batch: Batch, spec: DatasetSpec, share: float, random: np.random.Generator) -> Batch:
    """The batch with the scenario of about ``share`` of its rows hidden: its id, and each attribute by a toss."""
    hidden = torch.from_numpy(random.random(len(batch)) < share)
    tossed = torch.from_numpy(random.random(batch.attributes.shape) < ATTRIBUTES_DROPPED)
    unknown = [OUT_OF_VOCABULARY_ID if f.kind == "vocabulary" else MISSING_ID for f in spec.scenario_attributes]
    return replace(
        batch,
        scenario=batch.scenario.masked_fill(hidden, UNSEEN_SCENARIO),
        attributes=torch.where(hidden.unsqueeze(1) & tossed, batch.attributes.new_tensor(unknown), batch.attributes),
    )
