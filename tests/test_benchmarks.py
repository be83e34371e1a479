import functools
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from benchmarks import __main__ as benchmarks
from benchmarks import attention, captioning, growth, recurrent, style, timing, visualization
from benchmarks.figure import MISSED, draw_ratios
from benchmarks.own_process import as_users_have_it
from benchmarks.timing import Case, Row, measure
from visualization import (
    EfficientNetLite2,
    SqueezeNet,
    load_image,
    network_specification,
    style_transfer,
)


def counting(*results):
    """A contender that gives these results in turn, the last one for ever."""
    left = list(results)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


@pytest.fixture
def cases(monkeypatch):
    """Two benchmarks that take no time: one of ratios, and one of growth."""
    compared = [
        Case(
            "memory of this and that",
            {"tfcap": counting(2.0), "fast": counting(1.0), "slow": counting(1.0, 9.0, 8.0)},
            {"fast": 1.0, "slow": 3.0},
            rounds=3,
            warmups=0,
            missing={"torch": "not installed"},
            unit="MB",
            note="first call 0.1 s",
        )
    ]
    flat = {"twice": counting(3.0), "once": counting(2.0)}
    compared.append(Case("flat", flat, at_most=1.1, rounds=2, warmups=0, unit="us"))
    growing = [
        Case(growth.name(letter, value), {"tfcap": lambda: None}, rounds=2)
        for letter, values in growth.GROWTH.items()
        for value in values
    ]
    for name, made in {"fool": compared, "growth": growing}.items():
        module = types.ModuleType(name)
        module.cases = lambda made=made: iter(made)
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", module)
    monkeypatch.setattr(benchmarks, "run_alone", benchmarks.run)  # which has these modules
    return compared


def test_a_ratio_is_of_medians_and_its_spread_the_quartiles_over_the_median(cases):
    ours, fast, slow = measure(cases[0])
    assert (ours.median, ours.ratio, ours.spread) == (2, 1, 0)
    assert (fast.ratio, fast.missed, fast.noisy) == (0.5, True, False)
    assert (slow.median, slow.ratio, slow.spread) == (8, 4, (8.5 - 4.5) / 8)
    assert slow.noisy
    assert not slow.missed


def test_flat_means_that_no_contender_is_slower_than_the_fastest_by_more_than_promised():
    times = {"8": counting(10.0), "4": counting(9.0), "2": counting(9.8)}
    rows = measure(Case("", times, at_most=1.1, rounds=2, warmups=0, unit="us"))
    assert [row.ratio for row in rows] == pytest.approx([10 / 9, 1, 9.8 / 9])
    assert [row.missed for row in rows] == [True, False, False]


def test_time_is_given_for_one_piece_of_work():
    calls = []
    case = Case("", {"tfcap": lambda: calls.append(1)}, per_call=1000, rounds=4, warmups=2)
    (row,) = measure(case)
    assert len(calls) == 6
    assert row.unit == "ms"
    assert row.median < 0.1


def test_a_slow_case_gets_fewer_rounds_and_its_warming_counts(monkeypatch):
    calls = []
    case = Case("", {"tfcap": lambda: calls.append(1)}, rounds=50, warmups=2)
    monkeypatch.setattr(timing, "SECONDS", 1e-9)
    assert measure(case)[0].rounds == timing.LEAST == len(calls)


def test_what_is_measured_once_has_no_spread():
    (row,) = measure(Case("", {"tfcap": lambda: 3.0}, rounds=1, warmups=0, unit="MB"))
    assert (row.median, row.spread, row.rounds) == (3, 0, 1)


