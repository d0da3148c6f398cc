// The charts: vitals with their marks, prognosis, load by hour, waveform and spectrum. Drawn with ECharts, updated in place.

import "./echarts/echarts.min.js"; // no module itself: it defines the global name

const { echarts } = globalThis;
const INK = "#17212b", MUTED = "#5b6875", LINE = "#dfe4e8", ACCENT = "#17465c";
const COLOUR = { onset: "#77620a", detected: "#b4540a", deadline: "#b3261e", part: "#23724a", now: "#5b6875" };
const charts = new Map(); // element -> ECharts instance
let page;

const at = (text) => new Date(text.replace(" ", "T")).getTime();
const figure = (value) => value === null || value === undefined ? "–" : Number(value.toPrecision(3)).toString();

function inZone(zone, options) {
  const format = new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options });
  return (ms) => format.format(ms);
}

const when = (zone) => inZone(zone, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

// How far a zone's clock is ahead of UTC at a moment.
function offsetAt(zone, ms) {
  const parts = new Intl.DateTimeFormat("en-GB", { timeZone: zone, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric" }).formatToParts(ms);
  const part = Object.fromEntries(parts.map(({ type, value }) => [type, Number(value)]));
  return Date.UTC(part.year, part.month - 1, part.day, part.hour, part.minute) - Math.floor(ms / 60e3) * 60e3;
}

// Round hours and midnights of the site, not of the reader's own clock; at most nine, and fewer on a phone.
function ticksOf(zone, from, to, width) {
  const most = Math.min(9, Math.max(2, width / 70)); // a label such as "Wed 18:00" is some 60 px wide
  const step = [1, 2, 3, 6, 12, 24, 48, 96, 168, 336, 720, 2160, 8760].map((hours) => hours * 3600e3).find((wide) => (to - from) / wide <= most) ?? to - from;
  const ticks = [];
  for (let local = Math.ceil((from + offsetAt(zone, from)) / step) * step; ticks.length < 12; local += step) {
    const ms = local - offsetAt(zone, local - offsetAt(zone, local));
    if (ms > to) break;
    ticks.push(ms);
  }
  return { ticks, daily: step >= 86400e3 };
}

function timeAxis(element, from, to) {
  const zone = element.dataset.zone;
  const { ticks, daily } = ticksOf(zone, from, to, element.clientWidth - 78); // without the margins of base()
  const label = inZone(zone, daily ? { day: "numeric", month: "short" } : { weekday: "short", hour: "2-digit", minute: "2-digit" });
  return { type: "time", min: from, max: to, axisLabel: { color: MUTED, formatter: label, hideOverlap: true, customValues: ticks }, axisTick: { customValues: ticks }, axisLine: { lineStyle: { color: LINE } }, splitLine: { show: false } };
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
    xAxis: timeAxis(element, from, to),
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

const HOUR = 3600e3;
const pastCourses = new Map(); // prognosis id -> its neighbours' courses, which never change

async function neighboursOf(element, made) {
  if (!made.neighbours.length) return { courses: [], shape: [] };
  if (!pastCourses.has(made.prognosis_id)) {
    const answer = await fetch(`/api/assets/${encodeURIComponent(element.dataset.asset)}/prognoses/${made.prognosis_id}/neighbours`);
    if (!answer.ok) return { courses: [], shape: [] }; // drawn without them; the next drawing asks again
    if (pastCourses.size >= 64) pastCourses.clear();
    pastCourses.set(made.prognosis_id, await answer.json());
  }
  return pastCourses.get(made.prognosis_id);
}

// The past on the left, what past units like it did and when the failure is expected on the right.
async function prognosis(element) {
  const data = page.readData(element.dataset.source);
  if (!data) return null;
  const made = data.prognosis, made_ms = at(made.made_at), ms = (hours) => made_ms + hours * HOUR;
  const past = await neighboursOf(element, made);
  const course = made.course.map(([before, ratio]) => [ms(-Math.abs(before)), ratio]).sort((a, b) => a[0] - b[0]);
  const known = made.rul_p10_h !== null && made.rul_p90_h !== null;
  const marked = marksOf(data.marks);
  const ahead_h = Math.max(24, known ? made.rul_p90_h : usual(past.courses.map((unit) => unit.remaining_h)), ...[...marked.lines.map((line) => line.x), marked.window?.[1] ?? 0].map((x) => Math.min((x - made_ms) / HOUR, 8760))) * 1.12;
  const behind_h = Math.max(12, Math.min(course.length ? (made_ms - course[0][0]) / HOUR : 0, Math.max(48, ahead_h * 0.7)), ahead_h * 0.3);
  const from = ms(-behind_h), to = ms(ahead_h);
  const level = course.length ? course.at(-1)[1] : 1;
  const shape = past.shape.length ? past.shape : [[0, level], [1, level * 1.5]];
  const end = shape.at(-1)[1];
  const top = round(Math.max(1.6, ...course.filter(([x]) => x >= from).map((point) => point[1]), known ? end : 0, level) * 1.18);
  const quiet = Math.max(0.03, made.noise_ratio);
  const later = page.storyNow() - made_ms > (to - from) / 100;
  const now = later && page.storyNow() < to ? [{ x: page.storyNow(), kind: "now", label: "now" }] : [];
  const lines = spread([{ x: made_ms, kind: "now", label: later ? "made" : "now" }, ...now, ...marked.lines], from, to, element.clientWidth - 78);
  const clock = when(element.dataset.zone);
  return {
    ...base(),
    grid: { left: 56, right: 22, top: 46, bottom: 26 },
    xAxis: timeAxis(element, from, to),
    yAxis: valueAxis("× healthy", { min: Math.min(0.8, ...course.map((point) => point[1])) < 0.6 ? 0 : 0.5, max: top, scale: false }),
    tooltip: { ...base().tooltip, formatter: (items) => items.length ? [clock(items[0].axisValue), ...items.filter((i) => i.seriesName === "indicator").map((i) => `indicator <b>${figure(i.data[1])} × healthy</b>`), ...chances(made, (items[0].axisValue - made_ms) / HOUR)].join("<br>") : "" },
    series: [
      ...past.courses.map((unit) => ({ name: "past unit", type: "line", symbol: "none", silent: true, z: 1, data: unit.points.map(([h, ratio]) => [ms(h), ratio]), lineStyle: { color: "#8796a3", opacity: 0.42, width: 1 }, tooltip: { show: false } })),
      ends(past.courses.filter((unit) => unit.failed), ms, top, "path://M0 0L10 10M10 0L0 10", 7),
      ends(past.courses.filter((unit) => !unit.failed), ms, top, "circle", 6),
      ...(known ? fan(made, shape, ms, end) : []),
      {
        name: "indicator", type: "line", symbol: "none", z: 5, data: course, lineStyle: { color: ACCENT, width: 2.2 }, itemStyle: { color: ACCENT },
        markLine: marks(lines.map((line) => ({ ...mark(line.x, line.kind, line.label), ...line.at }))),
        markArea: { silent: true, data: [
          [{ yAxis: Math.max(0, 1 - quiet), itemStyle: { color: "#23724a24" }, label: { show: false } }, { yAxis: 1 + quiet }],
          ...(marked.window ? [[{ xAxis: marked.window[0], itemStyle: { color: "#17465c38" }, name: "repair", label: { color: ACCENT, position: "insideBottom", fontSize: 11 } }, { xAxis: marked.window[1] }]] : []),
        ] },
      },
    ],
  };
}

// Up to three significant digits, so that an axis ends on a readable number.
const round = (value) => Number(value.toPrecision(2));
const usual = (values) => values.length ? [...values].sort((a, b) => a - b)[Math.floor(values.length * 0.75)] : 0;

function marksOf(known) {
  const moment = (text) => text ? at(text) : null;
  const lines = [["part", "part arrives"], ["deadline", "deadline"]].map(([kind, label]) => ({ x: moment(known[kind]), kind, label })).filter((line) => line.x);
  const [start, end] = known.window ?? [];
  return { lines, window: start && end ? [at(start), at(end)] : null };
}

// Labels that would lie on one another go to a second row; one at the edge is written inwards.
function spread(lines, from, to, width) {
  const taken = [-Infinity, -Infinity];
  return lines.filter(({ x }) => x >= from && x <= to).sort((a, b) => a.x - b.x).map((line) => {
    const pixel = (line.x - from) / (to - from) * width, half = line.label.length * 3.2 + 5;
    const row = pixel - half > taken[0] ? 0 : 1;
    taken[row] = pixel + half;
    return { ...line, at: { label: { formatter: line.label, color: COLOUR[line.kind], position: "end", distance: [0, 4 + 14 * row], fontSize: 11, align: pixel + half > width + 20 ? "right" : "center" } } };
  });
}

// Where past units ended: a cross for a failure, an open ring for one that was replaced or still ran.
const ends = (units, ms, top, symbol, size) => ({
  name: "end", type: "scatter", silent: true, z: 2, symbol, symbolSize: size, tooltip: { show: false },
  data: units.filter((unit) => unit.points.length).map((unit) => [ms(unit.remaining_h), Math.min(unit.points.at(-1)[1], top * 0.985)]),
  itemStyle: { color: "transparent", borderColor: "#66747f", borderWidth: 1.3 },
});

// The usual way to the failure, walked as fast as the interval's early end, its middle and its late end.
function fan(made, shape, ms, end) {
  const walked = (hours) => shape.map(([share, ratio]) => [ms(share * hours), ratio]);
  const outline = [...walked(made.rul_p10_h), ...walked(made.rul_p90_h).reverse()];
  const red = COLOUR.deadline;
  const middle = walked(made.rul_p50_h);
  return [
    { name: "fan", type: "custom", silent: true, clip: true, z: 3, tooltip: { show: false }, data: [walked(0)[0]], renderItem: (_, api) => ({ type: "polygon", shape: { points: outline.map((point) => api.coord(point)) }, style: { fill: red, opacity: 0.15 } }) },
    { name: "middle", type: "line", silent: true, symbol: "none", z: 4, tooltip: { show: false }, data: middle, lineStyle: { color: red, width: 1.5, type: "dashed" } },
    { name: "failure", type: "line", silent: true, symbol: "none", z: 4, tooltip: { show: false }, data: [[ms(made.rul_p10_h), end], [ms(made.rul_p90_h), end]], lineStyle: { color: red, width: 2.5 }, markPoint: { silent: true, symbol: "circle", symbolSize: 7, itemStyle: { color: red }, label: { show: true, position: "top", color: red, fontSize: 11, formatter: "{b}" }, data: [{ name: "50 %", coord: middle.at(-1) }] } },
  ];
}

// What the survival curve says of one moment ahead.
function chances(made, hours) {
  const curve = made.survival, next = curve.findIndex(([h]) => h >= hours);
  if (hours <= 0 || !curve.length) return [];
  const alive = next < 0 ? curve.at(-1)[1] : next === 0 ? curve[0][1] : curve[next - 1][1] + (curve[next][1] - curve[next - 1][1]) * (hours - curve[next - 1][0]) / Math.max(curve[next][0] - curve[next - 1][0], 1e-9);
  return [`failed by then: <b>${figure((1 - alive) * 100)} %</b>`];
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
    xAxis: timeAxis(element, from, to),
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

// Told against seen: a perfect forecast lies on the diagonal. A dot's area is its number of lives, its line how sure that is.
function reliability(element) {
  const data = page.readData(element.dataset.source);
  if (!data) return null;
  const share = (value) => `${Math.round(value * 100)} %`, most = Math.max(...data.bins.map((bin) => bin.lives));
  const axis = (name, more) => ({ type: "value", min: 0, max: 1, interval: 0.2, name, nameTextStyle: { color: MUTED }, axisLabel: { color: MUTED, formatter: share }, splitLine: { lineStyle: { color: "#edf0f2" } }, axisLine: { show: true, lineStyle: { color: LINE } }, axisTick: { show: false }, ...more });
  const range = (params, api) => {
    const [x, low] = api.coord([api.value(0), api.value(1)]), high = api.coord([api.value(0), api.value(2)])[1];
    return { type: "line", shape: { x1: x, y1: low, x2: x, y2: high }, style: { stroke: ACCENT, lineWidth: 1.5, opacity: 0.45 } };
  };
  return {
    ...base(),
    grid: { left: 56, right: 22, top: 30, bottom: 42 },
    xAxis: axis("told", { nameLocation: "middle", nameGap: 26 }),
    yAxis: axis("failed", { nameTextStyle: { color: MUTED, align: "left" } }),
    tooltip: { ...base().tooltip, trigger: "item", formatter: ({ data: [x, y, lives, low, high] }) => `told <b>${share(x)}</b>, failed <b>${share(y)}</b><br>${share(low)} to ${share(high)}, ${lives} ${lives === 1 ? "life" : "lives"}` },
    series: [
      { type: "line", silent: true, symbol: "none", data: [[0, 0], [1, 1]], lineStyle: { color: "#9aa5ae", width: 1, type: "dashed" }, markLine: data.base_rate === null ? undefined : marks([{ yAxis: data.base_rate, lineStyle: { color: "#9aa5ae", type: "dotted" }, label: { formatter: "base rate", color: MUTED, position: "insideEndTop", fontSize: 11 } }]) },
      { type: "custom", silent: true, renderItem: range, data: data.bins.map((bin) => [bin.said, bin.low, bin.high]), encode: { x: 0, y: [1, 2] } },
      { type: "scatter", data: data.bins.map((bin) => [bin.said, bin.seen, bin.lives, bin.low, bin.high]), symbolSize: (value) => 7 + 11 * Math.sqrt(value[2] / most), itemStyle: { color: ACCENT } },
    ],
  };
}

const KINDS = { reliability, vitals, prognosis, load, waveform, spectrum };

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
  setInterval(() => drawAll(["prognosis"]), 20e3); // its line "now" moves
  document.addEventListener("change", (event) => { if (event.target.matches("[data-vitals-metric]")) drawAll(["vitals"]); });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-vitals-hours]");
    if (!button) return;
    document.querySelectorAll("[data-vitals-hours]").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    drawAll(["vitals"]);
  });
  new ResizeObserver(() => charts.forEach((chart) => chart.resize())).observe(document.getElementById("main"));
}
