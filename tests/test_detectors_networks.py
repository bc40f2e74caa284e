"""The networks trained here: folds that share nothing, training that goes on after a cut, crops, maps, gradients."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from detectors._augment import Augmentation
from detectors._fit import TrainingSet, collect, grouped_folds, seeded
from detectors._network import views
from detectors._resnet import resnet18
from detectors._training import Keeper, Lesson, Schedule, Training, train
from detectors.cnn import CNN, CROPPED
from detectors.npr import NPR, relations
from detectors.patch import FIELD, STEP, Patch, Patches
from evalkit.detection import pooled
from evalkit.errors import RunFailed, TooFewSamples, UnknownName, UnreadableSample, UsageError
from evalkit.samples import halves, select
from evalkit.types import Differentiable, Mapped, Resumable
from tests.test_detectors import auroc, listed, p_fake, unseen

QUICK = {"visits": 240, "fewest": 2, "most": 40}


def noisy(n, side, seed):
    """Cameras, roughly: independent noise on a smooth ground."""
    rng = np.random.RandomState(seed)
    ground = rng.uniform(80, 170, (n, 1, 1, 3))
    return list(np.clip(ground + rng.randn(n, side, side, 3) * 12, 0, 255).astype(np.uint8))


def enlarged(n, side, seed):
    """The same at half the side, every pixel doubled: what nearest upsampling leaves behind, a little noise over it."""
    rng = np.random.RandomState(seed + 1000)
    small = np.stack(noisy(n, side // 2, seed)).repeat(2, axis=1).repeat(2, axis=2)
    return list(np.clip(small + rng.randn(*small.shape) * 3, 0, 255).astype(np.uint8))


def striped(n, side, seed):
    """The first with wide stripes, which blur and JPEG leave: the large cnn is trained to look past finer things."""
    stripes = 40 * np.sin(2 * np.pi * np.arange(side) / 12)[:, None]
    return [np.clip(image + stripes, 0, 255).astype(np.uint8) for image in noisy(n, side, seed)]


FAKES = {NPR: enlarged, Patch: enlarged, CNN: striped}


def quickly(cls, **crops):
    """The judge with less effort and other crops, and a ResNet-18 of an eighth of its width."""
    plans = replace(cls.plans, effort=replace(cls.plans.effort, **QUICK), crops=replace(cls.plans.crops, **crops))
    if cls is CNN:
        # Twenty normalisations need a hundred steps before their running statistics can be judged by.
        schedule = replace(plans.schedule, batch=8, peak_rate=3e-3)
        plans = replace(plans, effort=replace(plans.effort, visits=800), schedule=schedule)
    narrow = {"_network": lambda self, facts: resnet18(stem=(3, 2), pool=False, width=8)} if cls is CNN else {}
    return type(cls.__name__, (cls,), {"plans": plans, **narrow})


@pytest.fixture(scope="module")
def fitted():
    """One judge of each kind on images of 40 pixels, with several crops where the judge takes several."""
    made = {}
    for cls, crops in ((NPR, {"most": 16}), (Patch, {"most": 16}), (CNN, {"least": 24, "most": 24})):
        made[cls] = quickly(cls, **crops)()
        made[cls].fit(listed(noisy(24, 40, 0)), listed(FAKES[cls](24, 40, 1)), seed=0)
    return made


def training_set(real, fake):
    """(digest, group) of each sample of the two sides."""
    every = [*real, *fake]
    truth = np.repeat([0, 1], [len(real), len(fake)])
    return TrainingSet([], truth, "", tuple(d for d, _ in every), tuple(g for _, g in every))


def folds_of(fold, words):
    return {word: {int(f) for f, w in zip(fold, words, strict=True) if w == word} for word in set(words)}


def test_copies_share_a_fold_within_a_side_and_across_sides():
    real = [(f"{i % 20}", None) for i in range(40)]
    fake = [(f"{i + 15}", None) for i in range(30)]
    data = training_set(real, fake)
    fold = grouped_folds(data, 3, seed=4)
    assert all(len(inside) == 1 for inside in folds_of(fold, data.digests).values())
    sizes = [np.bincount(fold[data.is_fake == side], minlength=3) for side in (0, 1)]
    assert max(sizes[0]) - min(sizes[0]) <= 4 and max(sizes[1]) - min(sizes[1]) <= 4
    assert not np.array_equal(fold, grouped_folds(data, 3, seed=5))


def test_three_generators_stay_whole_and_two_do_not():
    real = [(f"r{i}", None) for i in range(30)]
    for names, whole in ((("a", "b", "c", "d"), True), (("a", "b"), False)):
        fake = [(f"f{i}", names[i % len(names)]) for i in range(40)]
        fold = grouped_folds(training_set(real, fake), 3, seed=0)[30:]
        assert all(len(inside) == 1 for inside in folds_of(fold, [g for _, g in fake]).values()) is whole
        assert set(fold) == {0, 1, 2}


def test_classes_of_what_is_shown_are_no_origins_and_pooled_sets_are():
    def grouped(name, groups):
        images = listed(noisy(24, 8, len(name)), name)
        return replace(images, samples=tuple(replace(s, group=g) for s, g in zip(images, groups * 6, strict=True)))

    real, classes = grouped("real", ["cat", "dog", "cow", "hen"]), grouped("fake", ["cat", "dog", "cow", "hen"])
    four = pooled([select(classes, range(6 * k, 6 * k + 6), f"g{k}") for k in range(4)])
    for fake, origins in ((classes, set()), (four, {"g0", "g1", "g2", "g3"}), (halves(four)[0], None)):
        data = collect("toy", "image", torch.from_numpy, real, fake)
        found = set(data.groups) - {None}
        assert found == origins if origins is not None else found and found <= {"g0", "g1", "g2", "g3"}
        assert all(g is None for g, f in zip(data.groups, data.is_fake, strict=True) if not f)


def test_a_side_of_copies_is_refused_in_one_line():
    with pytest.raises(TooFewSamples, match="3 different samples a side"):
        grouped_folds(training_set([(f"r{i}", None) for i in range(12)], [("same", None)] * 12), 3, seed=0)


# ---------------------------------------------------------------------------------------------- the loop


class Stopped(Exception):
    pass


def small_lesson(stop_at=math.inf, spoilt_at=math.inf):
    """Forty points of two clouds, thirty of them of one; raises or gives NaN from an epoch on."""
    points = torch.randn(40, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.3
    truth = torch.tensor([0.0] * 30 + [1.0] * 10)
    points[30:] += 0.2

    def seen(index, epoch):
        if epoch >= stop_at:
            raise Stopped
        return points[index] * (math.nan if epoch >= spoilt_at else 1.0)

    def scores(network):
        network.eval()
        return network(points)

    return Lesson(seen, truth, torch.ones(40), scores, truth, torch.ones(40))


def trained(lesson, plan, keeper=None):
    with seeded(3, "cpu"):
        network = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(48, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        network.append(nn.Flatten(0))
        train(network, lesson, plan, keeper)
    return network.state_dict()


@pytest.mark.parametrize("plan", [Schedule(9, 8, 0.1, 0.02), Schedule(30, 8, 0.3, 0.0, patience=3, attack=20.0)])
def test_a_training_cut_off_and_resumed_ends_in_the_same_bits(plan, tmp_path):
    whole = trained(small_lesson(), plan)
    with pytest.raises(Stopped):
        trained(small_lesson(stop_at=5), plan, Keeper(tmp_path, "one", "key"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one-4.safetensors", "one.json"]
    # An epoch seen again would raise here.
    resumed = replace(small_lesson(), views=lambda index, epoch: small_lesson().views(index, epoch) / (epoch >= 4))
    again = trained(resumed, plan, Keeper(tmp_path, "one", "key"))
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    finished = trained(small_lesson(stop_at=0), plan, Keeper(tmp_path, "one", "key"))
    assert all(torch.equal(whole[key], finished[key]) for key in whole)


def test_a_state_of_another_training_is_refused_and_a_damaged_one_begun_again(tmp_path):
    plan = Schedule(4, 8, 0.1, 0.02)
    whole = trained(small_lesson(), plan, Keeper(tmp_path, "one", "key"))
    with pytest.raises(UsageError, match="another folder"):
        trained(small_lesson(), plan, Keeper(tmp_path, "one", "other"))
    (tmp_path / "one-4.safetensors").write_bytes(b"rubbish")
    with pytest.raises(Stopped):
        trained(small_lesson(stop_at=0), plan, Keeper(tmp_path, "one", "key"))
    again = trained(small_lesson(), plan, Keeper(tmp_path, "one", "key"))
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_a_loss_that_is_no_number_ends_the_training_and_leaves_the_last_state(tmp_path):
    with pytest.raises(RunFailed, match="epoch 4; the state before it is kept") as caught:
        trained(small_lesson(spoilt_at=3), Schedule(9, 8, 0.1, 0.02), Keeper(tmp_path, "one", "key"))
    assert "\n" not in str(caught.value)
    tensors, facts = Keeper(tmp_path, "one", "key").read()
    assert facts["epoch"] == 2 and all(torch.isfinite(t.float()).all() for t in tensors.values())


def test_balanced_batches_are_half_fake_and_show_every_sample():
    training = Training(nn.Linear(1, 1), small_lesson(), Schedule(1, 8, 0.1, 0.0))
    with seeded(0, "cpu"):
        batches = list(training._batches())
    assert [int((b >= 30).sum()) for b in batches] == [len(b) // 2 for b in batches]
    assert np.bincount(torch.cat(batches), minlength=40).tolist() == [1] * 30 + [3] * 10


def test_a_judge_cut_off_and_resumed_is_the_same_judge_and_leaves_nothing_behind(tmp_path, monkeypatch):
    sides = listed(noisy(18, 12, 0)), listed(enlarged(18, 12, 1))
    whole, cut, again = (quickly(NPR)() for _ in range(3))
    whole.fit(*sides, seed=1)
    for judge in (cut, again):
        judge.keep_in(tmp_path)
    write, written = Keeper.write, []

    def stopping(self, tensors, facts):
        write(self, tensors, facts)
        written.append(facts["epoch"])
        if len(written) == 12:
            raise Stopped

    monkeypatch.setattr(Keeper, "write", stopping)
    with pytest.raises(Stopped):
        cut.fit(*sides, seed=1)
    assert cut.digest == f"unfitted:{cut.recipe}" and any(tmp_path.iterdir())
    again.fit(*sides, seed=1)
    assert again.digest == whole.digest and len(written) < 2 * 12 + 20 and not any(tmp_path.iterdir())


# ---------------------------------------------------------------------------------------------- crops


def test_views_are_the_centre_and_the_corners_and_small_images_are_reflected():
    image = torch.arange(100).view(1, 1, 10, 10)
    found = views(image, 4, 5)[0, :, 0]
    assert [int(v[0, 0]) for v in found] == [33, 0, 6, 60, 66] and found.shape == (5, 4, 4)
    assert views(torch.arange(3).view(1, 1, 1, 3).expand(1, 1, 3, 3), 7, 1)[0, 0, 0, 0].tolist() == [
        2,
        1,
        0,
        1,
        2,
        1,
        0,
    ]


@pytest.mark.parametrize("cls", [NPR, Patch, CNN])
def test_fakes_are_found_and_score_higher(cls, fitted):
    judge = fitted[cls]
    real, fake = noisy(30, 40, 7), FAKES[cls](30, 40, 8)
    assert auroc(judge, real, fake) > 0.9
    p = np.concatenate([p_fake(judge, real), p_fake(judge, fake)])
    assert -np.log(np.where(np.repeat([0, 1], 30) == 1, p, 1 - p).clip(1e-6)).mean() < 0.6


@pytest.mark.parametrize("cls", [NPR, Patch, CNN])
@pytest.mark.parametrize("size", [(40, 40), (8, 9), (300, 31)])
def test_log_odds_are_the_logit_of_the_row_and_have_gradients(cls, size, fitted):
    judge = fitted[cls]
    assert isinstance(judge, Differentiable) and isinstance(judge, Resumable)
    image = np.random.RandomState(0).randint(0, 256, (*size, 3)).astype(np.uint8)
    prepared = judge.prepare(image)
    assert prepared.dtype == torch.uint8 and prepared.shape == judge.prepare(noisy(1, 40, 0)[0]).shape
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float().requires_grad_()
    found = judge.log_odds(pixels)
    torch.testing.assert_close(torch.logit(judge(prepared[None])[:, 0].double()), found.double(), atol=1e-3, rtol=1e-3)
    (gradient,) = torch.autograd.grad(found.sum(), pixels)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


@pytest.mark.parametrize("cls", [NPR, Patch, CNN])
def test_rows_do_not_depend_on_the_batch_and_come_back_from_a_folder(cls, fitted, tmp_path):
    images = [*noisy(40, 40, 3), *enlarged(30, 52, 4)]
    together = p_fake(fitted[cls], images)
    np.testing.assert_allclose(together, [p_fake(fitted[cls], [i])[0] for i in images], rtol=1e-4, atol=1e-6)
    fitted[cls].save(tmp_path)
    back = type(fitted[cls])()
    back.load(tmp_path)
    assert np.array_equal(p_fake(back, images), together)


@pytest.mark.parametrize("cls", [NPR, Patch, CNN])
def test_an_image_under_eight_pixels_is_refused_with_its_numbers(cls, fitted):
    with pytest.raises(UnreadableSample, match="40 x 7"):
        fitted[cls].prepare(np.zeros((7, 40, 3), np.uint8))


# ---------------------------------------------------------------------------------------------- npr, patch, cnn


def test_relations_are_differences_to_the_first_pixel_of_each_block():
    image = torch.tensor([[1.0, 3, 10, 10], [2, 7, 10, 14], [0, 0, 5, 4], [0, 0, 3, 2]])
    expected = [[0, 2, 0, 0], [1, 6, 0, 4], [0, 0, 0, -1], [0, 0, -2, -3]]
    assert relations(image).tolist() == expected
    halved = torch.nn.functional.interpolate(image[None, None], scale_factor=0.5, mode="nearest")
    doubled = torch.nn.functional.interpolate(halved, scale_factor=2, mode="nearest")
    assert torch.equal(relations(image), image - doubled[0, 0])


def test_a_patch_sees_its_nine_by_nine_pixels_and_no_other():
    torch.manual_seed(0)
    network = Patches().eval()
    image = torch.rand(1, 3, 31, 29, requires_grad=True)
    found = network.patches(image)
    assert found.shape[1:] == ((31 - FIELD) // STEP + 1, (29 - FIELD) // STEP + 1)
    (gradient,) = torch.autograd.grad(found[0, 4, 6], image)
    rows, columns = (torch.nonzero(gradient.abs().sum(dim=(0, 1)).sum(dim=d)).flatten() for d in (1, 0))
    assert rows.min() >= 8 and rows.max() <= 16 and columns.min() >= 12 and columns.max() <= 20
    # Negative units pass no gradient, so a corner may be silent; together they fill the field.
    assert rows.max() - rows.min() == FIELD - 1 and columns.max() - columns.min() == FIELD - 1


def test_the_map_averages_to_the_score_and_shows_which_half_was_enlarged(fitted):
    judge = fitted[Patch]
    assert isinstance(judge, Mapped) and judge.localises is False
    image = noisy(1, 40, 5)[0]
    image[:, 20:] = enlarged(1, 40, 6)[0][:, 20:]
    batch = torch.stack([judge.prepare(image), judge.prepare(noisy(1, 40, 9)[0])])
    found = judge.score_map(batch)
    torch.testing.assert_close(torch.sigmoid(found.mean(dim=(1, 2))), judge(batch)[:, 0], atol=1e-5, rtol=1e-4)
    # Patches wholly in the left half begin up to pixel 11, those wholly in the right half from pixel 20.
    assert found[0, :, 10:].mean() > found[0, :, :6].mean() + 1


@pytest.mark.parametrize("crop", [32, 48, 64])
def test_the_large_cnn_is_a_resnet18(crop):
    with torch.device("meta"):
        network = CNN()._network({"crop": crop})
        assert network(torch.zeros(2, 3, crop, crop)).shape == (2,)
    # 11.7 million with 1,000 classes, of one class it has 512,487 less; a 3 x 3 stem has 7,680 weights less.
    assert sum(p.numel() for p in network.parameters()) == 11_689_512 - 512_487 - (3 * 64 * 40 if crop < 64 else 0)


def test_the_large_cnn_changes_its_training_images_as_cnndetection_does():
    assert CROPPED.changes == Augmentation(blur=0.5, jpeg=0.5, mirror=0.5)
    with pytest.raises(UnknownName, match="adversarial"):
        CNN("adversary")


@pytest.mark.slow
def test_the_adversarial_variant_is_another_detector_that_moves_less_under_attack():
    digits = unseen("digits")
    fake = [np.clip(d.astype(int) + np.random.RandomState(i).randint(-14, 15, d.shape), 0, 255).astype(np.uint8)
            for i, d in enumerate(digits[60:120])]  # fmt: skip
    moved = {}
    for variant in ("", "adversarial"):
        judge = CNN(variant)
        judge.fit(listed(digits[:60]), listed(fake), seed=0)
        x = torch.from_numpy(np.stack(fake)).permute(0, 3, 1, 2).float().requires_grad_()
        clean = judge.log_odds(x)
        (gradient,) = torch.autograd.grad(clean.sum(), x)
        attacked = judge.log_odds((x - 4 * gradient.sign()).clamp(0, 255).detach())
        moved[variant] = float((clean - attacked).mean().detach() / clean.std().detach())
        assert judge.name == ("cnn:adversarial" if variant else "cnn")
    assert CNN("adversarial").recipe != CNN().recipe and CNN.name == "cnn"
    assert moved["adversarial"] < moved[""]