def test_a_run_prints_a_table_and_writes_the_figures_and_a_picture(cases, tmp_path, capsys):
    files = ["--json", str(tmp_path / "a.json"), "--figure", str(tmp_path / "a.png")]
    assert benchmarks.main(["fool", "growth", *files]) == 1
    said = capsys.readouterr().out
    assert said.startswith("processor ")
    assert "memory of this and that; first call 0.1 s; median of 3 rounds" in said
    lines = {line.split()[0]: line for line in said.splitlines() if line.strip()}
    assert lines["fast"].endswith("1.00 MB       0%    0.50  at least 1.00, MISSED")
    assert lines["slow"].endswith("4.00  at least 3.00, noisy")
    assert lines["twice"].endswith("1.50  at most 1.10, MISSED")
    assert "2 of 4 promised ratios kept" in said
    assert "missing peers: torch; 'make bench' installs them" in said

    report = json.loads((tmp_path / "a.json").read_text())
    assert report["missing_peers"] == ["torch"]
    assert report["rows"][1] == {
        "case": "memory of this and that",
        "contender": "fast",
        "unit": "MB",
        "rounds": 3,
        "median": 1,
        "spread": 0,
        "ratio": 0.5,
        "at_least": 1,
        "at_most": None,
        "note": "first call 0.1 s",
    }
    assert len(report["rows"]) == 3 + 2 + 9
    assert load_image(tmp_path / "a.png").shape[1] == 1000
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_each_of_several_benchmarks_is_measured_in_a_process_of_its_own(tmp_path):
    names = ["checkpoints", "checkpoints"]
    file = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks", *names, "--json", str(file)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode in (0, 1), said.stderr
    rows = json.loads(file.read_text())["rows"]
    assert len(rows) == 2 * 4
    assert all(row["median"] > 0 for row in rows)
    assert said.stdout.count("checkpoints: the bundled weights") == 2
    assert "of 4 promised ratios kept" in said.stdout


def test_ratios_alone_and_growth_alone_can_be_drawn(cases, tmp_path):
    for name in ("fool", "growth"):
        benchmarks.main([name, "--figure", str(tmp_path / f"{name}.png")])
        assert load_image(tmp_path / f"{name}.png").std() > 5


def test_a_bar_is_red_if_its_promise_was_missed_and_pale_if_noisy():
    axes = Figure().subplots()
    measured = [("ours", 1, None, 0), ("a", 2, 3, 0), ("b", 2, None, 0.2), ("c", 2, 1, 0)]
    draw_ratios(
        axes,
        [Row("case", name, "ms", 5, r, spread, r, least) for name, r, least, spread in measured],
    )
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert [colour[:3] == to_rgb(MISSED) for colour in colours] == [
        True,
        False,
        False,
    ]
    assert [colour[3] < 1 for colour in colours] == [False, True, False]


def test_of_a_case_that_should_be_flat_every_contender_has_a_bar():
    axes = Figure().subplots()
    ratios = {"a": 1.3, "b": 1.0, "c": 1.05}
    draw_ratios(axes, [Row("", name, "us", 5, r, 0, r, None, 1.1) for name, r in ratios.items()])
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert [colour[:3] == to_rgb(MISSED) for colour in colours] == [True, False, False]


