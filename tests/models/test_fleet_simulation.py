import time

import numpy as np
import pytest

from models.fleet_simulation import CHANNELS, Drift, correlated, lag, simulate_asset


@pytest.mark.parametrize("kind", ["machine", "server"])
def test_same_seed_same_rows_and_no_two_alike(kind):
    one, again, other = (simulate_asset(seed, 3.0, kind=kind) for seed in (5, 5, 6))
    assert np.array_equal(one.values, again.values, equal_nan=True) and (one.times_us == again.times_us).all()
    assert one.values.shape == (3 * 1440, CHANNELS) and len(one.names) == len(set(one.names)) == CHANNELS
    assert (np.diff(one.times_us) == 60_000_000).all()
    assert (np.nanmedian(one.values, axis=0) != np.nanmedian(other.values, axis=0)).all()
    assert (one.sigma > 0).all()


@pytest.mark.parametrize("kind", ["machine", "server"])
def test_healthy_rows_vary_and_are_mostly_there(kind):
    for seed in range(4):
        asset = simulate_asset(seed, 10.0, kind=kind)
        assert (np.nanstd(asset.values, axis=0) > 0).all()
        assert np.isnan(asset.values).mean() < 0.02
        assert not np.isinf(asset.values).any()


def test_drift_is_a_ramp_in_healthy_sigmas_on_its_channel_only():
    healthy = simulate_asset(3, 10.0)
    drifted = simulate_asset(3, 10.0, drift=Drift("pressure", 4.0, 0.5))
    place = healthy.names.index("pressure")
    others = [index for index in range(CHANNELS) if index != place]
    assert np.array_equal(healthy.values[:, others], drifted.values[:, others], equal_nan=True)
    moved = (drifted.values - healthy.values)[:, place] / healthy.sigma[place]
    assert np.nanmax(np.abs(moved[: 4 * 1440])) == 0.0
    assert np.nanmedian(moved[-60:]) == pytest.approx(0.5 * 6.0, abs=0.4)  # quantised: up to 0.6 sigma a step


def test_sigma_is_what_load_and_the_daily_cycle_leave():
    asset = simulate_asset(8, 20.0)
    place = asset.names.index("motor_current")
    assert 0 < asset.sigma[place] < 0.5 * np.nanstd(asset.values[:, place])


def test_hidden_load_is_another_channel():
    assert simulate_asset(1, 1.0).names[0] == "load"
    assert simulate_asset(1, 1.0, load_visible=False).names[0] == "flow"
    assert simulate_asset(1, 1.0, load_visible=False, kind="server").names[0] == "threads"


def test_noise_has_its_time_constant_and_unit_variance():
    noise = correlated(np.random.default_rng(1), 200_000, np.array([600.0, 6000.0]), 60.0)
    assert noise.std(axis=0) == pytest.approx(1.0, abs=0.1)
    for column, tau_rows in ((0, 10), (1, 100)):
        series = noise[:, column]
        assert np.corrcoef(series[:-tau_rows], series[tau_rows:])[0, 1] == pytest.approx(np.exp(-1), abs=0.08)


def test_lag_starts_settled_and_reaches_a_step():
    signal = np.concatenate((np.full(10, 2.0), np.full(100, 5.0)))
    lagged = lag(signal, 300.0, 60.0)
    assert lagged[:10] == pytest.approx(2.0)
    assert lagged[14] == pytest.approx(5.0 - 3.0 * np.exp(-1), abs=1e-9)
    assert lagged[-1] == pytest.approx(5.0, abs=1e-6)


def test_wrong_sizes_and_channels_are_refused():
    with pytest.raises(ValueError, match="two rows"):
        simulate_asset(1, 0.0)
    with pytest.raises(ValueError, match="two rows"):
        simulate_asset(1, 1.0, 0.0)
    with pytest.raises(ValueError, match="tuple"):
        simulate_asset(1, 1.0, drift=Drift("nonsense", 0.0, 1.0))


def test_a_month_is_simulated_fast():
    started_s = time.perf_counter()
    simulate_asset(1, 30.0)
    assert time.perf_counter() - started_s < 2.0  # about 0.1 s on an idle core
