"""Training by a recipe: one process or two, whole batches or parts of them, and motion that no still frame tells."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.footage import make_video

from vtag.engine.models.registry import load_model
from vtag.engine.swin.config import SwinSizes
from vtag.trainer.loop.loop import EpochDone, StepDone
from vtag.trainer.loop.schedule import learning_rate
from vtag.trainer.network.config import Config, parse_config, recipes
from vtag.trainer.network.train_recipe import RecipeDone, RecipeStarted, loop_settings, prepare, train

Vtag = Callable[..., subprocess.CompletedProcess[str]]

RECIPE = """
[model]
name = "ball"
embed_dim = 16
depths = [1, 1]
num_heads = [1, 2]
window_size = [4, 4, 4]
drop_path = 0.0
[data]
train = "train"
val = "val"
frames = 8
interval = 1
short_side = 32
crop = 32
area = [0.9, 1.0]
[optim]
epochs = 2
batch_size = 4
clips_at_once = 2
lr = 3e-3
backbone_lr_scale = 1.0
warmup_epochs = 0.5
[run]
amp = false
device = "cpu"
"""


def ball(rightwards: bool, seed: int, order: list[int] | None = None) -> Callable[[int], np.ndarray]:
    """A ball that goes left or right across noise; its places are the same, so that no still frame tells."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 60, (40, 40, 3)).astype(np.uint8)
    first, row = int(rng.integers(40)), int(rng.integers(10, 30))

    def draw(i: int) -> np.ndarray:
        t = order[i] if order else i
        picture = noise.copy()
        columns = (np.arange(first, first + 9) + (4 * t if rightwards else -4 * t)) % 40
        picture[row - 4 : row + 5, columns] = 230
        return picture

    return draw


def make_balls(folder: Path, count: int, seed: int, *, shuffled: bool = False) -> None:
    for n in range(count):
        right = bool(n % 2)
        name = "ball_goes_right" if right else "ball_goes_left"
        order = np.random.default_rng((seed, n)).permutation(10).tolist() if shuffled else None
        path = folder / name / f"{seed + n}.mkv"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw = ball(right, seed + n, order)
        make_video(path, seconds=1, fps=10, width=40, height=40, codec="ffv1", pix_fmt="yuv420p", draw=draw)


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("balls")
    make_balls(folder / "train", 8, 0)
    make_balls(folder / "val", 4, 100)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def recipe(folder: Path, out: Path, *changes: str) -> Config:
    return parse_config(RECIPE, [f"run.out={out}", *changes], folder=folder, name="recipe.toml")


def tensors(folder: Path) -> dict[str, np.ndarray]:
    return dict(load_model(folder).tensors)


def furthest(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    assert first.keys() == second.keys()
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)


