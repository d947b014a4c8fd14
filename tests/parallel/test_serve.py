"""`tfguide serve --tensor-parallel`: a server of two processes, from its first line to its end."""

import json
import os
import signal
import subprocess

from tests.cli.test_serve import command, post
from tfguide.cli import main

PROMPT = {"prompt": "abc", "max_tokens": 7, "temperature": 0, "ignore_eos": True}


def children(process):
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    assert len(found) == 2, found
    return [int(pid) for pid in found]


def test_it_answers_as_one_process_does_until_a_signal_ends_it(checkpoint, capfd):
    options = ["--framework", "torch", "--plain", "--checkpoint", checkpoint, "--max-new-tokens", "7"]
    assert main(["generate", "--prompt", "abc", *options]) == 0
    expected = capfd.readouterr().out.removesuffix("\n")
    with command("--checkpoint", checkpoint, "--tensor-parallel", 2) as (process, url, _):
        answers = [json.load(post(url, "/v1/completions", **PROMPT)) for _ in range(3)]
        assert [answer["choices"][0]["text"] for answer in answers] == [expected] * 3
        assert answers[1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 0  # a prompt below one block
        pids = children(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_it_ends_with_one_error_when_a_process_dies(checkpoint):
    with command("--checkpoint", checkpoint, "--tensor-parallel", 2) as (process, *_):
        own, other = children(process)
        os.kill(other, signal.SIGKILL)
        assert process.wait(30) == 2
        error = process.stderr.read().splitlines()
    said = [line for line in error if "no chats" not in line and "loading" not in line]
    assert said == ["tfguide: process 1 of 2 was ended by signal 9 (SIGKILL)"], error
    assert not os.path.exists(f"/proc/{own}")


def test_a_cluster_and_processes_are_not_both(checkpoint, capsys):
    assert main(["serve", "--checkpoint", checkpoint, "--tensor-parallel", "2", "--ray"]) == 2
    assert "--tensor-parallel divides the model of this server, got --ray as well" in capsys.readouterr().err
