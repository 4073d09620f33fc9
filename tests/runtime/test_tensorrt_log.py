"""TensorRT's messages: one logger for a process, and what a user gets to read of them."""

import logging
from typing import Any

import pytest

from shortcast.runtime.engines.tensorrt_log import build_log, readable

NO_DRIVER = "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (cudaError 35: CUDA driver version is insufficient)"


def test_a_process_has_one_logger(trt: Any) -> None:
    assert build_log(trt) is build_log(trt)


def test_messages_belong_to_one_build(trt: Any) -> None:
    log = build_log(trt)
    with log.collecting():
        log.native.log(trt.ILogger.ERROR, "first")
        log.native.log(trt.ILogger.WARNING, "careful")
        log.native.log(trt.ILogger.INFO, "by the way")
        assert log.errors() == "first"
        assert log.warnings() == ("careful",)
    with log.collecting():
        assert log.errors() == ""
        assert log.warnings() == ()


def test_messages_go_to_logging(trt: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "shortcast.tensorrt"):
        build_log(trt).native.log(trt.ILogger.INFO, "by the way")
        build_log(trt).native.log(trt.ILogger.VERBOSE, "ten thousand of these")
    assert caplog.messages == ["INFO: by the way"]


def test_the_missing_driver_is_left_out_unless_it_is_all_there_is() -> None:
    assert readable(["wrong profile", NO_DRIVER, f"{NO_DRIVER}\nwrong profile"]) == ["wrong profile"]
    assert readable([NO_DRIVER]) == [NO_DRIVER]


def test_places_in_tensorrts_sources_are_left_out() -> None:
    message = "API Usage Error (Network must have at least one output. In validate at /_src/optimizer/api/network.cpp:3810)"
    assert readable([message]) == ["API Usage Error (Network must have at least one output)"]
