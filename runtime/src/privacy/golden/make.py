"""Writes golden.json: what other implementations, and sums of many digits, say about noise and its accounting.

    pip install dp-accounting==0.6.0 opendp==0.16.0
    python make.py [golden.json]

The tests of the runtime compare with it. Nothing of the runtime is used here.
"""

import json
import math
import sys
from importlib.metadata import version
from pathlib import Path

import mpmath
import numpy
import opendp.prelude as dp
from dp_accounting import dp_event
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.privacy_accountant import NeighboringRelation
from dp_accounting.rdp import RdpAccountant
from mpmath import mp

ORACLES = {"dp-accounting": "0.6.0", "opendp": "0.16.0"}

mp.dps = 50
dp.enable_features("contrib")

# Real orders, closer together than any fixed grid of whole ones.
ALPHAS = [1 + math.exp(at / 25) for at in range(-60, 330)]
DELTAS = [1e-6, 1e-9]


def rounded(value, digits=13):
    return float(f"{value:.{digits}g}")


def rdp_epsilon(event, count, delta, relation=NeighboringRelation.ADD_OR_REMOVE_ONE):
    accountant = RdpAccountant(ALPHAS, relation)
    accountant.compose(event, count)
    return rounded(accountant.get_epsilon(delta))


def opendp_zcdp(rho, delta):
    domain = dp.atom_domain(T=int), dp.absolute_distance(T=int)
    measurement = dp.m.make_gaussian(*domain, scale=math.sqrt(0.5 / rho))
    return rounded(dp.c.make_zCDP_to_approxDP(measurement).map(1).epsilon(delta))


def zcdp():
    """rho-zCDP as (epsilon, delta)-DP."""
    cases = []
    for rho_picos in [1000, 10**6, 10**8, 5 * 10**8, 24_356_000_000, 14_973_000_000, 31_250_000_000, 10**11, 5 * 10**11,
                      1_539_300_000_000, 10**13, 10**14]:
        for delta in [*DELTAS, 1e-12]:
            rho = rho_picos * 1e-12
            gaussian = dp_event.GaussianDpEvent(math.sqrt(0.5 / rho))
            cases.append({"rho_picos": rho_picos, "delta": delta, "opendp": opendp_zcdp(rho, delta),
                          "rdp": rdp_epsilon(gaussian, 1, delta)})
    return cases


def both(make, count, delta):
    """Bounds of the true epsilon, from below and from above."""
    names = {"pld_low": False, "pld_high": True}
    return {name: rounded(make(up).self_compose(count).get_epsilon_for_delta(delta)) for name, up in names.items()}


def gaussian_runs():
    """Gaussian noise, many times: of a real variable, and of whole numbers."""
    cases = []
    for variance, count in [(16, 1), (16, 4), (16, 63), (4, 1), (4, 9), (400, 1), (400, 100), (100, 3), (1, 2)]:
        sigma = math.sqrt(variance)
        for delta in DELTAS:
            case = {"variance": variance, "count": count, "delta": delta}
            case |= both(lambda up: pld.from_gaussian_mechanism(sigma, pessimistic_estimate=up, use_connect_dots=up),
                         count, delta)
            whole = pld.from_discrete_gaussian_mechanism(sigma, pessimistic_estimate=True)
            case["discrete"] = rounded(whole.self_compose(count).get_epsilon_for_delta(delta))
            case["rdp"] = rdp_epsilon(dp_event.GaussianDpEvent(sigma), count, delta)
            cases.append(case)
    return cases


def composed_response(epsilon, count, delta):
    """The least epsilon at delta of binary randomised response, some times over: a sum over how many answers are kept."""
    p = 1 / (1 + mp.exp(-epsilon))
    ways = [mpmath.binomial(count, lies) for lies in range(count + 1)]
    kept = [n * p ** (count - lies) * (1 - p) ** lies for lies, n in enumerate(ways)]

    def reached(total):
        losses = [(weight, (count - 2 * lies) * epsilon) for lies, weight in enumerate(kept)]
        return mp.fsum(weight * (1 - mp.exp(total - loss)) for weight, loss in losses if loss > total)

    low, high = mp.mpf(0), count * epsilon
    for _ in range(44):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) > delta else (low, middle)
    return rounded(float(low))


def pure_runs():
    """Mechanisms of pure epsilon, many times: randomised response, the worst of them, and Laplace noise."""
    cases = []
    for epsilon_micros, count in [(10_000, 1000), (100_000, 1), (100_000, 20), (100_000, 200), (1_000_000, 1),
                                  (1_000_000, 10), (1_000_000, 40), (3_000_000, 5), (10_000_000, 2)]:
        epsilon = epsilon_micros / 1e6
        noise = 2 / (1 + math.exp(epsilon))
        # A grid close to a divisor of the loss: else the grid would matter more than the mechanism.
        grid = epsilon / max(100, round(epsilon / 1e-3))
        for delta in DELTAS:
            case = {"epsilon_micros": epsilon_micros, "count": count, "delta": delta}
            case["exact"] = composed_response(mp.mpf(epsilon_micros) / 10**6, count, delta)
            response = pld.from_randomized_response(noise, 2, False, grid)
            case["pld_low"] = rounded(response.self_compose(count).get_epsilon_for_delta(delta))
            laplace = pld.from_laplace_mechanism(1 / epsilon, pessimistic_estimate=False,
                                                 value_discretization_interval=grid, use_connect_dots=False)
            case["laplace_low"] = rounded(laplace.self_compose(count).get_epsilon_for_delta(delta))
            event = dp_event.RandomizedResponseDpEvent(noise, 2)
            case["rdp"] = rdp_epsilon(event, count, delta, NeighboringRelation.REPLACE_ONE)
            cases.append(case)
    return cases


