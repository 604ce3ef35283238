"""A Predictor in a process: torch's threads are left alone, a forked child gets an answer, pickles go by the path."""

import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from blemish import ArtifactError, Predictor, WithdrawnWarning
from blemish.inference.monitor_state import (
    Alarm,
    Bets,
    MonitorState,
    calibration_id,
    default_state_path,
    model_id,
    write_state,
)
from blemish.stats.martingale import start_martingale

IMAGE = np.random.default_rng(5).random((64, 64, 3))


@pytest.fixture
def usual_threads():
    """Three threads, so that neither one nor the number of cores can be mistaken for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


def test_threads_are_those_asked_for_and_put_back(model_file: Path, usual_threads: int) -> None:
    seen = []
    predictor = Predictor.load(model_file, device="cpu", threads=2)
    network = predictor._runtimes[0]._detector  # type: ignore[attr-defined]
    network.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    assert torch.get_num_threads() == usual_threads
    assert predictor.predict(IMAGE).score > 0
    predictor.reconstruct(IMAGE)
    assert (set(seen), torch.get_num_threads()) == ({2}, usual_threads)


def test_threads_are_put_back_after_an_error_and_among_threads(model_file: Path, usual_threads: int) -> None:
    predictor = Predictor.load(model_file, device="cpu", threads=1)
    with pytest.raises(ArtifactError, match="the network fails"):
        predictor._runtimes[0].maps(np.zeros((1, 3, 10, 7), np.float32)[:, :2])
    workers = [threading.Thread(target=predictor.predict, args=(IMAGE,)) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert torch.get_num_threads() == usual_threads


SPIN = """
import os, sys
from blemish import Predictor
Predictor.load(sys.argv[1], device="cpu")
found = [line.split() for line in open("/proc/self/environ").read().split("\\0")]
assert "OMP_WAIT_POLICY" not in os.environ and "GOMP_SPINCOUNT" not in os.environ
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="OMP_DISPLAY_ENV is GNU's OpenMP")
def test_openmp_threads_sleep_while_they_wait_and_the_environment_stays_as_it_was(model_file: Path) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    ran = subprocess.run(
        [sys.executable, "-c", SPIN, model_file],
        env={**plain, "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in ran.stderr


RESTORED = """
import sys
from blemish.inference.torch_runtime import restore_detector
from blemish.models import DETECTORS, make_detector
from blemish.models.detector import ImageShape

sides = {**dict.fromkeys(DETECTORS, 64), "feature_ensemble": 512}  # there it has all of its parts
del sides["dinomaly"]  # its encoder is a network of transformers, which imports what it likes
for name, side in sides.items():
    made = make_detector(name, {}, ImageShape(3, side, side))
    restore_detector(name, {}, (3, side, side), {key: value.numpy() for key, value in made.state_dict().items()})
    assert not sys.modules.keys() & {"torch._dynamo", "torch._inductor", "sympy"}, name
"""


@pytest.mark.slow
def test_to_load_a_model_torch_imports_no_compiler() -> None:
    """It would, for most arithmetic without memory; that takes a second, more than all the rest of loading."""
    ran = subprocess.run([sys.executable, "-c", RESTORED], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr


FORKED = """
import os, sys, threading
import numpy as np
from blemish.inference.predictor import Predictor

image = np.load(sys.argv[2])
predictor = Predictor.load(sys.argv[1], device="cpu")
expected = predictor.predict(image).score  # which starts the threads that the child will not have
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    try:
        os.write(writer, repr(predictor.predict(image).score).encode())
    finally:
        os._exit(0)
os.close(writer)
killer = threading.Timer(60, os.kill, (child, 9))
killer.start()
with os.fdopen(reader, "rb") as answer:
    found = answer.read()
killer.cancel()
os.waitpid(child, 0)
print(expected, found.decode() or "no answer within 60 s")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("kind", ["model_file", "onnx_file"])
def test_a_forked_child_gets_the_same_answer(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """In a process of its own: threads that other tests left behind may hold a lock when it forks."""
    np.save(tmp_path / "image.npy", IMAGE)
    command = [sys.executable, "-c", FORKED, str(request.getfixturevalue(kind)), str(tmp_path / "image.npy")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    expected, found = ran.stdout.split(maxsplit=1)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


FORKED_MEANWHILE = """
import os, threading, time
import numpy as np
from blemish.inference.predictor import _run

pixels = np.zeros((3, 8, 8), np.float32)
begun = threading.Event()

class Slow:
    is_done = False

    def maps(self, images):
        begun.set()
        time.sleep(0.5)
        self.is_done = True
        return np.zeros((1, 8, 8), np.float32)

slow = Slow()
thread = threading.Thread(target=_run, args=(slow, pixels))
thread.start()
begun.wait()
child = os.fork()
if child == 0:
    was_done = slow.is_done
    _run(slow, pixels)
    os._exit(3 if was_done else 4)
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


FORKED_AT_THE_END = """
import os, threading, time
import numpy as np
from blemish.inference.predictor import _run

own, gone = threading.local(), threading.Event()

class Slow:
    def maps(self, images):
        return np.zeros((1, 8, 8), np.float32)

    def __del__(self):  # while the thread ends, when Python no longer knows it
        time.sleep(0.5)
        gone.set()

def judge():
    own.slow = Slow()
    _run(own.slow, np.zeros((3, 8, 8), np.float32))

thread = threading.Thread(target=judge)
thread.start()
while thread in threading.enumerate():
    time.sleep(0.001)
child = os.fork()
if child == 0:
    os._exit(3 if gone.is_set() else 4)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir() or not hasattr(os, "fork"), reason="threads are not told here")
@pytest.mark.parametrize("script", [FORKED_MEANWHILE, FORKED_AT_THE_END])
def test_a_fork_waits_for_threads_that_run_a_network_or_end_after_it(script: str) -> None:
    """The child would have the locks that they hold, and nobody to let go of them."""
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60)
    assert (ran.stdout.strip(), ran.stderr) == ("3", "")


DAEMON = """
import sys, threading
import numpy as np
from blemish.inference.predictor import Predictor

image = np.load(sys.argv[2])
predictor = Predictor.load(sys.argv[1], device="cpu")
begun = threading.Event()

def judge():
    while True:
        predictor.predict(image)
        begun.set()

for _ in range(2):
    threading.Thread(target=judge, daemon=True).start()
begun.wait()
"""


TRAINS = """
import atexit, sys, threading, time

def look():
    before = len(seen)
    time.sleep(0.5)
    print("goes on" if len(seen) > before else "stands still")

atexit.register(look)  # what is registered first comes last
from blemish import make_settings, train_model

settings, seen = make_settings("paper", assignments=["train.epochs=100000", *sys.argv[3:]]), []
given = sys.argv[1], sys.argv[2], settings, "cpu", False, seen.append
threading.Thread(target=train_model, args=given, daemon=True).start()
while not (seen and seen[-1].what == "training"):
    time.sleep(0.01)
"""


INTERRUPTED = """
import sys
import time
import blemish.inference.limits as limits

limits.threading.Thread.join = lambda self, timeout: sys.exit(130)  # Ctrl-C while the first run is waited for

def run():
    time.sleep(0.3)
    print("came to its end")

limits.run_bounded(run, is_on_cpu=False)
"""


@pytest.mark.slow
def test_an_interrupted_first_run_comes_to_its_end_before_python_does() -> None:
    ran = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout) == (130, "came to its end\n")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["model_file", "onnx_file"])
def test_daemon_threads_that_judge_do_not_abort_python_at_its_end(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    np.save(tmp_path / "image.npy", IMAGE)
    command = [sys.executable, "-c", DAEMON, str(request.getfixturevalue(kind)), str(tmp_path / "image.npy")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.slow
def test_a_daemon_thread_that_trains_does_not_abort_python_at_its_end(shared_parts: Path, tmp_path: Path) -> None:
    small = ["data.size_px=[64, 64]", "model.latent=8", "augment.images_of_one=2"]
    command = [sys.executable, "-c", TRAINS, str(shared_parts), str(tmp_path / "m.safetensors"), *small]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "stands still\n", "")


@pytest.mark.parametrize("kind", ["model_file", "onnx_file"])
def test_it_pickles_by_the_path_of_the_same_file(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(request.getfixturevalue(kind), tmp_path))
    monkeypatch.chdir(tmp_path)
    predictor = Predictor.load(path.name, device="cpu", threads=1).with_threshold(0.125)
    written = pickle.dumps(predictor)
    monkeypatch.chdir("/")
    again = pickle.loads(written)
    assert len(written) < 2000
    assert (again.threshold, again.source) == (0.125, predictor.source)
    assert again.predict(IMAGE).score == predictor.predict(IMAGE).score
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ArtifactError, match=r"its SHA-256 is \w+, expected \w+; this is another file"):
        pickle.loads(written)


def test_without_a_file_it_cannot_be_pickled(model_file: Path) -> None:
    predictor = Predictor.load(model_file, device="cpu")
    with pytest.raises(pickle.PicklingError, match="loaded from no file"):
        pickle.dumps(Predictor(predictor.header, predictor._runtimes))


def withdraw(model: Path, state: Path | None = None) -> Alarm:
    """As `blemish monitor` does it."""
    header = Predictor.load(model, device="cpu").header
    alarm = Alarm(stream="brightness", images=40, image="d.png", usual=0.5, now=0.4)
    watch = MonitorState(
        model_id=model_id(header),
        calibration_id=calibration_id(header),
        max_false_alarm_probability=0.01,
        streams={"brightness": Bets.of(start_martingale([0.5]))},
        alarms=(alarm,),
    )
    write_state(state or default_state_path(model), watch)
    return alarm


def test_a_withdrawal_is_known_and_warned_of_once(model_file: Path, tmp_path: Path) -> None:
    model = Path(shutil.copy(model_file, tmp_path))
    predictor = Predictor.load(model, device="cpu")
    assert predictor.withdrawal is None
    predictor.predict(IMAGE)
    alarm = withdraw(model)  # while the predictor is in use
    with pytest.warns(WithdrawnWarning, match="the certificate is withdrawn: brightness has changed"):
        predictor.predict(IMAGE)
    list(predictor.predict_many([IMAGE, IMAGE]))  # a second warning would be an error here
    assert predictor.with_threshold(1.0).withdrawal == predictor.withdrawal == alarm
    default_state_path(model).unlink()
    assert predictor.withdrawal is None


def test_who_asks_is_not_warned(model_file: Path, tmp_path: Path) -> None:
    model = Path(shutil.copy(model_file, tmp_path))
    alarm = withdraw(model, tmp_path / "elsewhere.json")
    assert Predictor.load(model, device="cpu").withdrawal is None
    predictor = Predictor.load(model, device="cpu", state=tmp_path / "elsewhere.json")
    assert predictor.withdrawal == alarm
    predictor.predict(IMAGE)  # warnings are errors in these tests


def test_a_watch_that_cannot_be_read_is_warned_of(model_file: Path, tmp_path: Path) -> None:
    model = Path(shutil.copy(model_file, tmp_path))
    default_state_path(model).write_text("{}")
    predictor = Predictor.load(model, device="cpu")
    with pytest.warns(WithdrawnWarning, match="not what `blemish monitor` wrote"):
        predictor.predict(IMAGE)
    predictor.predict(IMAGE)
