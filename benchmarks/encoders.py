"""Packaged encoders under detectors on pretrained features, on several image sets: one row a set, detector and encoder.

    python benchmarks/encoders.py DATA [DATA ...] --seeds 1 -o build/encoders

With `data.speed=fast`, so that encoders are compared at one size; columns and means as in default_detector.py. It goes
on where it was stopped, and writes OUT/encoders.json after each set.
"""

from default_detector import Part, Work, options, run_sets

ENCODERS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
DETECTORS = ("feature_ensemble", "patchcore")


def main() -> None:
    parser = options(__doc__, 1, DETECTORS, "build/encoders")
    parser.add_argument("--encoders", default=",".join(ENCODERS), help="names for model.encoder, with commas between")
    given = parser.parse_args()
    detectors = given.detectors.split(",")
    parts = [
        Part(name, tuple(detectors), ("data.speed=fast", f"model.encoder={name}", *given.set))
        for name in given.encoders.split(",")
    ]
    work = Work(given.seeds, detectors, given.out, parts, given.device, given.workers)
    run_sets(given.data, work, "encoders.json")


if __name__ == "__main__":
    main()
