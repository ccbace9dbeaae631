"""Quadrature on [0, 1]: where a path is sampled, with what weights, and how far to trust it.

==================  ==============================================  =========================
method              nodes and weights                               for
==================  ==============================================  =========================
riemann-right       k/m, k = 1..m, weight 1/m                       the paper (m = 16)
riemann-linspace    k/(m - 1), k = 0..m - 1, weight 1/m             its released code
midpoint            (k - 1/2)/m, weight 1/m                         accuracy on sharp paths
gauss-legendre      roots of the Legendre polynomial                accuracy on smooth paths
auto                Clenshaw-Curtis, 9, 17, 33, 65, ... nodes       spends what is needed
==================  ==============================================  =========================

Every rule carries a *partner*: other weights on the same nodes that integrate as well or nearly
so. The difference of the two is the change that convergence is judged by, at no further cost.
Clenshaw-Curtis is nested: a finer rule keeps all nodes of the coarser one, its partner.

Source: NA-ICA (arXiv 2406.10868), section 3; Clenshaw and Curtis, Numer. Math. 2 (1960).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from broca.errors import AttributionError

METHODS = ("auto", "riemann-right", "riemann-linspace", "midpoint", "gauss-legendre")
DEFAULT_STEPS = 16  # the paper's m
AUTO_FIRST = 9
AUTO_LIMIT = 129


@dataclass(frozen=True)
class Rule:
    """Nodes in [0, 1] with their weights.

    Attributes:
        nodes: float64, [step].
        weights: float64, [step].
        partner: Other weights on the same nodes, [step]; equal to ``weights`` where the nodes
            allow no second rule.
    """

    nodes: np.ndarray
    weights: np.ndarray
    partner: np.ndarray

    @property
    def n_steps(self) -> int:
        """Number of nodes with a weight."""
        return int((self.weights != 0).sum())

    def with_zero(self) -> Rule:
        """The same rule with the node 0, where P(0) is read, of no weight if it was not there."""
        if 0.0 in self.nodes:
            return self
        return Rule(*(np.append(0.0, part) for part in (self.nodes, self.weights, self.partner)))


def fixed_rule(method: str, n_steps: int) -> Rule:
    """One of the four rules with a fixed number of nodes.

    Raises:
        AttributionError: If the method is unknown or has no rule with so few nodes.
    """
    made = {
        "riemann-right": _riemann_right,
        "riemann-linspace": _riemann_linspace,
        "midpoint": _midpoint,
        "gauss-legendre": _gauss_legendre,
    }
    if method not in made:
        raise AttributionError(
            f"Unknown method {method!r}", mend=f"The methods are {', '.join(METHODS)}."
        )
    least = 2 if method == "riemann-linspace" else 1
    if n_steps < least:
        raise AttributionError(f"{method} needs n_steps of at least {least}", str(n_steps))
    return made[method](n_steps)


def nested_rules(limit: int = AUTO_LIMIT) -> list[Rule]:
    """Clenshaw-Curtis with 9, 17, 33, ... nodes up to ``limit``.

    Each rule lists the nodes of the one before first, in its order, so that what was computed
    there is used again.

    Raises:
        AttributionError: If the limit allows no two rules, hence no judgement.
    """
    if limit < 2 * AUTO_FIRST - 1:
        raise AttributionError(
            f"method='auto' compares {AUTO_FIRST} with {2 * AUTO_FIRST - 1} nodes",
            f"n_steps={limit}",
            f"Allow at least {2 * AUTO_FIRST - 1}, or choose a rule with a fixed number.",
        )
    order = np.arange(AUTO_FIRST)
    nodes, weights = _clenshaw_curtis(AUTO_FIRST)
    coarse = _clenshaw_curtis(AUTO_FIRST // 2 + 1)[1]
    partner = np.zeros(AUTO_FIRST)
    partner[::2] = coarse
    rules = [Rule(nodes, weights, partner)]
    count = 2 * AUTO_FIRST - 1
    while count <= limit:
        order = np.concatenate([order * 2, np.arange(1, count, 2)])
        nodes, weights = _clenshaw_curtis(count)
        partner = np.concatenate([rules[-1].weights, np.zeros(count // 2)])
        rules.append(Rule(nodes[order], weights[order], partner))
        count = 2 * count - 1
    return rules


def _riemann_right(m: int) -> Rule:
    weights = np.full(m, 1 / m)
    partner = weights.copy()
    if m > 1:  # trapezoids between the nodes, the first value held down to 0
        partner[0] += 1 / (2 * m)
        partner[-1] -= 1 / (2 * m)
    return Rule(np.arange(1, m + 1) / m, weights, partner)


def _riemann_linspace(m: int) -> Rule:
    trapezoids = np.full(m, 1 / (m - 1))
    trapezoids[[0, -1]] /= 2
    return Rule(np.linspace(0, 1, m), np.full(m, 1 / m), trapezoids)


def _midpoint(m: int) -> Rule:
    weights = np.full(m, 1 / m)
    partner = weights.copy()
    if m > 1:  # the leading error term h^2/24 (f'(1) - f'(0)), slopes by differences
        term = 1 / (24 * m)
        partner[[0, -1]] += term
        partner[[1, -2]] -= term
    return Rule((np.arange(m) + 0.5) / m, weights, partner)


def _gauss_legendre(m: int) -> Rule:
    roots, weights = np.polynomial.legendre.leggauss(m)
    partner = np.zeros(m)
    if m > 1:  # the interpolating rule without the node nearest the middle
        rest = np.delete(np.arange(m), m // 2)
        basis = np.polynomial.legendre.legvander(roots[rest], m - 2).T
        exact = np.zeros(m - 1)
        exact[0] = 2.0
        partner[rest] = np.linalg.solve(basis, exact)
    else:
        partner = weights.copy()
    return Rule((roots + 1) / 2, weights / 2, partner / 2)


def _clenshaw_curtis(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes 0 to 1 and weights of the rule with an odd number of nodes."""
    n = count - 1
    theta = np.pi * np.arange(count) / n
    terms = np.arange(1, n // 2 + 1)
    factor = np.where(terms == n // 2, 1.0, 2.0) / (4 * terms**2 - 1)
    weights = (1 - np.cos(2 * np.outer(theta, terms)) @ factor) * 2 / n
    weights[[0, -1]] /= 2
    return (1 - np.cos(theta)) / 2, weights / 2
