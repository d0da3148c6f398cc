// The charts: vitals with their marks, prognosis, load by hour, waveform and spectrum. Drawn with ECharts, updated in place.

import { echarts } from "./echarts/index.js";

const INK = "#17212b", MUTED = "#5b6875", LINE = "#dfe4e8", ACCENT = "#17465c";
const COLOUR = { onset: "#77620a", detected: "#b4540a", deadline: "#b3261e", now: "#5b6875" };
const charts = new Map(); // element -> ECharts instance
let page;

const at = (text) => new Date(text.replace(" ", "T")).getTime();
const figure = (value) => value === null || value === undefined ? "–" : Number(value.toPrecision(3)).toString();

function inZone(zone, options) {
  const format = new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options });
  return (ms) => format.format(ms);
}

const when = (zone) => inZone(zone, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

function timeAxis(zone, from, to) {
  const long = to - from > 3 * 86400e3;
  const label = inZone(zone, long ? { day: "numeric", month: "short" } : { weekday: "short", hour: "2-digit", minute: "2-digit" });
  return { type: "time", min: from, max: to, axisLabel: { color: MUTED, formatter: label, hideOverlap: true }, axisLine: { lineStyle: { color: LINE } }, splitLine: { show: false }, minInterval: long ? 86400e3 : 3600e3 };
}

const valueAxis = (name, more = {}) => ({ type: "value", name, nameTextStyle: { color: MUTED, align: "left" }, axisLabel: { color: MUTED, formatter: figure }, splitLine: { lineStyle: { color: "#edf0f2" } }, scale: true, ...more });

const base = () => ({
  animation: false,
  textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: INK },
  grid: { left: 56, right: 22, top: 30, bottom: 26 },
  tooltip: { trigger: "axis", confine: true, borderColor: LINE, textStyle: { color: INK, fontSize: 12 }, axisPointer: { lineStyle: { color: "#9aa5ae" } } },
});

const mark = (x, kind, label) => ({ xAxis: x, lineStyle: { color: COLOUR[kind], type: kind === "now" ? "dotted" : "solid", width: 1.5 }, label: { formatter: label, color: COLOUR[kind], position: "end", distance: 4, fontSize: 11 } });
const marks = (data) => ({ silent: true, symbol: "none", animation: false, data });

function band(name, points, low, high, colour, axis = 0) {
  const common = { type: "line", symbol: "none", lineStyle: { opacity: 0 }, stack: name, yAxisIndex: axis, silent: true, tooltip: { show: false }, connectNulls: false };
  return [
    { ...common, name: `${name} low`, data: points.map((p) => [p.x, p[low]]) },
    { ...common, name, data: points.map((p) => [p.x, p[low] === null ? null : p[high] - p[low]]), areaStyle: { color: colour } },
  ];
}

async function vitals(element) {
  const metric = document.querySelector("[data-vitals-metric]").value;
  const hours = Number(document.querySelector("[data-vitals-hours][aria-pressed=true]").dataset.vitalsHours);
  if (!metric) return null;
  const to = page.storyNow(), from = to - hours * 3600e3;
  const query = new URLSearchParams({ metric, from_t: new Date(from).toISOString(), to_t: new Date(to).toISOString(), points: Math.min(1000, Math.max(50, Math.round(element.clientWidth / 2))) });
  const answer = await fetch(`/api/assets/${element.dataset.asset}/vitals?${query}`);
  if (!answer.ok) return null;
  const series = await answer.json();
  const points = withGaps(series);
  const known = page.readData("marks") ?? { marks: [], detected: [], deadlines: [] };
  const inside = (ms) => ms > from && ms <= to;
  const lines = [
    ...known.marks.map(at).filter(inside).map((x) => mark(x, "onset", "onset")),
    ...known.detected.map(at).filter(inside).map((x) => mark(x, "detected", "detected")),
    ...known.deadlines.filter((text) => text !== "None").map(at).filter(inside).map((x) => mark(x, "deadline", "deadline")),
  ];
  const clock = when(element.dataset.zone);
  return {
    ...base(),
    xAxis: timeAxis(element.dataset.zone, from, to),
    yAxis: valueAxis(series.unit_label || "ratio"),
    tooltip: { ...base().tooltip, formatter: (items) => tip(clock, series, items) },
    series: [
      ...band("range", points, "low", "high", "#17465c26"),
      { name: "mean", type: "line", symbol: points.length < 40 ? "circle" : "none", symbolSize: 4, data: points.map((p) => [p.x, p.mean]), lineStyle: { color: ACCENT, width: 1.5 }, itemStyle: { color: ACCENT }, markLine: marks(lines) },
    ],
    title: points.length ? undefined : { text: "No data in this range", left: "center", top: "middle", textStyle: { color: MUTED, fontSize: 14, fontWeight: 400 } },
  };
}

