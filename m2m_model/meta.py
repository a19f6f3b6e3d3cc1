"""The meta learning mechanism (4.2): layers whose weights are generated from scenario knowledge.

Letters: B rows, Q distinct keys of rows, N tasks of a unit (1, or all M when tasks share one), R input vectors of a
row, k expert views, V view dimension, D dimension of a meta unit, S dimension of the scenario knowledge S~.

Knowledge is given once per key, ``runs`` says which rows have which: rows with equal ids have equal generated weights.
Without ``runs`` row i has knowledge i.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from m2m_model.ablations import LearnedUnit
from m2m_model.generated import Runs, generated_product, per_row
from m2m_model.layers import KNOWLEDGE_SHARE


class Generator(nn.Module):
    """``Reshape(V S~ + v)``, eq. 11-12: V is ``by_scenario``, v is ``always``.

    The matrix is the paper's W transposed, inputs first: it is multiplied from the right, ``h @ W``.

    Shape:
        [Q, S] -> [Q, inputs, outputs]
    """

    def __init__(self, inputs: int, outputs: int, knowledge_dim: int, *, v_std: float, share: float) -> None:
        """``v_std``: of v at the start; ``share``: the standard deviation at the start of what V adds, for S~ of unit
        variance."""
        super().__init__()
        scale = share / math.sqrt(knowledge_dim)
        self.by_scenario = nn.Parameter(torch.randn(inputs, outputs, knowledge_dim) * scale)
        self.always = nn.Parameter(torch.randn(inputs, outputs) * v_std)

    def forward(self, knowledge: Float[Tensor, "Q S"]) -> Float[Tensor, "Q X Y"]:
        flat = functional.linear(knowledge, self.by_scenario.flatten(0, 1), self.always.flatten())
        return flat.view(-1, *self.always.shape)


class MetaUnit(nn.Module):
    """Meta(h), eq. 9-13: K layers ``h <- sigma(W h + b)`` with ``W = V_w S~ + v_w`` and ``b = V_b S~ + v_b``.

    Generation starts from a He-initialised ``v_w`` and a small ``V_w``: drawn the usual way, ``V_w`` makes first
    forecasts of e^139 at the paper's sizes.

    ``tails`` are the ends of input vectors that are the same for all rows (T_t in eq. 14), the first layer's last
    ``tail_dim`` inputs. Each of the N tails is put after each of the R vectors. Their part of W h is linear in S~
    whatever the row, so it joins the generated bias, and that part of W is never made.

    Shape:
        h [B, R, D - tail_dim], knowledge [Q, S], tails [N, tail_dim] -> [B, N * R, D]; N = 1 without tails
    """

    def __init__(self, *, dim: int, knowledge_dim: int, layers: int, tail_dim: int = 0) -> None:
        super().__init__()
        he = math.sqrt(2 / dim)

        def generator(inputs: int, *, v_std: float) -> Generator:
            return Generator(inputs, dim, knowledge_dim, v_std=v_std, share=KNOWLEDGE_SHARE * he)

        inputs_of_layers = [dim - tail_dim, *[dim] * (layers - 1)]
        self.weight_generators = nn.ModuleList(generator(inputs, v_std=he) for inputs in inputs_of_layers)
        self.tail_generator = generator(tail_dim, v_std=he) if tail_dim else None
        self.bias_generators = nn.ModuleList(generator(1, v_std=0.0) for _ in range(layers))

    def forward(
        self,
        h: Float[Tensor, "B R X"],
        knowledge: Float[Tensor, "Q S"],
        tails: Float[Tensor, "N Z"] | None = None,
        runs: Runs | None = None,
    ) -> Float[Tensor, "B NR D"]:
        runs = ((len(knowledge), 1),) if runs is None else runs
        generators = zip(_generators(self.weight_generators), self.bias_generators, strict=True)
        for layer, (weight, bias) in enumerate(generators):
            with torch.autocast("cpu", enabled=False):  # see ScenarioKnowledge
                b = bias(knowledge)
                if layer == 0 and tails is not None:
                    b = b + self._of_tails(tails.to(b.dtype), knowledge)
            wh = generated_product(h, knowledge, weight.by_scenario, weight.always, runs)
            h = functional.leaky_relu(wh.unsqueeze(1) + per_row(b.to(wh.dtype), runs).unsqueeze(2)).flatten(1, 2)
        return h

    def _of_tails(self, tails: Float[Tensor, "N Z"], knowledge: Float[Tensor, "Q S"]) -> Float[Tensor, "Q N D"]:
        """The tails' part of W h: the same sum, over the tail first."""
        assert self.tail_generator is not None, "the unit was made without tail_dim"
        by_scenario = tails @ self.tail_generator.by_scenario.flatten(1)
        always = tails @ self.tail_generator.always
        flat = functional.linear(knowledge, by_scenario.view(always.numel(), -1), always.flatten())
        return flat.view(-1, *always.shape)


