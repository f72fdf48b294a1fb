"""What `watch` films is what `evaluate` rolls out, and the file can be played."""

import os
from contextlib import closing

import numpy as np
import pytest

import aspc_fast as af
from aspc_fast.cli import main
from aspc_fast.errors import UserError
from aspc_fast.evaluation import make_task
from aspc_fast.film import opengl
from aspc_fast.film import watch as watching
from aspc_fast.film.maze_drawing import MazeDrawing
from aspc_fast.film.opengl import use_opengl
from aspc_fast.film.video import write_video
from tests.helpers import toy_data

SMALL = {"steps": 20, "log_every": 20, "eval_every": 0, "hidden_dim": 8, "batch_size": 8, "device": "cpu"}
MAZE, SEED_AT_TARGET = "PointMaze_UMaze-v3", 9


@pytest.fixture(scope="module")
def backend():
    try:
        return use_opengl()
    except UserError as error:
        pytest.skip(str(error))


def trained(folder, env, obs_dim, act_dim):
    return af.train(toy_data(obs_dim=obs_dim, act_dim=act_dim, env=env), out=folder, **SMALL).folder


@pytest.fixture(scope="module")
def maze_run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("watch") / "maze", MAZE, 4, 2)


@pytest.mark.parametrize(
    ("env", "frame", "seed", "tolerance"),
    [
        (MAZE, "simulator", SEED_AT_TARGET, 0.0),
        (MAZE, "d4rl", SEED_AT_TARGET, 0.0),
        ("Hopper-v4", "simulator", 3, 1e-5),
        ("Walker2d-v4", "simulator", 3, 1e-5),
        ("HalfCheetah-v4", "simulator", 3, 1e-3),
        ("AntMaze_UMaze-v4", "d4rl", 3, 0.0),
    ],
)
def test_the_filmed_environment_is_the_evaluated_one(backend, env, frame, seed, tolerance):
    from aspc_fast.film.simulate import GymnasiumFilm

    task = make_task(env, frame)
    actions = np.random.default_rng(0).uniform(-1, 1, (20, task.act_dim))
    with closing(GymnasiumFilm(task, 64, backend)) as film, closing(task.open([seed], 1)) as simulator:
        assert film.same_start
        for _ in range(2):  # and a second episode starts as the first did
            assert np.abs(film.reset(seed) - (first := film.reset(seed))).max() == 0
        assert np.abs(first - simulator.reset()[0]).max() <= tolerance
        paid = 0.0
        for action in actions:
            shown, (rolled, reward, terminal) = film.step(action), simulator.step(action[None])
            assert np.abs(shown[0] - rolled[0]).max() <= tolerance
            assert abs(shown[1] - reward[0]) <= max(tolerance, 1e-6)
            assert shown[2] == terminal[0]
            paid += shown[1]
            if shown[2]:
                break
        if env == MAZE:
            assert paid == 20  # the start state of this seed lies inside the target, which is D4RL's
        picture = film.picture()
        assert (picture.shape, picture.dtype) == ((64, 64, 3), np.uint8)
        assert picture.std() > 10


def test_adroit_is_scored_by_d4rls_rules(backend):
    """The pen falls out of a hand that opens and tilts: D4RL ends the episode there, gymnasium never does."""
    from aspc_fast.film.simulate import GymnasiumFilm

    with closing(GymnasiumFilm(make_task("AdroitHandPen-v1"), 64, backend)) as film:
        assert not film.same_start
        film.reset(0)
        opened = np.concatenate([[0.0, 1.0], -np.ones(22)])
        ended = [film.step(opened)[2] for _ in range(100)]
    assert not any(ended[:10])
    assert any(ended)