// A stretch without data longer than eight usual steps is drawn as a gap, not bridged by a line.
function withGaps(series) {
  const points = series.points.map((p) => ({ x: at(p.t), low: p.low, high: p.high, mean: p.mean, n: p.n }));
  const steps = points.slice(1).map((p, i) => p.x - points[i].x).sort((a, b) => a - b);
  const usual = steps.length ? steps[Math.floor(steps.length / 2)] : 0;
  return points.flatMap((p, i) => i && p.x - points[i - 1].x > 8 * usual ? [{ x: p.x - usual, low: null, high: null, mean: null }, p] : [p]);
}

function tip(clock, series, items) {
  const mean = items.find((item) => item.seriesName === "mean");
  if (!mean || mean.data[1] === null) return "";
  const point = series.points.find((p) => at(p.t) === mean.data[0]);
  if (!point) return "";
  const unit = series.unit_label ? ` ${series.unit_label}` : "";
  const range = point.low !== point.high ? `<br>${figure(point.low)} to ${figure(point.high)}${unit}` : "";
  return `${clock(mean.data[0])}<br><b>${figure(point.mean)}${unit}</b>${range}`;
}

function prognosis(element) {
  const data = page.readData(element.dataset.source);
  if (!data) return null;
  const made = at(data.made_at), hour = 3600e3;
  const course = data.course.map(([before, ratio]) => [made - Math.abs(before) * hour, ratio]).sort((a, b) => a[0] - b[0]);
  const end = Math.max(data.rul_p90_h ?? 0, 24) * 1.15;
  const from = Math.max(course.length ? course[0][0] : made, made - Math.max(96, end * 1.2) * hour), to = made + end * hour;
  const curve = data.survival.map(([h, share]) => [made + h * hour, share * 100]);
  const known = data.rul_p10_h !== null && data.rul_p90_h !== null;
  const clock = when(element.dataset.zone);
  const lines = [mark(made, "now", "made")];
  for (const [key, name] of [["rul_p10_h", "10 %"], ["rul_p50_h", "50 %"], ["rul_p90_h", "90 %"]]) {
    if (data[key] !== null) lines.push({ ...mark(made + data[key] * hour, "deadline", name), ...(key === "rul_p50_h" ? {} : { lineStyle: { color: COLOUR.deadline, width: 0.8, type: "dashed" } }) });
  }
  return {
    ...base(),
    grid: { left: 56, right: 52, top: 30, bottom: 26 },
    xAxis: timeAxis(element.dataset.zone, from, to),
    yAxis: [valueAxis("× baseline"), valueAxis("survives", { min: 0, max: 100, position: "right", nameTextStyle: { color: MUTED, align: "right" }, axisLabel: { color: MUTED, formatter: "{value} %" }, splitLine: { show: false } })],
    tooltip: { ...base().tooltip, formatter: (items) => items.length ? [clock(items[0].axisValue), ...items.map((i) => i.seriesName === "survives" ? `survives until then: <b>${figure(i.data[1])} %</b>` : `indicator: <b>${figure(i.data[1])} × baseline</b>`)].join("<br>") : "" },
    series: [
      { name: "indicator", type: "line", symbol: "none", data: course, lineStyle: { color: ACCENT, width: 1.8 }, markLine: marks(lines), markArea: known ? { silent: true, itemStyle: { color: "#b3261e1f" }, data: [[{ xAxis: made + data.rul_p10_h * hour }, { xAxis: made + data.rul_p90_h * hour }]] } : undefined },
      { name: "survives", type: "line", symbol: "none", yAxisIndex: 1, step: "end", data: curve, lineStyle: { color: "#7a5b8f", width: 1.5 } },
    ],
  };
}