def response_divergences():
    """The Rényi divergence of binary randomised response, in units of 1e-12."""
    cases = []
    for epsilon_micros in [1, 100, 10_000, 100_000, 1_000_000, 3_000_000, 10_000_000, 100_000_000]:
        for order in [2, 3, 17, 64, 512, 65536]:
            epsilon = mp.mpf(epsilon_micros) / 10**6
            p, q = 1 / (1 + mp.exp(-epsilon)), 1 / (1 + mp.exp(epsilon))
            value = mp.log(p**order * q ** (1 - order) + q**order * p ** (1 - order)) / (order - 1)
            cases.append({"epsilon_micros": epsilon_micros, "order": order, "picos": int(mp.floor(value * 10**12))})
    return cases


def describe(mass, reach, delta):
    """The standard deviation, and the least t for which at most delta of all lies at t or beyond, plus one."""
    weights = [mass(x) for x in range(reach)]
    whole = weights[0] + 2 * mp.fsum(weights[1:])
    deviation = mp.sqrt(2 * mp.fsum(w * x * x for x, w in enumerate(weights)) / whole)
    tail, t = mp.mpf(0), reach
    while t > 0 and (tail + weights[t - 1]) / whole <= delta:
        tail += weights[t - 1]
        t -= 1
    assert t < reach
    return {"threshold": t + 1, "deviation": rounded(float(deviation))}


def laplace_tails():
    cases = []
    for numerator, denominator in [(1, 100), (1, 3), (1, 2), (1, 1), (2, 1), (7, 3), (10, 1), (45, 2)]:
        for delta in [0.6, 0.3, 1e-3, *DELTAS, 1e-15]:
            ratio = mp.exp(-mp.mpf(denominator) / numerator)
            reach = 60 + 80 * numerator // denominator
            case = {"numerator": numerator, "denominator": denominator, "delta": delta}
            cases.append(case | describe(lambda x: ratio**x, reach, delta))
    return cases


def gaussian_tails():
    cases = []
    for numerator, denominator in [(1, 100), (1, 4), (1, 1), (2, 1), (4, 1), (41, 2), (16, 1), (100, 1), (2500, 1)]:
        for delta in [0.6, 0.3, 1e-3, *DELTAS, 1e-15]:
            exponent = -mp.mpf(denominator) / (2 * numerator)
            reach = 20 + math.isqrt(300 * numerator // denominator)
            case = {"numerator": numerator, "denominator": denominator, "delta": delta}
            cases.append(case | describe(lambda x: mp.exp(exponent * x * x), reach, delta))
    return cases


def wide_gaussian_tails():
    """The same for standard deviations whose sums take a million terms, in doubles."""
    cases = []
    for sigma in [2000, 2100, 5000, 100_000]:
        x = numpy.arange(12 * sigma, -1, -1, dtype=float)
        mass = numpy.exp(-0.5 * (x / sigma) ** 2)
        tails = numpy.cumsum(mass) / (2 * mass.sum() - mass[-1])
        for delta in [0.3, *DELTAS, 1e-15]:
            t = 12 * sigma - int(numpy.searchsorted(tails, delta, side="right")) + 1
            cases.append({"sigma": sigma, "delta": delta, "threshold": t + 1})
    return cases


def maps():
    """What opendp says that noise costs. Sensitivities are squared for Gaussian noise."""
    cases = []
    for sensitivity, micros in [(1, 1_000_000), (7, 500_000), (2**20, 10_000), (3, 10_000_000)]:
        scale = sensitivity * 1e6 / micros
        domain = dp.vector_domain(dp.atom_domain(T=int)), dp.l1_distance(T=int)
        claimed = dp.m.make_laplace(*domain, scale=scale).map(sensitivity)
        cases.append({"kind": "laplace", "sensitivity": sensitivity, "amount": micros, "scale": scale,
                      "claimed": rounded(claimed)})
    for sensitivity, picos in [(1, 24_356_000_000), (7, 14_973_000_000), (2**20, 10**9), (3, 1_539_300_000_000)]:
        scale = math.sqrt(sensitivity**2 * 1e12 / (2 * picos))
        domain = dp.vector_domain(dp.atom_domain(T=int)), dp.l2_distance(T=float)
        claimed = dp.m.make_gaussian(*domain, scale=scale).map(float(sensitivity))
        cases.append({"kind": "gaussian", "sensitivity": sensitivity, "amount": picos, "scale": scale,
                      "claimed": rounded(claimed)})
    return cases


def responses():
    """How often randomised response keeps the true answer."""
    cases = []
    for epsilon_micros in [0, 10_000, 1_000_000, 2_500_000, 5_000_000]:
        for alternatives in [0, 1, 3, 10]:
            keep = 1 / (1 + alternatives * mp.exp(-mp.mpf(epsilon_micros) / 10**6))
            cases.append({"epsilon_micros": epsilon_micros, "alternatives": alternatives,
                          "keep": rounded(float(keep))})
    return cases


def main():
    for name, wanted in ORACLES.items():
        if version(name) != wanted:
            sys.exit(f"{name} {wanted} is needed, and {version(name)} is installed")
    parts = [zcdp, gaussian_runs, pure_runs, response_divergences, laplace_tails, gaussian_tails, wide_gaussian_tails,
             maps, responses]
    golden = {"versions": ORACLES | {"mpmath": mpmath.__version__, "numpy": numpy.__version__}}
    golden |= {part.__name__: part() for part in parts}
    lines = [f'"{name}": {json.dumps(value)}' if isinstance(value, dict) else
             f'"{name}": [\n' + ",\n".join(json.dumps(case) for case in value) + "\n]" for name, value in golden.items()]
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("golden.json")
    target.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
