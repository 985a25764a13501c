"""Which devices are tried, in which order, and why one is not."""

import pytest

from engines.devices import candidates, failure_category, family


def tried(wanted, available, hints=(), properties=None):
    return [c.device for c in candidates(wanted, available, hints, properties or {}) if not c.skip]


def reasons(wanted, available, hints=(), properties=None):
    return [c.skip for c in candidates(wanted, available, hints, properties or {}) if c.skip]


@pytest.mark.parametrize(
    ("wanted", "order"),
    [
        ("NPU", ["NPU", "GPU", "CPU"]),
        ("npu", ["NPU", "GPU", "CPU"]),
        ("GPU", ["GPU", "CPU"]),
        ("GPU.1", ["GPU.1", "CPU"]),
        ("CPU", ["CPU"]),
    ],
)
def test_the_wanted_device_is_first_and_what_is_below_it_follows(wanted, order):
    assert tried(wanted, ["CPU", "GPU.0", "GPU.1", "NPU"]) == order


def test_a_device_that_is_not_there_is_passed_over_and_named():
    assert tried("NPU", ["CPU"]) == ["CPU"]
    assert reasons("NPU", ["CPU"]) == ["no NPU on this machine", "no GPU on this machine"]
    assert reasons("GPU.1", ["CPU", "GPU.0"]) == ["no GPU.1 on this machine"]


def test_a_format_that_a_device_does_not_take_is_passed_over_and_said():
    assert tried("NPU", ["CPU", "GPU", "NPU"], hints=("CPU", "GPU")) == ["GPU", "CPU"]
    assert reasons("NPU", ["CPU", "GPU", "NPU"], hints=("CPU", "GPU")) == [
        "the model's format does not run on NPU (only on CPU, GPU)"
    ]


def test_an_emulated_npu_is_there():
    assert tried("NPU", ["CPU"], properties={"NPUW_DEVICES": "CPU"}) == ["NPU", "CPU"]


@pytest.mark.parametrize("name", ["TPU", "", "AUTO", "NPU,CPU"])
def test_an_unknown_device_falls_back_down_the_chain(name):
    assert tried(name, ["CPU", "GPU"]) == ["GPU", "CPU"]


@pytest.mark.parametrize(("device", "expected"), [("GPU.1", "GPU"), ("npu", "NPU"), ("CPU", "CPU")])
def test_the_family_of_a_device(device, expected):
    assert family(device) == expected


@pytest.mark.parametrize(
    ("error", "category"),
    [
        ("std::bad_alloc", "out of memory"),
        ("[GPU] Failed to allocate 12 bytes", "out of memory"),
        ("ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY", "out of memory"),
        ("VCL compiler loading failed", "driver"),
        ("L0 zeInit: ZE_RESULT_ERROR_UNINITIALIZED", "driver"),
        ("Check 'x' failed: no such op", "model not supported"),
        ("", "model not supported"),
    ],
)
def test_a_load_failure_has_one_of_three_categories(error, category):
    assert failure_category(error) == category
