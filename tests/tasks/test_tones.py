"""Digits in tones: the waveform, its spectrogram, patches and labels, sequences and their errors."""

import wave

import numpy as np
import pytest

from tests.support import refuses
from tfguide.tasks import tones
from tfguide.tasks.tones import SILENCE, collapse, edits, patches, record, recordings, scores, spectrogram
from tfguide.training import NO_LABEL

SOME = recordings(30, seed=3)


def loudest(samples, between):
    """The frequency in Hz of the largest magnitude in a range, of the whole signal."""
    size = np.abs(np.fft.rfft(samples, 2**16))
    hertz = np.fft.rfftfreq(2**16, 1 / tones.RATE)
    return hertz[np.where((hertz > between[0]) & (hertz < between[1]), size, 0).argmax()]


@pytest.mark.parametrize("digit", range(10))
def test_a_digit_sounds_as_its_two_tones(digit):
    one = record([digit], np.random.default_rng(digit), voice=0.05, noise=0.1)
    samples = one.samples[one.sounds == digit]
    assert loudest(samples, (600, 1100)) == pytest.approx(1.05 * tones.tones_of(digit)[0], abs=8)
    assert loudest(samples, (1100, 1700)) == pytest.approx(1.05 * tones.tones_of(digit)[1], abs=8)
    assert np.abs(one.samples[one.sounds == SILENCE]).mean() < np.abs(samples).mean() / 2


def test_ten_digits_are_ten_pairs_and_a_voice_confuses_some():
    pairs = {tones.tones_of(digit) for digit in range(10)}
    assert len(pairs) == 10
    for low, high in ((1, 5), (5, 9)):  # the higher voice of one is the lower voice of the other
        ratios = np.divide(tones.tones_of(high), tones.tones_of(low))
        assert np.ptp(ratios) < 0.01 and ratios.max() < (1 + tones.VOICE) / (1 - tones.VOICE)


def test_a_seed_decides_the_recordings():
    again, other = recordings(30, seed=3), recordings(30, seed=4)
    assert [one.digits for one in again] == [one.digits for one in SOME] != [one.digits for one in other]
    np.testing.assert_array_equal(again[7].samples, SOME[7].samples)
    assert {len(one.digits) for one in SOME} == {3, 4, 5, 6, 7}
    assert {len(one.digits) for one in recordings(5, lengths=[2])} == {2}
    assert all(len(one.samples) == len(one.sounds) and np.abs(one.samples).max() <= 1 for one in SOME)


def test_the_spectrogram_is_the_formula():
    samples = SOME[0].samples
    found = spectrogram(samples)
    frames = 1 + (len(samples) - tones.WINDOW) // tones.HOP
    assert found.shape == (frames, tones.BANDS)
    n = np.arange(tones.WINDOW)
    piece = samples[3 * tones.HOP :][: tones.WINDOW] * np.sin(np.pi * n / tones.WINDOW) ** 2
    for k in (0, 5, 40):
        one = (piece * np.exp(-2j * np.pi * k * n / tones.WINDOW)).sum()
        assert found[3, k] == pytest.approx(np.log(1 + abs(one)), rel=1e-5)
    with refuses(ValueError, "at least 256 numbers"):
        spectrogram(samples[:255])


def test_the_labels_of_patches_spell_the_digits():
    for one in SOME:
        vectors, labels = patches(one)
        assert vectors.shape == (len(labels), tones.FRAMES * tones.BANDS)
        assert collapse(labels) == one.digits
    vectors, labels = patches(SOME[0])
    t = int(np.flatnonzero(labels != SILENCE)[1])
    first = t * tones.FRAMES * tones.HOP
    np.testing.assert_allclose(vectors[t, : tones.BANDS], spectrogram(SOME[0].samples[first:])[0], atol=1e-5)
    assert labels[t] in SOME[0].sounds[first : first + tones.WINDOW + tones.HOP]


def test_a_batch_is_filled_up():
    made = tones.batch([patches(one) for one in SOME[:5]])
    lengths = [len(patches(one)[1]) for one in SOME[:5]]
    valid = made.inputs["valid"]
    assert valid.sum(1).tolist() == lengths and max(lengths) == valid.shape[1]
    assert not made.inputs["tokens"][~valid].any() and (made.labels[~valid] == NO_LABEL).all()
    assert [collapse(row) for row in made.labels] == [one.digits for one in SOME[:5]]
    at = tones.batches(SOME, rows=4)
    np.testing.assert_array_equal(at(2).inputs["tokens"], at(2).inputs["tokens"])
    assert at(2).labels.shape != at(3).labels.shape or not np.array_equal(at(2).labels, at(3).labels)


def test_the_edit_distance():
    assert edits((), (1, 2)) == 2 and edits((1, 2), ()) == 2 and edits((1, 2), (1, 2)) == 0
    assert edits((1, 2, 3), (1, 3)) == 1 and edits((1, 3), (1, 2, 3)) == 1 and edits((1, 4, 3), (1, 2, 3)) == 1
    assert edits((2, 1), (1, 2)) == 2 and edits((5, 1, 2, 3), (1, 2, 3, 5)) == 2
    draws = np.random.default_rng(0)
    for _ in range(50):
        a, b, c = (tuple(draws.integers(3, size=draws.integers(7))) for _ in range(3))
        assert edits(a, b) == edits(b, a) <= edits(a, c) + edits(c, b)
        assert abs(len(a) - len(b)) <= edits(a, b) <= max(len(a), len(b))


def test_scores():
    found = scores([(1, 2, 3), (4, 4), ()], [(1, 2, 3), (4, 5), (6,)])
    assert found == {"exact match": pytest.approx(1 / 3), "error rate": pytest.approx(2 / 6)}
    with refuses(ValueError, "as many answers as right ones"):
        scores([(1,)], [])


def test_a_file_of_your_own(tmp_path):
    samples = (SOME[0].samples * 32767).astype("<i2")
    for name, channels, rate in (("right.wav", 1, tones.RATE), ("wrong.wav", 2, 44100)):
        with wave.open(str(tmp_path / name), "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(samples.tobytes())
    np.testing.assert_allclose(tones.read_wave(tmp_path / "right.wav"), SOME[0].samples, atol=1e-4)
    with refuses(ValueError, "expected 1 channel of 16 bits at 8000 Hz, got 2 of 16 bits at 44100 Hz"):
        tones.read_wave(tmp_path / "wrong.wav")
