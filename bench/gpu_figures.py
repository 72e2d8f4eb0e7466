"""What the jobs that bench/gpu.sh has run say of themselves, beside what is asked of an H200.

    gpu_figures.py OUT.json WITH_SERVER ALONE FP32_CPU FP32_GPU

Job directories of the speech job with a server process and without one, and of its first 20 steps in FP32 on both devices. The first two hold
`began`, the Unix time at which their launch began, and `busy`, the percentage of time in which kernels ran, sampled. Prints a table.
Exit status 1: a figure that has no reason to differ from one machine to the other does (the losses).
"""
import json
import pathlib
import statistics
import sys
from datetime import datetime

LOSS_STEPS, LOSS_TOLERANCE = 20, 1e-3


def seconds(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def lines(job, kind):
    text = (job / "summaries" / "history.jsonl").read_text()
    return [line for line in map(json.loads, text.splitlines()) if line["kind"] == kind]


def state(job):
    return json.loads((job / "state.json").read_text())


def first_step_s(job):
    for line in (job / "logs" / "master-0.log").read_text().splitlines():
        if line.endswith("first step finished"):
            return seconds(line.split()[0]) - float((job / "began").read_text())
    raise SystemExit(f"{job}: no step has finished")


def step_s(job):
    """Of a step, evaluations included."""
    losses = lines(job, "loss")
    first, last = losses[0], losses[-1]
    return (seconds(last["time"]) - seconds(first["time"])) / (last["step"] - first["step"])


def busy(job):
    """The median while steps were done."""
    samples = [float(x) for x in (job / "busy").read_text().split() if x.replace(".", "", 1).isdigit()]
    working = [x for x in samples if x > 0]
    return statistics.median(working) / 100 if working else 0.0


def largest_difference(job, other):
    ours, theirs = ({line["step"]: line["loss"] for line in lines(j, "loss")} for j in (job, other))
    steps = range(1, LOSS_STEPS + 1)
    return max(abs(ours[s] - theirs[s]) / abs(theirs[s]) for s in steps)


def main():
    out = pathlib.Path(sys.argv[1])
    server, alone, cpu, gpu = (pathlib.Path(name) for name in sys.argv[2:])
    for job in server, alone, cpu, gpu:
        if state(job)["state"] != "SUCCEEDED":
            raise SystemExit(f"{job}: {state(job)['state']}: {state(job)['errorMessage']}")
    rows = []
    for name, job in (("with_server", server), ("alone", alone)):
        rows += [
            (f"job_{name}", seconds(state(job)["endTime"]) - float((job / "began").read_text()), "s", "<= 30"),
            (f"step_{name}", 1e6 * step_s(job), "us", ""),
            (f"first_step_{name}", first_step_s(job), "s", "<= 3"),
            (f"kernels_run_{name}", busy(job), "of the time", ">= 0.9"),
            (f"test_accuracy_{name}", state(job)["metrics"]["test_accuracy"], "", "the CPU's within 0.003"),
        ]
    cost = step_s(server) - step_s(alone)
    losses = largest_difference(gpu, cpu)
    rows += [
        ("server_cost", 1e6 * cost, "us a step", "<= 60"),
        ("server_cost_share", cost / step_s(alone), "of a step", "<= 0.05"),
        ("fp32_losses", losses, f"apart, {LOSS_STEPS} steps", f"<= {LOSS_TOLERANCE}"),
    ]
    for name, value, unit, asked in rows:
        print(f"{name:<28} {value:12.6g} {unit:<20} {asked}")
    out.write_text(json.dumps([dict(zip(("name", "value", "unit", "asked"), row)) for row in rows], indent=1))
    if losses > LOSS_TOLERANCE:
        raise SystemExit(f"FP32 losses are {losses:.2g} apart")
    print(f"{len(rows)} figures; FP32 losses {losses:.2g} apart")


main()