def test_a_training_leaves_the_best_apart_from_the_last_and_says_which(
    balls: Path, tmp_path: Path, vtag: Vtag
) -> None:
    ran = vtag(
        "train", balls / "recipe.toml", "--set", f"run.out={tmp_path / 'out'}", "--set", "optim.epochs=3"
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == str(tmp_path / "out")
    lines = ran.stderr.splitlines()
    assert "training on 8 clips of 2 classes, 4 to validate on; cpu, fp32" in lines[0]
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert len(epochs) == 3
    assert all(
        re.search(r"validation \d+\.\d % top-1 \(one centre crop\)(, the best yet|; best is epoch)", e)
        for e in epochs
    )
    assert re.search(r"done; the best is epoch \d with \d+\.\d %", lines[-1])
    for name in ("best", "last"):
        assert load_model(tmp_path / "out" / name).spec.labels == ("ball goes left", "ball goes right")
    history = (tmp_path / "out" / "history.csv").read_text().splitlines()
    assert len(history) == 4
    assert (tmp_path / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["optim"]["epochs"] == 3
    environment = json.loads((tmp_path / "out" / "environment.json").read_text())
    assert environment["clips"] == 8
    assert len(environment["data"]) == 64
    ran = vtag("eval", balls / "val", "--model", tmp_path / "out" / "best", "--json")
    assert json.loads(ran.stdout)["clips"] == 4


def test_accumulation_equals_the_larger_batch(balls: Path, tmp_path: Path) -> None:
    for at_once in (1, 4):
        list(train(recipe(balls, tmp_path / str(at_once), f"optim.clips_at_once={at_once}")))
    # the same sums in another order: float32 rounding, through Adam's division by small moments
    assert furthest(tensors(tmp_path / "1" / "last"), tensors(tmp_path / "4" / "last")) < 1e-4


def processes(balls: Path, out: Path, count: int, *more: str) -> Iterator[subprocess.Popen[str]]:
    """As torchrun starts them, without its minutes of patience."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for rank in range(count):
        variables = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": count,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        command = [
            sys.executable,
            "-m",
            "vtag.trainer",
            str(balls / "recipe.toml"),
            "--set",
            f"run.out={out}",
        ]
        yield subprocess.Popen(
            [*command, *more],
            env={
                **os.environ,
                **{key: str(value) for key, value in variables.items()},
                "OMP_NUM_THREADS": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def test_two_processes_end_with_the_weights_of_one(balls: Path, tmp_path: Path) -> None:
    running = list(processes(balls, tmp_path / "two", 2))
    output = [process.communicate(timeout=240) for process in running]
    assert [process.returncode for process in running] == [0, 0], output
    assert "2 processes" in output[0][1]
    assert output[1][1] == ""  # the first alone speaks
    list(train(recipe(balls, tmp_path / "one")))
    assert furthest(tensors(tmp_path / "one" / "last"), tensors(tmp_path / "two" / "last")) < 1e-4
    one, two = ((tmp_path / name / "history.csv").read_text().splitlines() for name in ("one", "two"))
    for first_row, second_row in zip(one[1:], two[1:], strict=True):
        assert np.allclose(*(np.array(row.split(","), float) for row in (first_row, second_row)), atol=1e-4)


def test_a_lost_process_ends_the_others_with_one_line_and_a_restart_resumes(
    balls: Path, tmp_path: Path
) -> None:
    more = ("--set", "optim.epochs=400")
    first, second = processes(balls, tmp_path / "out", 2, *more)
    assert first.stderr is not None
    for line in first.stderr:
        if "epoch 2 of" in line:
            break
    second.send_signal(signal.SIGKILL)
    output = first.stderr.read()
    assert first.wait(180) == 1
    second.wait(180)
    lines = [line for line in output.splitlines() if "epoch" not in line]
    assert len(lines) == 1, output
    assert "another process of this training is gone" in lines[0]
    assert "Traceback" not in output
    config = recipe(balls, tmp_path / "out", "optim.epochs=400")
    events = train(config, resume=True)
    started, first_event = next(events), next(events)
    events.close()
    assert isinstance(started, RecipeStarted)
    assert started.resumed
    assert isinstance(first_event, StepDone)


def test_it_resumes_with_what_it_was_and_refuses_what_it_was_not(
    balls: Path, tmp_path: Path, vtag: Vtag
) -> None:
    uninterrupted = [e for e in train(recipe(balls, tmp_path / "whole")) if isinstance(e, EpochDone)]
    events = train(recipe(balls, tmp_path / "part"))
    for event in events:
        if isinstance(event, StepDone) and event.step == 1:
            break
    events.close()
    with_two = ("train", balls / "recipe.toml", "--set", f"run.out={tmp_path / 'part'}")
    ran = vtag(*with_two)
    assert (ran.returncode, len(ran.stderr.splitlines())) == (1, 1)
    assert "--resume goes on with it" in ran.stderr
    ran = vtag(*with_two, "--resume", "--set", "optim.lr=1e-4")
    assert ran.returncode == 1
    assert "of other clips or other settings" in ran.stderr
    assert vtag(*with_two, "--resume").returncode == 0
    assert (tmp_path / "part" / "history.csv").read_text() == (tmp_path / "whole" / "history.csv").read_text()
    assert len(uninterrupted) == 2
    ran = vtag(*with_two)
    assert (ran.returncode, len(ran.stderr.splitlines())) == (1, 1)
    assert "holds a finished training" in ran.stderr
    # a process that was killed between its state and its results: they are written from the state
    best = tensors(tmp_path / "part" / "best")
    (tmp_path / "part" / "history.csv").unlink()
    shutil.rmtree(tmp_path / "part" / "best")
    list(train(recipe(balls, tmp_path / "part"), resume=True))
    assert (tmp_path / "part" / "history.csv").read_text() == (tmp_path / "whole" / "history.csv").read_text()
    assert furthest(tensors(tmp_path / "part" / "best"), best) == 0


def test_the_schedule_of_the_published_settings_worked_out_by_hand() -> None:
    """30 epochs of 100 steps, warm-up 2.5 epochs from a tenth, peak 1e-3: values from a pocket calculator."""
    config = parse_config(recipes()["swin3d-b_k400_videos_32x2"], folder=Path(), name="r")
    s = loop_settings(config, config.model.name, bf16=False)
    table = {0: 1e-4, 125: 5.47647e-4, 250: 9.82963e-4, 1500: 5e-4, 2250: 1.46447e-4, 2999: 2.74156e-10}
    for step, rate in table.items():
        got = learning_rate(
            step, 3000, peak=s.lr, warmup=s.warmup_epochs * 100, ratio=s.warmup_ratio, floor=s.min_lr
        )
        assert got == pytest.approx(rate, rel=1e-5)
    assert s.backbone_lr_scale * s.lr == pytest.approx(1e-4)


PARAMETERS = {
    "t": 28_158_070,
    "s": 49_816_678,
    "b": 88_048_984,
}  # with 400 classes, as torchvision counts them


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_builds_its_model_its_data_and_its_optimiser(name: str, balls: Path, tmp_path: Path) -> None:
    published = parse_config(recipes()[name], folder=tmp_path, name=name)
    size = {"t": "t", "s": "s", "b": "b"}[re.split(r"[-_]", name)[1][0]]
    assert published.model.sizes(400).parameter_count == PARAMETERS[size]
    small = [f"data.train={balls / 'train'}", f"data.val={balls / 'val'}", 'data.root=""', 'model.init=""']
    small += ["data.frames=4", "data.short_side=36", "data.crop=32", "run.out=out", "run.device=cpu"]
    small += ["optim.epochs=3", "optim.batch_size=8", f"model.embed_dim={published.model.embed_dim // 4}"]
    config = parse_config(recipes()[name], small, folder=tmp_path, name=name)
    events = train(config)
    started, stepped = next(events), next(events)
    events.close()
    assert isinstance(started, RecipeStarted)
    assert isinstance(stepped, StepDone)
    assert np.isfinite(stepped.loss)


def test_it_starts_from_a_video_model_and_names_what_does_not_fit(balls: Path, tmp_path: Path) -> None:
    list(train(recipe(balls, tmp_path / "a", "optim.epochs=1", "optim.warmup_epochs=0.5")))
    start = f"model.init={tmp_path / 'a' / 'last'}"
    initial = prepare(recipe(balls, tmp_path / "b", start)).network.swin.arrays()
    trained = tensors(tmp_path / "a" / "last")
    assert all((initial[name] == trained[name]).all() for name in trained if not name.startswith("head."))
    assert np.abs(initial["head.weight"]).max() < 0.06  # new
    for change, message in (("model.embed_dim=32", "of other sizes"), ("model.init=nowhere.pth", "no")):
        with pytest.raises(Exception, match=message):
            prepare(recipe(balls, tmp_path / "b", start, change))


def test_it_starts_from_an_image_model(balls: Path, tmp_path: Path, shared: Path) -> None:
    file = shared / "golden" / "image_mini.pth"
    sizes = (
        "model.embed_dim=12",
        "model.depths=[1,2,1,1]",
        "model.num_heads=[1,2,4,8]",
        "model.window_size=[8,7,7]",
    )
    prepared = prepare(recipe(balls, tmp_path, f"model.init={file}", *sizes))
    golden = np.load(shared / "golden" / "golden_image_mini.npz")
    name = "patch_embed.proj.weight"
    assert np.array_equal(prepared.network.swin.arrays()[name], golden[f"tensor.{name}"])


def test_lists_with_indices_take_their_names_from_the_labels_beside_them(balls: Path, tmp_path: Path) -> None:
    lines = [
        f"{p.relative_to(balls)} {int('right' in p.parent.name)}\n"
        for p in sorted(balls.glob("train/*/*.mkv"))
    ]
    (tmp_path / "train.txt").write_text("".join(lines))
    change = (f"data.train={tmp_path / 'train.txt'}", f"data.root={balls}")
    with pytest.raises(Exception, match=r"name them with data\.labels"):
        prepare(recipe(balls, tmp_path, *change))
    (tmp_path / "labels.txt").write_text("ball_goes_left\nball goes right\nneither\n")
    prepared = prepare(recipe(balls, tmp_path, *change))
    assert prepared.spec.labels == ("ball goes left", "ball goes right", "neither")
    assert prepared.spec.sizes.num_classes == 3
    assert {c.label for c in prepared.dataset.clips} == {"ball goes left", "ball goes right"}


def test_a_wrong_recipe_is_one_line(balls: Path, tmp_path: Path, vtag: Vtag) -> None:
    for change, message in (
        ("optim.wieght_decay=1", "did you mean weight_decay?"),
        ("data.train=nowhere", "no folder and no list of clips"),
        ("data.val=nowhere", "no folder and no list of clips"),
        ("run.tensorboard=1", "has to be true or false"),
    ):
        ran = vtag("train", balls / "recipe.toml", "--set", change)
        assert ran.returncode == 1
        assert message in ran.stderr
        assert len(ran.stderr.splitlines()) == 1
    assert vtag("train", tmp_path / "nowhere.toml").returncode == 1
    assert "Where the numbers come from" in vtag("train", "swin3d-t_k400_videos_32x2", "--show").stdout


def test_ctrl_c_keeps_the_state(balls: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vtag.app", "train", str(balls / "recipe.toml")]
    command += ["--set", f"run.out={tmp_path / 'out'}", "--set", "optim.epochs=400"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("epoch 1 "):
            break
    running.send_signal(signal.SIGINT)  # between the saves of every minute
    output = running.stderr.read()
    assert running.wait(180) == 130
    assert "with --resume goes on from there" in output
    assert "Traceback" not in output
    assert (tmp_path / "out" / "state" / "state.safetensors").is_file()


@pytest.mark.slow
def test_motion_that_no_still_frame_tells_is_learned_and_shuffled_frames_teach_nothing(
    tmp_path: Path,
) -> None:
    for kind in ("moving", "shuffled"):
        for part, count, seed in (("train", 120, 0), ("val", 60, 1000)):
            make_balls(tmp_path / kind / part, count, seed, shuffled=kind == "shuffled")
        config = recipe(
            tmp_path / kind,
            tmp_path / kind / "out",
            "optim.epochs=40",
            "optim.batch_size=12",
            "optim.clips_at_once=12",
        )
        ended = [e for e in train(config) if isinstance(e, RecipeDone)][-1]
        last = (tmp_path / kind / "out" / "history.csv").read_text().splitlines()[-1].split(",")
        if kind == "moving":
            assert ended.best_accuracy is not None
            assert ended.best_accuracy > 0.95
        else:
            assert float(last[-1]) < 0.7


def test_the_views_of_eval_are_the_published_ones(shared: Path) -> None:
    """The twelve views that `vtag eval --protocol test` shows a model of PaddleVideo's own example video."""
    from vtag.engine.video.decode.messages import ClipReady, ProtocolRequest
    from vtag.engine.video.decode.pool import DecodePool

    golden = json.loads((shared / "golden" / "paddle_example.json").read_text())
    video = shared / "clips" / "archery__022.avi"
    if hashlib.sha256(video.read_bytes()).hexdigest() != golden["video"]["sha256"]:
        pytest.skip("the example video is not here")
    with DecodePool(1, 256 << 20) as pool:
        for protocol in ("clip", "test"):
            pool.submit(0, ProtocolRequest(video, protocol, frames=32, short_side=256, crop=224))
            for event in pool:
                if isinstance(event, ClipReady):
                    views = event.pixels.copy()
                    event.release()
            # the golden sum is over [C, views * T, H, W]
            flat = np.ascontiguousarray(views.transpose(4, 0, 1, 2, 3).reshape(3, -1, 224, 224))
            expected = golden["predict" if protocol == "clip" else "test"]["input"]["sha256_uint8_cthw"]
            assert hashlib.sha256(flat.tobytes()).hexdigest() == expected


def test_sizes_are_those_of_the_papers() -> None:
    assert SwinSizes(96, (2, 2, 6, 2), (3, 6, 12, 24), 400).parameter_count == PARAMETERS["t"]
