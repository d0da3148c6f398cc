// Keeps an open page true: clocks tick, sections refresh in place, forms talk to the API.
// A section (`data-live`, with an id) is replaced only when its content changed and nobody is typing in it.

const body = document.body;
const REFRESH_MS = 2000;
const timesOf = (page) => ({ real: Date.now(), story: Number(page.dataset.now) * 1000, serverReal: Number(page.dataset.realNow) * 1000, scale: Number(page.dataset.scale) });
let started = timesOf(body); // set again by every refresh: story time may stand still, and a laptop sleeps
const seen = new Map(); // id of a live section -> its HTML as last received

export const storyNow = () => started.story + (Date.now() - started.real) * started.scale;

function stamp(ms) {
  const day = new Date(ms).toLocaleDateString("en-GB", { weekday: "short", day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
  return `${day} ${new Date(ms).toISOString().slice(11, 19)} UTC`;
}

function tick() {
  for (const clock of document.querySelectorAll("[data-clock]")) {
    const real = started.serverReal + (Date.now() - started.real);
    clock.textContent = clock.dataset.clock === "story" ? stamp(storyNow()) : `${new Date(real).toISOString().slice(11, 19)} UTC`;
  }
}

export function readData(id) {
  const block = document.getElementById(id);
  return block ? JSON.parse(block.textContent) : null;
}

function busy(section) {
  return section.contains(document.activeElement) && document.activeElement.matches("input, textarea, select, button")
    || section.querySelector("form[data-touched]") !== null;
}

function keepOpen(old, fresh) {
  const open = [...old.querySelectorAll("details")].map((item) => item.open);
  fresh.querySelectorAll("details").forEach((item, at) => { item.open = open[at] ?? item.open; });
}

function matchLists(page) {
  for (const list of document.querySelectorAll("[data-live-list]")) {
    const fresh = page.getElementById(list.id);
    if (!fresh) continue;
    for (const item of [...list.children]) if (!page.getElementById(item.id) && !busy(item)) item.remove();
    for (const item of [...fresh.children]) if (!document.getElementById(item.id)) list.append(document.importNode(item, true));
  }
}

function merge(page) {
  started = timesOf(page.body);
  matchLists(page);
  for (const section of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(section.id);
    if (!fresh) continue;
    const html = fresh.innerHTML;
    if (!seen.has(section.id)) seen.set(section.id, section.innerHTML);
    if (seen.get(section.id) === html || busy(section)) continue;
    keepOpen(section, fresh);
    section.replaceChildren(...[...fresh.childNodes].map((node) => document.importNode(node, true)));
    section.className = fresh.className;
    seen.set(section.id, html);
    if (section.tagName === "SCRIPT") document.dispatchEvent(new CustomEvent("data-changed", { detail: section.id }));
  }
}

let refreshing = false;
let wanted = false;

export async function refresh() {
  if (!document.querySelector("[data-live], [data-live-list]")) return; // nothing on it changes by itself
  if (refreshing) { wanted = true; return; }
  refreshing = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
    if (answer.type === "opaqueredirect") { location.reload(); return; } // the session ended
    if (answer.ok) merge(new DOMParser().parseFromString(await answer.text(), "text/html"));
    else if (answer.status === 404) location.assign("/");
    document.dispatchEvent(new Event("refreshed"));
    body.classList.remove("offline");
  } catch {
    body.classList.add("offline"); // the next round tries again
  } finally {
    refreshing = false;
    if (wanted) { wanted = false; refresh(); }
  }
}

function toast(text, bad = false) {
  const box = document.getElementById("toast");
  box.textContent = text;
  box.className = bad ? "shown bad" : "shown";
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { box.className = ""; }, bad ? 8000 : 4000);
}

function valueOf(field) {
  if (field.type === "checkbox") return field.checked;
  if (field.dataset.type === "bool") return field.value === "true";
  if (field.dataset.type === "utc") return field.value ? `${field.value}Z` : null;
  if (field.dataset.type === "hours-from-now") return new Date(storyNow() + Number(field.value) * 3600e3).toISOString();
  return field.value;
}

async function submit(form) {
  const sent = {};
  for (const field of form.elements) if (field.name && (field.type !== "radio" || field.checked)) sent[field.name] = valueOf(field);
  const button = form.querySelector("button[type=submit]");
  button.disabled = true;
  try {
    const answer = await fetch(form.dataset.api, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": body.dataset.csrf },
      body: JSON.stringify(sent),
    });
    const said = await answer.json();
    if (!answer.ok) { toast(said.detail || said.title, true); return; }
    if (form.dataset.then) { location.assign(form.dataset.then); return; }
    delete form.dataset.touched;
    document.activeElement?.blur();
    toast(said.detail || "Done");
    await refresh();
  } catch {
    toast("The server does not answer; nothing was changed as far as this page knows.", true);
  } finally {
    button.disabled = false;
  }
}

document.addEventListener("submit", (event) => {
  if (!event.target.dataset.api) return;
  event.preventDefault();
  submit(event.target);
});
document.addEventListener("input", (event) => { const form = event.target.closest("form[data-api]"); if (form) form.dataset.touched = "yes"; });
document.addEventListener("change", (event) => { if (event.target.matches(".filters select")) event.target.form.requestSubmit(); });

function listen() {
  const source = new EventSource("/api/events");
  let pending = null;
  source.addEventListener("change", () => { pending ??= setTimeout(() => { pending = null; refresh(); }, 150); });
}

tick();
setInterval(tick, started.scale === 1 ? 1000 : 200);
if (body.dataset.csrf) {
  setInterval(() => { if (!document.hidden) refresh(); }, REFRESH_MS);
  listen();
}
if (document.querySelector("[data-chart]")) import(`./charts.js?v=${body.dataset.version}`).then((charts) => charts.start({ readData, storyNow }));