def _generators(modules: nn.ModuleList) -> Iterator[Generator]:
    for module in modules:
        assert isinstance(module, Generator)
        yield module


Unit = type[MetaUnit] | type[LearnedUnit]
"""What a layer of attention or tower is made of: meta units, in an ablation learned ones."""


class MetaAttention(nn.Module):
    """Eq. 14-16: ``a_ti = v^T Meta_t([E_i || T_t])``, softmax over expert views, ``R_t = sum_i alpha_ti E_i``.

    Computes the tasks of one ``unit``: of task t = unit, or of all tasks where they share unit 0.

    Shape:
        experts [B, k, V], tasks [N, V], knowledge [Q, S] -> [B, N, V]
    """

    def __init__(self, *, units: int, view_dim: int, knowledge_dim: int, layers: int, of: Unit = MetaUnit) -> None:
        super().__init__()
        dim = 2 * view_dim
        self.metas = nn.ModuleList(
            of(dim=dim, knowledge_dim=knowledge_dim, layers=layers, tail_dim=view_dim) for _ in range(units)
        )
        self.v = nn.Parameter(torch.randn(dim) / math.sqrt(dim))

    def forward(
        self,
        experts: Float[Tensor, "B k V"],
        tasks: Float[Tensor, "N V"],
        knowledge: Float[Tensor, "Q S"],
        runs: Runs | None = None,
        *,
        unit: int = 0,
    ) -> Float[Tensor, "B N V"]:
        return self.weights(experts, tasks, knowledge, runs, unit=unit) @ experts

    def weights(
        self,
        experts: Float[Tensor, "B k V"],
        tasks: Float[Tensor, "N V"],
        knowledge: Float[Tensor, "Q S"],
        runs: Runs | None = None,
        *,
        unit: int = 0,
    ) -> Float[Tensor, "B N k"]:
        """alpha of eq. 15: how much each expert view counts for each task."""
        hidden = self.metas[unit](experts, knowledge, tasks, runs)
        a = (hidden @ self.v).view(-1, len(tasks), experts.shape[1])
        alpha: Tensor = a.softmax(dim=-1)
        return alpha


class MetaTower(nn.Module):
    """Eq. 17-18: ``L <- sigma(Meta_j(L) + L)``, j = 1 .. L, each layer with a meta unit of its own.

    Computes the N tasks of one ``unit``, see :class:`MetaAttention`: they are the vectors that it has of each row.

    Shape:
        x [B, N, V], knowledge [Q, S] -> [B, N, V]
    """

    def __init__(
        self,
        *,
        units: int,
        view_dim: int,
        knowledge_dim: int,
        layers: int,
        tower_layers: int,
        of: Unit = MetaUnit,
    ) -> None:
        super().__init__()
        self.metas = nn.ModuleList(
            nn.ModuleList(of(dim=view_dim, knowledge_dim=knowledge_dim, layers=layers) for _ in range(tower_layers))
            for _ in range(units)
        )

    def forward(
        self,
        x: Float[Tensor, "B N V"],
        knowledge: Float[Tensor, "Q S"],
        runs: Runs | None = None,
        *,
        unit: int = 0,
    ) -> Float[Tensor, "B N V"]:
        metas = self.metas[unit]
        assert isinstance(metas, nn.ModuleList)
        for meta in metas:
            x = functional.leaky_relu(meta(x, knowledge, None, runs) + x)
        return x
