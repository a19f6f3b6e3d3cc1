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
        p = world.parameters
        self.known = block.status != NEVER
        owner, scenario = np.nonzero(self.known[-1])
        first = self.known[:, owner, scenario].argmax(axis=0)
        order = np.argsort(first, kind="stable")
        self.owner, self.scenario, self.first = owner[order], scenario[order], first[order]
        shape = (len(block.population), size.filters, size.particles)
        self.engagement = np.zeros(shape, np.int8)
        self.appetite = rng.binomial(p.appetite_balls, 0.5, shape).astype(np.int8)
        self.log_weight = np.zeros(shape)
        self.level_matrix = ball_matrix(p.level_balls, p.level_move).astype(np.float32)
        self.beliefs = np.zeros((len(owner), *shape[1:], 2, p.level_balls + 1), np.float32)
        """[I, Q, P, 2, L]: chance of (running, paused) x level, given the particle's path; by the pair's first day."""
        self.beliefs[..., 0, :] = ball_law(p.level_balls)

    def weights(self) -> np.ndarray:
        """[A, Q, P], summing to 1 in each filter."""
        weight = np.exp(self.log_weight - self.log_weight.max(axis=-1, keepdims=True))
        normed: np.ndarray = weight / weight.sum(axis=-1, keepdims=True)
        return normed

    def advance(self) -> None:
        """Take in the next day."""
        self.day += 1
        p = self.world.parameters
        self.appetite = next_ball(
            self.appetite, p.appetite_balls, p.appetite_move, self.rng.random(self.appetite.shape)
        )
        pairs = int(np.searchsorted(self.first, self.day, side="right"))
        beliefs = self.beliefs[:pairs] @ self.level_matrix
        running, moves = self._pair_likelihood(pairs), self._moves(pairs)
        # What each of the four moves starts from: weighted with the impressions' chance where the pair ends up running.
        shown, mass = np.einsum("iqpsl,iqpl->iqps", beliefs, running), beliefs.sum(axis=-1)
        chance = np.einsum("iqpm,iem->iqpe", np.concatenate([shown, mass], axis=-1), moves)
        self._move_engagement(self._by_advertiser(np.log(np.maximum(chance, SMALLEST))))
        self._update(beliefs, running, moves, chance)
        self._resample()

    def _by_advertiser(self, log_chance: np.ndarray) -> np.ndarray:
        """[A, Q, P, E]: log chance of all that was seen today, for each engagement today."""
        total = np.zeros((*self.engagement.shape, 3))
        total += self._advertiser_likelihood()[:, None, None]
        for scenario in range(len(self.world.parameters.scenarios)):
            chosen = np.flatnonzero(self.scenario[: len(log_chance)] == scenario)
            total[self.owner[chosen]] += log_chance[chosen]
        return total

    def _pair_likelihood(self, pairs: int) -> np.ndarray:
        """Chance [I, Q, P, L] of the impressions of the first ``pairs`` pairs, if they run."""
        p, block, day = self.world.parameters, self.block, self.day
        owner, scenario = self.owner[:pairs], self.scenario[:pairs]
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
        chance: np.ndarray = table[np.arange(pairs)[:, None, None], self.appetite[owner]]
        return chance

    def _moves(self, pairs: int) -> np.ndarray:
        """[I, E, 4]: chance of each move of a pair's status today and of the day's behavior after it.

        Moves: running to running, paused to running, running to paused, paused to paused, the latter two only of pairs
        without impressions. A pair that starts today is running.
        """
        p, at = self.world.parameters, (self.day, self.owner[:pairs], self.scenario[:pairs])
        is_old = (self.first[:pairs] < self.day)[:, None]
        pause, resume = is_old * np.array(p.pause), is_old * np.array(p.resume)
        runs, rests = np.ones(pause.shape), np.ones(pause.shape) * (self.block.impressions[at] == 0)[:, None]
        for name in ("bids", "edits"):
            count = getattr(self.block, name)[at][:, None]
            runs *= geometric_probability(np.array(getattr(p, f"{name}_running")), count)
            rests *= geometric_probability(np.array(getattr(p, f"{name}_paused")), count)
        moves = [(1 - pause) * runs, resume * runs, pause * rests, (1 - resume) * rests]
        return np.stack(moves, axis=-1).astype(np.float32)

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

    def _move_engagement(self, by_engagement: np.ndarray) -> None:
        """Draw today's engagement from its exact law given the day, and weigh the particles with its normaliser."""
        p, joined = self.world.parameters, self.block.population.joined
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

    def _update(self, beliefs: np.ndarray, running: np.ndarray, moves: np.ndarray, chance: np.ndarray) -> None:
        """Beliefs after the day, given each particle's engagement today."""
        pairs = len(beliefs)
        engagement = self.engagement[self.owner[:pairs]]
        total = np.take_along_axis(chance, engagement[..., None].astype(np.int64), axis=-1)
        move = moves[np.arange(pairs)[:, None, None], engagement] / np.maximum(total, SMALLEST)
        was_running, was_paused = beliefs[..., 0, :], beliefs[..., 1, :]
        after = self.beliefs[:pairs]
        after[..., 0, :] = (was_running * move[..., 0:1] + was_paused * move[..., 1:2]) * running
        after[..., 1, :] = was_running * move[..., 2:3] + was_paused * move[..., 3:4]

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
