"""Weights, efficient frontier and walk-forward test by skfolio: `python -m smallcase_service.optimiser`.

A process of its own: `ready`, then a line of JSON in for every task and a line of JSON out for its result. The library takes
seconds to import and a processor to itself, so it runs where it blocks nobody and can be stopped. Nothing here decides: it
only computes.
"""

import importlib
import json
import select
import sys
import warnings
from typing import Any, TypedDict

READY = b"ready"
IDLE_SECONDS_MAX = 900
"""Nothing asked for so long: the process gives its memory back."""
FRONTIER_POINTS = 12
TRADING_DAYS = 252


class Task(TypedDict):
    """Closes of shares, a row a share, on common ascending days without gaps; limits as fractions."""

    closes: list[list[float]]
    method: str
    max_weight: float
    risk_free: float
    train: int
    test: int
    with_frontier: bool


class Result(TypedDict):
    """Weights as fractions; yearly (mean, volatility) pairs of the frontier; daily returns of the walk-forward test.

    `fell_back`: no weights beat the risk-free rate, so those of minimum variance stand there.
    """

    weights: list[float]
    fell_back: bool
    frontier: list[tuple[float, float]]
    walked: list[float]
    walked_equal: list[float]
    refits: int


def solve(task: Task) -> Result:
    """Run one task. The first day of the walk-forward returns is the one after `train` returns."""
    # Imported here: three seconds that only this process pays.
    import numpy as np
    from skfolio.model_selection import WalkForward, cross_val_predict
    from skfolio.optimization import EqualWeighted

    prices = np.asarray(task["closes"], dtype=np.float64)
    returns = (prices[:, 1:] / prices[:, :-1] - 1).T
    model = _model(task).fit(returns)
    folds = WalkForward(train_size=task["train"], test_size=task["test"], reduce_test=True)
    walked = cross_val_predict(_model(task), returns, cv=folds)
    equal = cross_val_predict(EqualWeighted(), returns, cv=folds)
    frontier = _frontier(task, returns) if task["with_frontier"] else []
    return {
        "weights": [float(weight) for weight in model.weights_],
        "fell_back": getattr(model, "fallback_", None) is not None,
        "frontier": frontier,
        "walked": [float(value) for value in walked.returns],
        "walked_equal": [float(value) for value in equal.returns],
        "refits": len(walked),
    }


def _model(task: Task) -> Any:
    from skfolio.optimization import HierarchicalRiskParity, MeanRisk, ObjectiveFunction

    if task["method"] == "hierarchical_risk_parity":
        return HierarchicalRiskParity(prior_estimator=_prior(), max_weights=task["max_weight"])
    calm = MeanRisk(prior_estimator=_prior(), max_weights=task["max_weight"])
    if task["method"] == "minimum_variance":
        return calm
    return MeanRisk(
        objective_function=ObjectiveFunction.MAXIMIZE_RATIO,
        prior_estimator=_prior(),
        max_weights=task["max_weight"],
        risk_free_rate=(1 + task["risk_free"]) ** (1 / TRADING_DAYS) - 1,
        fallback=calm,
    )


def _prior() -> Any:
    from skfolio.moments import EmpiricalMu, LedoitWolf
    from skfolio.prior import EmpiricalPrior

    return EmpiricalPrior(mu_estimator=EmpiricalMu(), covariance_estimator=LedoitWolf())


def _frontier(task: Task, returns: Any) -> list[tuple[float, float]]:
    import numpy as np
    from skfolio.optimization import MeanRisk

    model = MeanRisk(
        efficient_frontier_size=FRONTIER_POINTS, prior_estimator=_prior(), max_weights=task["max_weight"]
    ).fit(returns)
    known = model.prior_estimator_.return_distribution_
    points = []
    for weights in np.atleast_2d(model.weights_):
        mean = float(weights @ known.mu) * TRADING_DAYS
        points.append((mean, float(np.sqrt(weights @ known.covariance @ weights * TRADING_DAYS))))
    return points


def answer(line: bytes) -> dict[str, Any]:
    """The result of one task, or `{"error": ...}`: whatever the library raises, the process goes on."""
    try:
        return {**solve(json.loads(line))}
    except Exception as error:  # noqa: BLE001  solvers raise classes of many libraries; the caller tells the user
        return {"error": type(error).__name__}


def main() -> int:
    """Import, say so, solve until the input closes or nobody asks any more."""
    warnings.simplefilter("ignore")
    for name in ("skfolio.model_selection", "skfolio.optimization", "skfolio.prior", "skfolio.moments"):
        importlib.import_module(name)
    _say(READY)
    # One task at a time: nothing of the next one can wait unseen in the buffer.
    source = sys.stdin.buffer
    while select.select([source], [], [], IDLE_SECONDS_MAX)[0]:
        line = source.readline()
        if not line:
            return 0
        _say(json.dumps(answer(line)).encode())
    return 0


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    raise SystemExit(main())
