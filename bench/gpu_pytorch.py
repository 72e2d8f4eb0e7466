"""Training steps of `conv` in PyTorch, batch 100, inputs on the GPU: what bench_gpu's step_conv is compared with.

The best of NCHW and channels_last, eager and torch.compile (max-autotune), in TF32, FP32 and bf16 (autocast). Writes JSON to the file named.
"""
import json
import sys
import time

import torch
from torch import nn
import torch.nn.functional as F

BATCH, STEPS = 100, 50


class Conv(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 64, (20, 8))
        self.second = nn.Conv2d(64, 64, (10, 4))
        self.last = nn.Linear(49 * 20 * 64, 12)

    def forward(self, x):
        # TensorFlow's SAME: the odd pixel at the end.
        x = F.dropout(F.relu(self.first(F.pad(x, (3, 4, 9, 10)))), 0.5)
        x = F.max_pool2d(x, 2, ceil_mode=True)
        x = F.dropout(F.relu(self.second(F.pad(x, (1, 2, 4, 5)))), 0.5)
        return self.last(x.flatten(1))


def rate(layout, compiled, precision):
    torch.manual_seed(1)
    bf16 = precision == "bf16"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    model = Conv().cuda().to(memory_format=layout)
    run = torch.compile(model, mode="max-autotune") if compiled else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    x = torch.randn(BATCH, 1, 98, 40, device="cuda").to(memory_format=layout)
    y = torch.randint(0, 12, (BATCH,), device="cuda")

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(run(x), y)
        loss.backward()
        optimizer.step()

    for _ in range(10):
        step()
    rates = []
    for _ in range(5):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(STEPS):
            step()
        torch.cuda.synchronize()
        rates.append(BATCH * STEPS / (time.perf_counter() - begin))
    return sorted(rates)[2]


def main():
    torch.backends.cudnn.benchmark = True
    rows = []
    for compiled in (False, True):
        for precision in ("tf32", "fp32", "bf16"):
            for name, layout in (("nchw", torch.contiguous_format), ("nhwc", torch.channels_last)):
                try:
                    value = rate(layout, compiled, precision)
                except Exception as error:  # a compiler that is not there must not hide the rest
                    print("compiled" if compiled else "eager", name, "failed:", str(error)[:80])
                    continue
                rows.append({"compiled": compiled, "precision": precision, "layout": name,
                             "samples_per_second": value})
                print(rows[-1])
    with open(sys.argv[1], "w") as out:
        json.dump({"torch": torch.__version__, "rows": rows}, out, indent=1)
    best = {precision: max((row["samples_per_second"] for row in rows if row["precision"] == precision), default=0)
            for precision in ("tf32", "fp32", "bf16")}
    print("samples/s:", "; ".join(f"{precision} {rate:.0f}" for precision, rate in best.items()))


main()