def test_an_mp4_of_a_maze(backend, maze_run, capsys):
    import imageio_ffmpeg

    with pytest.raises(SystemExit) as ended:
        main(["watch", str(maze_run), "--episodes", "2", "--seed", "1", "--speed", "12"])
    assert ended.value.code == 0
    result = af.evaluate(af.load_policy(maze_run), MAZE, 2, 1)
    said = " ".join(capsys.readouterr().out.split())
    for i in range(2):
        assert (
            f"episode {i}: score {result.normalised_scores[i]:.1f}, return {result.returns[i]:.1f}, 300 steps" in said
        )
    assert f"evaluate has {result.score:.1f} from the same start states" in said
    assert MAZE in said
    path = maze_run / "episode-seed1.mp4"
    frames = imageio_ffmpeg.read_frames(str(path))
    described = next(frames)
    # 300 steps of 0.01 s at twelve times the speed: a picture every 48 steps, and 0.6 s at the end, twice
    assert (described["size"], described["fps"]) == ((480, 480), 25.0)
    assert sum(1 for _ in frames) == 2 * (1 + 300 // 48 + 15)


def test_a_flat_gif(maze_run, tmp_path):
    from PIL import Image

    watched = watching.watch(maze_run, seed=2, out=tmp_path / "a.gif", flat=True, speed=8)
    assert watched.returns == watched.evaluated.returns.tolist()
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.size == (480, 480)
        gif.seek(1)  # more than one picture
    assert os.listdir(tmp_path) == ["a.gif"]


def test_the_drawing_shows_ball_target_and_walls():
    """In both frames the ball is drawn where the simulator has it."""
    pictures = {}
    for frame in ("simulator", "d4rl"):
        with closing(MazeDrawing(make_task(MAZE, frame), 480)) as drawing:
            first = drawing.reset(SEED_AT_TARGET)
            pictures[frame] = drawing.picture()
            if frame == "simulator":
                x, y = first[:2]
    assert np.array_equal(*pictures.values())
    scale = 480 * 0.94 / 5  # pixels per cell: the map is as high as the part of the picture below the title
    ball = pictures["simulator"][round(480 - (y + 2.5) * scale) - 1, round(240 + x * scale)]
    assert np.abs(ball.astype(int) - (0xC2, 0x57, 0x1A)).max() < 10
    wall = pictures["simulator"][round(480 - (0 + 2.5) * scale), round(240 - 1 * scale)]
    assert np.abs(wall.astype(int) - (0x8B, 0x93, 0xA1)).max() < 10


def test_without_opengl_mazes_are_drawn_and_others_say_what_to_install(maze_run, tmp_path, monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(opengl, "_failure", lambda backend: "no such library")
    watched = watching.watch(maze_run, out=tmp_path / "a.gif", speed=30)
    assert "drawn flat" in watched.engine
    assert "egl: no such library" in watched.note
    assert watched.returns == watched.evaluated.returns.tolist()
    hopper = trained(tmp_path / "hopper", "Hopper-v4", 11, 3)
    with pytest.raises(UserError, match="apt-get install libegl1"):
        watching.watch(hopper, out=tmp_path / "b.mp4")
    assert not (tmp_path / "b.mp4").exists()


def test_a_backend_that_fails_is_found_out(monkeypatch):
    monkeypatch.setitem(os.environ, "PYOPENGL_PLATFORM", "nonsense")
    opengl._failure.cache_clear()
    try:
        assert "PYOPENGL_PLATFORM" in (opengl._failure("egl") or "")
    finally:
        opengl._failure.cache_clear()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{run}", "--out", "{tmp}/a.avi"], "the video's name must end in .mp4 or .gif"),
        (["{run}", "--out", "{tmp}/no/a.mp4"], "a.mp4: cannot be written (No such file or directory)"),
        (["{run}", "--episodes", "0"], "episodes must be at least 1, got 0"),
        (["{run}", "--speed", "0"], "speed must lie in [0.01, 100], got 0"),
        (["{run}", "--seed", "-1"], "seed -1 is negative"),
        (["{run}", "--env", "Hopper-v4"], "the policy takes observations [n, 4]"),
        (["{run}", "--env", "Hopper-v4", "--flat"], "only point mazes can be drawn flat"),
        (["{run}", "--env", "Pong"], "Pong"),
        (["{tmp}/none"], "none: no such results folder or file"),
    ],
)
def test_mistakes_are_one_sentence(maze_run, tmp_path, capsys, words, said):
    with pytest.raises(SystemExit) as ended:
        main(["watch", *(word.format(run=maze_run, tmp=tmp_path) for word in words)])
    shown = capsys.readouterr().err
    assert ended.value.code == 2
    assert said in shown
    assert len(shown.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_mujoco_gl_is_named(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "vulkan")
    with pytest.raises(UserError, match="MUJOCO_GL is 'vulkan'"):
        use_opengl()


def test_a_video_that_fails_leaves_nothing(tmp_path):
    def pictures():
        yield np.zeros((64, 64, 3), np.uint8)
        raise UserError("the policy gave up")

    for name in ("a.mp4", "a.gif"):
        with pytest.raises(UserError, match="gave up"):
            write_video(tmp_path / name, pictures(), 25.0)
    assert list(tmp_path.iterdir()) == []
