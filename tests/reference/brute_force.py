"""Feature-space answers by the plainest code: loops, float64, no trick."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def mahalanobis(train: Floats, test: Floats, regularisation: float) -> Floats:
    """Distance of `test` (n, p, d) to the Gaussian of `train` (m, p, d), place by place."""
    distances = np.zeros(test.shape[:2])
    for place in range(train.shape[1]):
        mean = train[:, place].mean(axis=0)
        covariance = np.cov(train[:, place], rowvar=False) + regularisation * np.eye(train.shape[2])
        inverse = np.linalg.inv(covariance)
        for image in range(len(test)):
            difference = test[image, place] - mean
            distances[image, place] = np.sqrt(difference @ inverse @ difference)
    return distances


def shrink_gaussians(places: Floats, weight: int) -> tuple[Floats, Floats]:
    """Means (p, d) and covariances (p, d, d) of `places` (p, n, d), each drawn towards that of all places."""
    everything = places.reshape(-1, places.shape[2])
    overall = everything.mean(axis=0)
    scatter_of_all = np.mean([np.outer(row - overall, row - overall) for row in everything], axis=0)
    means, covariances = [], []
    for own in places:
        n = len(own)
        mean = (n * own.mean(axis=0) + weight * overall) / (n + weight)
        scatter = np.mean([np.outer(row - mean, row - mean) for row in own], axis=0)
        means.append(mean)
        covariances.append((n * scatter + weight * scatter_of_all) / (n + weight))
    return np.array(means), np.array(covariances)


def greedy_coreset(points: Floats, count: int) -> list[int]:
    """Farthest-first traversal from point 0, all distances anew at each step."""
    chosen = [0]
    while len(chosen) < count:
        nearest = [min(float(np.sum((point - points[other]) ** 2)) for other in chosen) for point in points]
        chosen.append(int(np.argmax(nearest)))
    return chosen


def mean_nearest(queries: Floats, atoms: Floats, nearest: int) -> Floats:
    """Mean distance of each query to its nearest atoms."""
    return np.array([np.sort([np.linalg.norm(query - atom) for atom in atoms])[:nearest].mean() for query in queries])


def residuals(patches: Floats, image: list[int], rows: int) -> Floats:
    """Difference of each patch after the first `rows` from the nearest of these that is of another image."""
    found = []
    for patch, own in zip(patches[rows:], image[rows:], strict=True):
        others = [row for row, whose in zip(patches[:rows], image[:rows], strict=True) if whose != own]
        found.append(patch - min(others, key=lambda row: float(np.sum((patch - row) ** 2))))
    return np.array(found)


def relative_nearest(queries: Floats, bank: Floats, spacing: Floats) -> Floats:
    """The smallest of each query's distances to the rows, each over the row's spacing."""
    distances = np.array([[np.linalg.norm(query - row) for row in bank] for query in queries])
    return np.min(distances / spacing, axis=1)


def spacings(bank: Floats) -> Floats:
    """Mean distance of each row to the three nearest others, and the mean of that over all rows on top."""
    near = np.array([np.sort([np.linalg.norm(row - other) for other in bank])[1:4].mean() for row in bank])
    return near + near.mean()