function load(element) {
  const data = page.readData(element.dataset.source);
  if (!data) return null;
  if (!data.at.length) return data.shifts.length ? byShift(data) : null;
  const hours = data.at.map(at), [start, end] = data.chosen ? data.chosen.map(at) : [0, 0];
  const clock = when(element.dataset.zone), deadline = data.deadline ? at(data.deadline) : 0;
  const from = hours[0], to = Math.max(hours.at(-1) + 3600e3, deadline > hours[0] && deadline < hours.at(-1) + 86400e3 ? deadline + 3600e3 : 0);
  return {
    ...base(),
    xAxis: timeAxis(element.dataset.zone, from, to),
    yAxis: valueAxis(data.unit, { min: 0 }),
    tooltip: { ...base().tooltip, formatter: (items) => items.length ? `${clock(hours[items[0].dataIndex])}<br><b>${figure(data.load[items[0].dataIndex])} ${data.unit}</b>` : "" },
    series: [{
      type: "bar", barWidth: "74%", barCategoryGap: "15%",
      data: hours.map((x, i) => ({ value: [x + 1800e3, data.load[i]], itemStyle: { color: x >= start && x < end ? ACCENT : "#c3ced6" } })),
      markArea: data.chosen ? { silent: true, itemStyle: { color: "#17465c1a" }, data: [[{ xAxis: start }, { xAxis: end }]] } : undefined,
      markLine: marks([...(deadline ? [mark(deadline, "deadline", "deadline")] : []), ...(page.storyNow() > from && page.storyNow() < to ? [mark(page.storyNow(), "now", "now")] : [])]),
    }],
  };
}

// A WMS that gives no hours: bars by shift; the chosen window lies in one of them (see the table beneath).
const byShift = (data) => ({
  ...base(),
  xAxis: { type: "category", data: data.shifts, axisLabel: { color: MUTED, hideOverlap: true }, axisLine: { lineStyle: { color: LINE } }, axisTick: { show: false } },
  yAxis: valueAxis(data.unit, { min: 0 }),
  tooltip: { ...base().tooltip, formatter: (items) => `${items[0].name}<br><b>${figure(items[0].value)} ${data.unit}</b>` },
  series: [{ type: "bar", barCategoryGap: "25%", data: data.shift_load, itemStyle: { color: "#c3ced6" } }],
});

const curve = (points, xName, yName, colour) => ({
  ...base(),
  grid: { left: 56, right: 22, top: 28, bottom: 38 },
  xAxis: { type: "value", name: xName, nameLocation: "middle", nameGap: 22, nameTextStyle: { color: MUTED }, min: 0, max: Math.ceil(points.at(-1)?.[0] ?? 1), axisLabel: { color: MUTED }, splitLine: { show: false }, axisLine: { lineStyle: { color: LINE } } },
  yAxis: valueAxis(yName),
  tooltip: { ...base().tooltip, formatter: (items) => `${figure(items[0].data[0])} ${xName.split(", ").pop()}<br><b>${figure(items[0].data[1])} ${yName.split(", ").pop()}</b>` },
  series: [{ type: "line", symbol: "none", data: points, lineStyle: { color: colour, width: 1 } }],
});

function waveform(element) {
  const data = page.readData(element.dataset.source);
  return data && curve(data.waveform, "time, ms", data.unit_label, ACCENT);
}

function spectrum(element) {
  const data = page.readData(element.dataset.source);
  return data && curve(data.spectrum, "frequency, Hz", `amplitude, ${data.unit_label}`, "#7a5b8f");
}

const KINDS = { vitals, prognosis, load, waveform, spectrum };

async function draw(element) {
  const options = await KINDS[element.dataset.chart](element);
  if (!options) return;
  if (!charts.has(element)) charts.set(element, echarts.init(element));
  charts.get(element).setOption(options, { notMerge: true });
}

const drawAll = (kinds) => document.querySelectorAll("[data-chart]").forEach((element) => { if (!kinds || kinds.includes(element.dataset.chart)) draw(element); });

export function start(given) {
  page = given;
  drawAll();
  document.addEventListener("data-changed", (event) => document.querySelectorAll(`[data-source="${event.detail}"]`).forEach((element) => draw(element)));
  document.addEventListener("refreshed", () => drawAll(["vitals"]));
  document.addEventListener("change", (event) => { if (event.target.matches("[data-vitals-metric]")) drawAll(["vitals"]); });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-vitals-hours]");
    if (!button) return;
    document.querySelectorAll("[data-vitals-hours]").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    drawAll(["vitals"]);
  });
  new ResizeObserver(() => charts.forEach((chart) => chart.resize())).observe(document.getElementById("main"));
}
