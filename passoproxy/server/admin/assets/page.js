// Keeps the status page fresh: its parts are fetched from the server as it renders them, and requests come as server-sent events.
// Without this script the page is whole too: it is then loaded anew twice a minute.
"use strict";

const EVERY_SECONDS = 5;
const MOST_ROWS = 100;

// ---- times in the browser's zone, in the words of html.py ----

function localise(root, now = new Date(root.querySelector(".as-of time")?.dateTime ?? Date.now())) {
  for (const element of root.querySelectorAll("time[data-form]")) {
    const at = new Date(element.dateTime);
    const isSecond = element.dataset.form === "second";
    const part = (options) => new Intl.DateTimeFormat("en-GB", options).format(at);
    let clock = part({ hour: "2-digit", minute: "2-digit", ...(isSecond && { second: "2-digit" }) });
    if (!isSecond) {
      const zone = new Intl.DateTimeFormat("en", { timeZoneName: "short" }).formatToParts(at).find((each) => each.type === "timeZoneName");
      clock += ` ${zone.value}`;
    }
    const isToday = at.toDateString() === now.toDateString();
    const isThisYear = at.getFullYear() === now.getFullYear();
    const day = isToday ? "" : `${part({ weekday: "short" })} ${part({ day: "2-digit" })} ${part({ month: "short" })}${isThisYear ? "" : ` ${at.getFullYear()}`}`;
    const before = element.dataset.joined;
    element.textContent = day ? (before ? `on ${day} at ${clock}` : `${day}, ${clock}`) : (before ? `at ${clock}` : clock);
  }
}

// ---- the page anew ----

const gone = document.getElementById("gone");
let copied = 0;

function face(title, icon, mood) {
  document.title = title;
  document.getElementById("icon").href = icon;
  document.body.className = mood;
}

function lost() {
  if (gone.hidden) {
    gone.hidden = false;
    face("(!) passoproxy does not answer", "/assets/icon-bad.svg", "bad gone");
  }
}

async function refresh() {
  const live = document.getElementById("live");
  try {
    const answer = await fetch("/", { headers: { Accept: "text/html" }, credentials: "same-origin", signal: AbortSignal.timeout(4000) });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!answer.ok) throw new Error(answer.statusText);  // this page goes on, and one of an error would not
    if (!page.getElementById("live")) {
      location.reload();  // it asks for the admin token
      return;
    }
    const selected = getSelection();
    if (gone.hidden && !selected.isCollapsed && live.contains(selected.anchorNode) && copied++ < 6) return;  // it is being copied
    copied = 0;
    localise(page);
    const focused = live.contains(document.activeElement) ? document.activeElement.id : "";
    for (const open of document.querySelectorAll("details[open][id]")) page.getElementById(open.id)?.setAttribute("open", "");
    face(page.title, page.getElementById("icon").getAttribute("href"), page.body.className);
    for (const part of ["header", "#live", "footer"]) {
      document.querySelector(part).replaceWith(document.adoptNode(page.querySelector(part)));
    }
    const [held, fresh] = [document, page].map((each) => each.querySelector("#elsewhere [name=page_token]"));
    if (held && fresh) held.value = fresh.value;  // of another session, or of a daemon that began anew
    if (focused) document.getElementById(focused)?.focus();
    gone.hidden = true;
    listen();
  } catch {
    lost();
  }
}

// ---- requests as they come ----

let source = null, askedAt = -Infinity;
const filter = document.getElementById("filter"), pause = document.getElementById("pause"), state = document.getElementById("stream-state");
const isPaused = () => pause.getAttribute("aria-pressed") === "true";

const stream = () => document.querySelector(".stream tbody");

function fits(row) {
  return row.textContent.toLowerCase().includes(filter.value.trim().toLowerCase());
}

function cell(kind, ...inner) {
  const made = document.createElement("td");
  made.className = kind;
  made.append(...inner);
  return made;
}

function word(text, mood, kind = `word ${mood}`) {
  const made = document.createElement("span");
  made.className = kind;
  made.textContent = text;
  return made;
}

