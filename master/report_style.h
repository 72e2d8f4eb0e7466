// The style sheet and the script of report.html, as text. Constants: thread-safe. Included by
// report.cc alone.
#pragma once

namespace muster::master {

inline constexpr const char* kReportStyle = R"css(
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --text: #1b1f26; --soft: #626b78; --line: #e1e5ea;
  --good: 37, 122, 86; --bad: 201, 78, 40; --accent: #2f6fde;
  --c0: #2f6fde; --c1: #d9622b; --c2: #2a9d6f; --c3: #a24bc4; --c4: #b8860b; --c5: #0f9bb3; --c6: #d1437f; --c7: #6b7686; }
@media (prefers-color-scheme: dark) {
  :root { --page: #12151a; --card: #1b2027; --text: #e7eaee; --soft: #98a2b0; --line: #2e353f;
    --good: 70, 180, 130; --bad: 226, 110, 70; --accent: #79a6ff;
    --c0: #79a6ff; --c1: #f0905c; --c2: #58c795; --c3: #c98be6; --c4: #dcb54a; --c5: #4fc6dc; --c6: #ee83ae; --c7: #a3adbb; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 60px; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 6px 14px; }
h1 { font-size: 26px; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 34px 0 10px; }
header .when { color: var(--soft); flex-basis: 100%; }
.state { font-size: 13px; font-weight: 600; padding: 2px 10px; border-radius: 99px; background: rgba(120, 130, 145, .2); }
.state.SUCCEEDED { background: rgba(var(--good), .18); color: rgb(var(--good)); }
.state.FAILED, .state.CANCELLED { background: rgba(var(--bad), .18); color: rgb(var(--bad)); }
.error { white-space: pre-wrap; overflow-wrap: anywhere; background: rgba(var(--bad), .12); border-left: 3px solid rgb(var(--bad));
  border-radius: 4px; padding: 10px 14px; margin: 16px 0 0; font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr)); gap: 10px; margin-top: 20px; }
.numbers div, figure, .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.numbers div { padding: 12px 14px; }
.numbers b { display: block; font-size: 21px; line-height: 1.3; font-weight: 600; white-space: nowrap; }
.numbers span, small, .none { color: var(--soft); font-size: 13px; font-weight: 400; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 14px; margin-top: 14px; }
figure { margin: 0; padding: 14px 16px 8px; position: relative; min-width: 0; }
figcaption { font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 0 14px; font-size: 12.5px; color: var(--soft); min-height: 20px; }
.legend i { display: inline-block; width: 14px; height: 3px; border-radius: 2px; margin-right: 6px; vertical-align: 3px; background: currentColor; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font-size: 11px; }
svg .grid { stroke: var(--line); }
svg .cursor { stroke: var(--soft); stroke-dasharray: 3 3; }
svg polyline { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; }
svg circle { fill: currentColor; }
svg .faint polyline { stroke-width: 1; opacity: .35; }
.s0 { color: var(--c0); } .s1 { color: var(--c1); } .s2 { color: var(--c2); } .s3 { color: var(--c3); }
.s4 { color: var(--c4); } .s5 { color: var(--c5); } .s6 { color: var(--c6); } .s7 { color: var(--c7); }
.tip { position: absolute; top: 44px; pointer-events: none; background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  padding: 5px 9px; font-size: 12px; box-shadow: 0 3px 12px rgba(0, 0, 0, .18); white-space: nowrap; }
.card { padding: 6px 16px; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 12.5px; }
th, td { padding: 6px 10px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
tr:last-child > td { border-bottom: 0; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; overflow-wrap: normal; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 0 20px; }
.confusion { width: auto; font-size: 12.5px; }
.confusion th, .confusion td { border: 0; padding: 0; text-align: center; white-space: nowrap; overflow-wrap: normal; }
.confusion td { min-width: 52px; height: 32px; vertical-align: middle; border-radius: 4px; font-variant-numeric: tabular-nums; }
.confusion tbody th { text-align: right; vertical-align: middle; padding-right: 10px; }
.confusion thead th { padding: 0 4px 6px; vertical-align: bottom; }
.confusion thead th span { writing-mode: vertical-rl; transform: rotate(180deg); }
.confusion .zero { color: transparent; } .confusion .zero:hover { color: var(--soft); }
.bar { display: flex; height: 16px; border-radius: 4px; overflow: hidden; min-width: 160px; background: var(--line); }
.bar i { background: currentColor; }
footer { margin-top: 34px; color: var(--soft); font-size: 12.5px; }
@media print { body { background: none; } .numbers div, figure, .card { break-inside: avoid; } }
)css";

// Shows the values under the pointer.
inline constexpr const char* kReportScript = R"js(
for (const svg of document.querySelectorAll('svg[data-chart]')) {
  const chart = JSON.parse(svg.dataset.chart), cursor = svg.querySelector('.cursor');
  const tip = document.createElement('div');
  tip.className = 'tip'; tip.hidden = true; svg.parentNode.append(tip);
  const show = y => chart.percent ? (100 * y).toFixed(1) + ' %' : y.toLocaleString('en', {maximumSignificantDigits: 4});
  svg.addEventListener('pointermove', event => {
    const box = svg.getBoundingClientRect(), at = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    const x = (at - chart.left) / (chart.right - chart.left) * chart.max;
    const lines = [];
    let step = 0;
    for (const s of chart.series.slice(0, 12)) {
      if (!s.points.length) continue;
      const near = s.points.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);
      step = near[0];
      lines.push(s.name + ': ' + show(near[1]));
    }
    const px = chart.left + step / chart.max * (chart.right - chart.left);
    cursor.setAttribute('x1', px); cursor.setAttribute('x2', px);
    tip.replaceChildren(...['step ' + step.toLocaleString('en'), ...lines].flatMap(t => [t, document.createElement('br')]));
    tip.hidden = false;
    const left = event.clientX - box.left;
    tip.style.left = (left > box.width / 2 ? left - tip.offsetWidth : left + 28) + 'px';
  });
  svg.addEventListener('pointerleave', () => { tip.hidden = true; cursor.setAttribute('x1', -9); cursor.setAttribute('x2', -9); });
}
)js";

}  // namespace muster::master
