"""What can be known of the latent states from what can be seen: a Rao-Blackwellised particle filter.

Seen are joins, profiles, logins, bid changes, edits, campaigns created, budgets, impressions, clicks, spend, orders and
gmv of all scenarios, up to a day. Of the latent states

- an advertiser's path of engagement and appetite is carried by particles: appetite moves by its own law, engagement is
  drawn from its exact law given the day's observations (the optimal proposal);
- given that path, each pair's (running or paused, level) is a hidden Markov chain of its own, filtered exactly;
- the four latent rates have conjugate laws given impressions, clicks, spend, orders and gmv: exact, without particles;
- budgets are seen once the pair exists, and have their stationary law before.

Letters: A advertisers, I pairs that ever ran, Q independent filters, P particles each, L levels, G appetites, E
engagements, N samples, R draws.
"""

from dataclasses import dataclass

import numpy as np

from etl.sources.synthetic.simulate import Block
from etl.sources.synthetic.world import (
    ATTENTIVE,
    NEVER,
    World,
    ball_law,
    ball_matrix,
    ball_value,
    impressions_probability,
    next_ball,
)

SMALLEST = 1e-30


@dataclass(frozen=True, kw_only=True)
class FilterSize:
    filters: int = 4
    particles: int = 64
    """Of each filter; the spread between the independent filters is the Monte Carlo error."""