function took(ms) {
  return ms < 9.95 ? `${ms.toFixed(1)} ms` : ms < 999.5 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function rowOf(told) {
  const row = document.createElement("tr");
  const time = document.createElement("time");
  [time.dateTime, time.dataset.form, time.dataset.joined] = [told.time ?? new Date().toISOString(), "second", ""];  // that lines were dropped has no time
  if (told.event === "request") {
    const link = document.createElement("a");
    link.href = `/page/why?request=${encodeURIComponent(told.request_id)}`;
    link.textContent = told.target;
    const mood = told.status >= 500 ? "bad" : told.status >= 400 ? "warn" : "";
    const cacheMood = { hit: "good", stale: "warn", error: "bad" }[told.cache] || "";
    const reason = told.reason ? [" ", word(told.reason, "", "when")] : [];
    row.append(cell("rare", time), cell("", told.method), cell("wide", link), cell("rare", told.route), cell("", word(told.status, mood)), cell("", word(told.cache, cacheMood), ...reason), cell("right", took(told.duration_ms)));
  } else {
    const text = cell("wide", word(told.level, told.level === "error" ? "bad" : told.level === "warning" ? "warn" : ""), ` ${told.message || told.event}`);
    text.colSpan = 6;
    row.append(cell("rare", time), text);
  }
  localise(row);
  row.hidden = !fits(row);
  return row;
}

function listen() {
  if (source || document.hidden || !window.EventSource || performance.now() - askedAt < EVERY_SECONDS * 1000) return;
  askedAt = performance.now();
  source = new EventSource("/page/live");
  const rows = stream();
  source.onmessage = (event) => {
    if (isPaused()) return;
    rows.prepend(rowOf(JSON.parse(event.data)));
    while (rows.children.length > MOST_ROWS) [...rows.children].findLast((row) => !row.contains(document.activeElement)).remove();
    state.textContent = "";
  };
  source.addEventListener("more", (event) => { state.textContent = `${event.data} more in the last second`; });
  source.onopen = () => { state.textContent = ""; };
  source.onerror = () => {  // it ended, or was refused: is the daemon still there?
    state.textContent = "Requests do not come in at present.";
    quiet();
    refresh();
  };
}

function quiet() {
  source?.close();
  source = null;
}

async function why(event) {
  const link = event.target.closest('a[href^="/page/why"]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const row = link.closest("tr");
  if (row.nextElementSibling?.classList.contains("why")) {
    row.nextElementSibling.remove();
    link.setAttribute("aria-expanded", "false");
    return;
  }
  if (!isPaused()) pause.click();  // so that it stays where it is read
  const answer = await fetch(link.href, { credentials: "same-origin" }).then((found) => found.text()).catch(lost);
  if (answer === undefined || row.nextElementSibling?.classList.contains("why")) return;
  const page = new DOMParser().parseFromString(answer, "text/html"), told = document.createElement("tr"), inner = cell("wide");
  told.className = "why";
  inner.colSpan = 7;
  inner.append(...(page.getElementById("why")?.childNodes ?? ["No answer."]));
  told.append(inner);
  row.after(told);
  link.setAttribute("aria-expanded", "true");
}

// ---- begin ----

if (document.getElementById("live")) {
  // What was just done is said until the page is fetched anew, and not again after a reload.
  if (location.search) history.replaceState(null, "", "/");
  new Image().src = "/assets/icon-bad.svg";  // kept, for when nobody is there to give it
  localise(document);
  document.getElementById("stream-tools").hidden = false;
  stream().addEventListener("click", why);
  filter.addEventListener("input", () => { for (const row of stream().rows) row.hidden = !fits(row); });
  pause.addEventListener("click", () => {
    pause.setAttribute("aria-pressed", String(!isPaused()));
    pause.textContent = isPaused() ? "Go on" : "Pause";
  });
  listen();
  setInterval(() => { if (!document.hidden) refresh(); }, EVERY_SECONDS * 1000);
  document.addEventListener("visibilitychange", () => { if (document.hidden) quiet(); else refresh(); });
} else if (["/oauth/callback", "/page/session"].includes(location.pathname)) {
  // The code or the link has been used: it need not stay in the address bar and the history.
  history.replaceState(null, "", location.pathname);
}
