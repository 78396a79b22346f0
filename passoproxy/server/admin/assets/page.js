// Keeps the status page fresh: seconds count down here, everything else is fetched from the server as it renders it.
"use strict";

const EVERY_SECONDS = 5;

function words(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [[Math.floor(whole / 86400), "d"], [Math.floor(whole / 3600) % 24, "h"], [Math.floor(whole / 60) % 60, "min"], [whole % 60, "s"]];
  const first = parts.findIndex(([amount]) => amount > 0);
  if (first < 0) return "0 s";
  return parts.slice(first, first + 2).filter(([amount]) => amount > 0).map(([amount, unit]) => `${amount} ${unit}`).join(" ");
}

// The server's clock counts, not the browser's: only the time since the page was rendered is measured here.
let renderedAt = Date.now();

function tick() {
  const passed = (Date.now() - renderedAt) / 1000;
  for (const element of document.querySelectorAll("[data-left]")) {
    element.textContent = words(Number(element.dataset.left) - passed);
  }
}

async function refresh() {
  const live = document.getElementById("live");
  try {
    const answer = await fetch("/", { headers: { Accept: "text/html" }, credentials: "same-origin", signal: AbortSignal.timeout(4000) });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!answer.ok || !page.getElementById("live")) {
      location.reload();
      return;
    }
    const focused = live.contains(document.activeElement) ? document.activeElement.id : "";
    document.title = page.title;
    for (const part of ["header", "#live", "footer"]) {
      document.querySelector(part).replaceWith(document.adoptNode(page.querySelector(part)));
    }
    renderedAt = Date.now();
    if (focused) document.getElementById(focused)?.focus();
    document.body.classList.remove("gone");
  } catch {
    document.body.classList.add("gone");
  }
}

if (document.getElementById("live")) {
  // What was just done is said until the page is fetched anew, and not again after a reload.
  if (location.search) history.replaceState(null, "", "/");
  setInterval(tick, 1000);
  setInterval(() => { if (!document.hidden) refresh(); }, EVERY_SECONDS * 1000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
} else if (["/oauth/callback", "/page/session"].includes(location.pathname)) {
  // The code or the link has been used: it need not stay in the address bar and the history.
  history.replaceState(null, "", location.pathname);
}