def test_every_recurrent_case_that_is_timed_prints_its_share_of_the_products(monkeypatch):
    for name in ("ours", "theirs", "in_numpy", "in_torch", "products", "as_users_have_it"):
        monkeypatch.setattr(recurrent, name, lambda *sizes, **options: lambda: None)
    timed = [case for case in recurrent.cases() if case.unit == "ms"]
    assert len(timed) == 7
    assert all(recurrent.FLOOR in case.contenders for case in timed)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_products_alone_are_run_in_the_dtype_of_the_case(dtype):
    values = recurrent.products("LSTM", (2, 3, 4, 5), dtype)()
    assert {value.dtype.name for value in values} == {dtype}
    through_time, inputs, weights = values[:2], values[2:4], values[4:]
    assert [value.shape for value in through_time] == [(2, 5), (2, 20)]
    assert [value.shape for value in (*inputs, *weights)] == [(6, 20), (6, 4), (4, 20), (5, 20)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fol"], "no benchmark is called fol; there are startup,"),
        (["fool", "--json", "nowhere/a.json"], "--json nowhere/a.json: its folder does not exist"),
        (["fool", "--figure", "a.txt"], "--figure a.txt: the picture is a PNG"),
    ],
)
def test_wrong_arguments_get_a_sentence_before_anything_runs(arguments, sentence, capsys):
    with pytest.raises(SystemExit, match="2"):
        benchmarks.main(arguments)
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "build"), [("squeezenet", SqueezeNet), ("efficientnet-lite2", EfficientNetLite2)]
)
def test_the_networks_in_pytorch_give_the_scores_of_ours_in_both_layouts(name, build):
    torch = pytest.importorskip("torch")
    from benchmarks.pytorch import layouts

    specification = network_specification(name)
    image = visualization.photograph(specification.size[0])
    X = specification.to_input(np.stack([image, image[:, ::-1]]))
    scores = build()(X, training=False).numpy()
    for network, layout in layouts(name).values():
        x = torch.from_numpy(X).permute(0, 3, 1, 2).contiguous(memory_format=layout)
        np.testing.assert_allclose(network(x).numpy(), scores, atol=1e-3)


@pytest.mark.slow
def test_the_captioners_with_attention_begin_with_the_loss_of_a_guess_a_word(monkeypatch):
    sizes = {"IMAGES": 4, "L": 5, "D": 12, "W": 8, "H": 16, "HEADS": 4, "V": 40}
    for name, size in sizes.items():
        monkeypatch.setattr(attention, name, size)
    captions = attention.data()["train_captions"]
    words = np.count_nonzero(captions[:, 1:])
    ours = float(attention.ours()()) * len(captions) / words  # ours is a mean over captions
    peers = [attention.in_keras()()]
    peers += [attention.in_torch()()] if attention.torch else []
    assert [ours, *map(float, peers)] == pytest.approx([np.log(40)] * (1 + len(peers)), rel=0.1)


def test_every_captioner_says_the_same_words_of_the_same_images(monkeypatch):
    for name, size in {"IMAGES": 4, "D": 8, "W": 8, "H": 16, "T": 5}.items():
        monkeypatch.setattr(captioning, name, size)
    for case in captioning.sentences():
        words, *others = [contender() for contender in case.contenders.values()]
        for other in others:
            np.testing.assert_array_equal(other, words)


def test_a_peer_in_its_own_process_imports_tensorflow_before_our_setting_of_onednn():
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1"
    as_users_have_it(f"{__name__}:as_in_its_own_process")()


def as_in_its_own_process():
    assert b"ONEDNN" not in Path("/proc/self/environ").read_bytes()  # as the process began
    assert list(sys.modules).index("tensorflow") < list(sys.modules).index("visualization")
    return lambda: None


def test_every_loop_of_style_transfer_paints_the_same_picture(monkeypatch):
    # one step, as Adam's later ones turn rounding into whole steps; the course's own painting size
    for name, value in {"SIZE": 64, "ITERATIONS": 1, "SLOW_FROM": 1, "RATE": 1e-3}.items():
        monkeypatch.setattr(style, name, value)
    monkeypatch.setattr(
        style, "style_transfer", functools.partial(style_transfer, learning_rate=1e-3)
    )
    (case,) = style.cases()
    ours, *others = [contender() for contender in case.contenders.values()]
    for other in others:
        other = other if other.shape == ours.shape else other.transpose(0, 2, 3, 1)
        assert np.mean(np.abs(other - ours) > 1e-4) < 0.01


def test_every_benchmark_is_in_the_list():
    folder = Path(benchmarks.__file__).parent
    modules = [path.stem for path in folder.glob("*.py") if "def cases()" in path.read_text()]
    assert sorted(modules) == sorted(benchmarks.NAMES)
    subprocess.run([sys.executable, "-m", "benchmarks", "--help"], cwd=folder.parent, check=True)