class ParticleFilter:
    """The filter of one block, advanced day by day with :meth:`advance`."""

    def __init__(self, world: World, block: Block, size: FilterSize, rng: np.random.Generator) -> None:
        self.world, self.block, self.size, self.rng, self.day = world, block, size, rng, -1
        p, known = world.parameters, block.status != NEVER
        self.owner, self.scenario = np.nonzero(known[-1])
        self.first = known[:, self.owner, self.scenario].argmax(axis=0)
        self.known = known
        shape = (len(block.population), size.filters, size.particles)
        self.engagement = np.zeros(shape, np.int8)
        self.appetite = rng.binomial(p.appetite_balls, 0.5, shape).astype(np.int8)
        self.log_weight = np.zeros(shape)
        self.level_matrix = ball_matrix(p.level_balls, p.level_move).astype(np.float32)
        self.beliefs = np.zeros((len(self.owner), *shape[1:], 2, p.level_balls + 1), np.float32)
        """[I, Q, P, 2, L]: chance of (running, paused) x level, given the particle's path."""
        self.beliefs[..., 0, :] = ball_law(p.level_balls)

    def weights(self) -> np.ndarray:
        """[A, Q, P], summing to 1 in each filter."""
        weight = np.exp(self.log_weight - self.log_weight.max(axis=-1, keepdims=True))
        normed: np.ndarray = weight / weight.sum(axis=-1, keepdims=True)
        return normed

    def advance(self) -> None:
        """Take in the next day."""
        self.day += 1
        p, joined = self.world.parameters, self.block.population.joined
        self.appetite = next_ball(
            self.appetite, p.appetite_balls, p.appetite_move, self.rng.random(self.appetite.shape)
        )
        pairs = np.flatnonzero(self.first <= self.day)
        beliefs = self.beliefs[pairs] @ self.level_matrix
        running, is_silent = self._pair_likelihood(pairs)
        is_new = self.first[pairs] == self.day
        # Chance of the day's observation with each status today, for each engagement today: [I, Q, P, E, 2].
        after = self._after(beliefs, running, is_silent, is_new, pairs)
        chance = after.sum(axis=-1)
        by_engagement = np.zeros((*self.engagement.shape, 3))
        np.add.at(by_engagement, self.owner[pairs], np.log(np.maximum(chance, SMALLEST)))
        by_engagement += self._advertiser_likelihood()[:, None, None]
        self._move_engagement(by_engagement, joined)
        self._update(beliefs, running, is_silent, is_new, pairs)
        self._resample()

    def _pair_likelihood(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Chance [I, Q, P, L] of a running pair's impressions, and whether [I] there are none."""
        p, block, day = self.world.parameters, self.block, self.day
        owner, scenario = self.owner[pairs], self.scenario[pairs]
        population = block.population
        elasticity = self.world.categories.elasticity[population.category[owner]]
        plain = (
            population.log_median[owner, scenario]
            + self.world.day_effect[day, scenario]
            + elasticity * self.world.festival[day]
        )
        log_median = (
            plain[:, None, None]
            + p.appetite_sd * ball_value(np.arange(p.appetite_balls + 1), p.appetite_balls)[:, None]
            + np.array(p.column("level_sd"))[scenario][:, None, None]
            * ball_value(np.arange(p.level_balls + 1), p.level_balls)
        )
        seen = block.impressions[day, owner, scenario]
        cap = population.cap[owner, scenario, block.budget[day, owner, scenario]]
        table = impressions_probability(p, log_median, cap[:, None, None], seen[:, None, None]).astype(np.float32)
        return table[np.arange(len(pairs))[:, None, None], self.appetite[owner]], seen == 0

    def _behavior_likelihood(self, pairs: np.ndarray) -> np.ndarray:
        """[I, E, 2]: chance of the pair's bid changes and edits by engagement and (running, paused)."""
        p, at = self.world.parameters, (self.day, self.owner[pairs], self.scenario[pairs])
        chance = np.ones((len(pairs), 3, 2), np.float32)
        for name in ("bids", "edits"):
            mean = np.array([getattr(p, f"{name}_running"), getattr(p, f"{name}_paused")]).T
            chance *= geometric_probability(mean, getattr(self.block, name)[at][:, None, None])
        return chance

    def _moves(self, pairs: np.ndarray, is_new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[I, E]: chances to pause and to resume today; a pair that starts today is running."""
        p = self.world.parameters
        pause, resume = np.array(p.pause, np.float32), np.array(p.resume, np.float32)
        return np.where(is_new[:, None], 0, pause), np.where(is_new[:, None], 0, resume)

    def _after(
        self, beliefs: np.ndarray, running: np.ndarray, is_silent: np.ndarray, is_new: np.ndarray, pairs: np.ndarray
    ) -> np.ndarray:
        pause, resume = (move[:, None, None] for move in self._moves(pairs, is_new))
        behavior = self._behavior_likelihood(pairs)[:, None, None]
        mass = beliefs.sum(axis=-1)[..., None, :]
        shown = np.einsum("iqpsl,iqpl->iqps", beliefs, running)[..., None, :]
        runs = shown[..., 0] * (1 - pause) + shown[..., 1] * resume
        rests = (mass[..., 0] * pause + mass[..., 1] * (1 - resume)) * is_silent[:, None, None, None]
        after: np.ndarray = np.stack([runs, rests], axis=-1) * behavior
        return after

    def _advertiser_likelihood(self) -> np.ndarray:
        """[A, E]: log chance of the day's logins, and of which scenarios were taken up today and which were not."""
        p, block, day = self.world.parameters, self.block, self.day
        population = block.population
        table: np.ndarray = np.log(geometric_probability(np.array(p.logins), block.logins[day][:, None]))
        if day == 0:
            return table
        is_open = ~self.known[day - 1] & self.world.is_live[day] & (population.joined < day)[:, None]
        attentive = np.full(len(population), ATTENTIVE)
        adoption = self.world.adoption(population.size, attentive)
        taken = is_open & self.known[day]
        with np.errstate(divide="ignore"):
            log_chance = np.where(taken, np.log(adoption), np.where(is_open, np.log1p(-adoption), 0.0))
        table[:, ATTENTIVE] += log_chance.sum(axis=1)
        table[:, ATTENTIVE + 1 :] += np.where(taken.any(axis=1), np.log(SMALLEST), 0.0)[:, None]
        return table

    def _move_engagement(self, by_engagement: np.ndarray, joined: np.ndarray) -> None:
        p = self.world.parameters
        prior = np.array(p.engagement)[self.engagement]
        joins = joined == self.day
        prior[joins] = np.array(p.engagement_start) if self.day == 0 else np.eye(3)[ATTENTIVE]
        with np.errstate(divide="ignore"):
            log_chance = np.log(prior) + by_engagement
        top = log_chance.max(axis=-1, keepdims=True)
        cumulative = np.cumsum(np.exp(log_chance - top), axis=-1)
        total = cumulative[..., -1]
        pick = self.rng.random(total.shape) * total
        moved = (pick[..., None] > cumulative[..., :2]).sum(axis=-1).astype(np.int8)
        is_here = (joined <= self.day)[:, None, None]
        self.engagement = np.where(is_here, moved, self.engagement)
        self.log_weight = np.where(is_here, self.log_weight + top[..., 0] + np.log(total), 0.0)

    def _update(
        self, beliefs: np.ndarray, running: np.ndarray, is_silent: np.ndarray, is_new: np.ndarray, pairs: np.ndarray
    ) -> None:
        """Beliefs after the day, given each particle's engagement today."""
        engagement = self.engagement[self.owner[pairs]]
        row = np.arange(len(pairs))[:, None, None]
        pause, resume = (move[row, engagement][..., None] for move in self._moves(pairs, is_new))
        behavior = self._behavior_likelihood(pairs)[row, engagement]
        runs = (beliefs[..., 0, :] * (1 - pause) + beliefs[..., 1, :] * resume) * running * behavior[..., :1]
        silent = is_silent[:, None, None, None] * behavior[..., 1:]
        rests = (beliefs[..., 0, :] * pause + beliefs[..., 1, :] * (1 - resume)) * silent
        total = runs.sum(axis=-1) + rests.sum(axis=-1)
        scale = (1 / np.maximum(total, SMALLEST))[..., None]
        self.beliefs[pairs, ..., 0, :], self.beliefs[pairs, ..., 1, :] = runs * scale, rests * scale

    def _resample(self) -> None:
        """Systematic resampling where the effective number of particles fell below half."""
        weight = self.weights()
        few = 1 / (weight**2).sum(axis=-1) < self.size.particles / 2
        if not few.any():
            return
        chosen = np.tile(np.arange(self.size.particles), (*few.shape, 1))
        chosen[few] = systematic_sample(weight[few], self.rng.random((int(few.sum()), 1)))
        self.engagement = np.take_along_axis(self.engagement, chosen, axis=-1)
        self.appetite = np.take_along_axis(self.appetite, chosen, axis=-1)
        self.log_weight[few] = 0.0
        pair, of_filter = np.nonzero(few[self.owner])
        order = chosen[self.owner[pair], of_filter]
        self.beliefs[pair[:, None], of_filter[:, None], np.arange(order.shape[1])] = self.beliefs[
            pair[:, None], of_filter[:, None], order
        ]


def systematic_sample(weight: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Indices [rows, P] drawn in proportion to ``weight`` [rows, P], whose rows sum to 1; ``offset`` is in [0, 1).

    Example:
        >>> systematic_sample(np.array([[0.5, 0.0, 0.5, 0.0]]), np.array([[0.5]])).tolist()
        [[0, 0, 2, 2]]
    """
    rows, particles = weight.shape
    first = np.arange(rows)[:, None]
    # One sorted list of all rows, each in an interval of its own.
    cumulative = np.minimum(np.cumsum(weight, axis=-1), 1.0) + first
    position = (offset + np.arange(particles)) / particles + first
    index = np.searchsorted(cumulative.ravel(), position.ravel()).reshape(weight.shape) - first * particles
    # The last position may lie beyond a sum that rounding left below 1.
    bounded: np.ndarray = np.minimum(index, particles - 1)
    return bounded


def geometric_probability(mean: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Chance of ``count`` under the geometric law on 0, 1, ... with that mean."""
    chance: np.ndarray = (mean / (1 + mean)) ** count / (1 + mean)
    return chance
