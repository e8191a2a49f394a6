// Shows times in the reader's own zone, lets relative ones and countdowns tick, closes menus, shows
// where in the navigation one is, says what is live, and loads a page again that could not be made.
"use strict";

(() => {
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const precise = new Intl.DateTimeFormat(undefined, {
    year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23",
  });
  const hour = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
  const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
  const UNITS = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

  const ago = (seconds) => {
    const [unit, length] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? ["second", 1];
    return relative.format(Math.trunc(seconds / length), unit);
  };

  const left = (seconds) => {
    if (seconds <= 0) return "time is up";
    const two = (number) => String(number).padStart(2, "0");
    const hours = Math.floor(seconds / 3600);
    const minutes = Math.floor(seconds / 60) % 60;
    return `${hours ? `${hours}:${two(minutes)}` : minutes}:${two(Math.floor(seconds) % 60)}`;
  };

  const show = (time) => {
    const at = new Date(time.dateTime);
    const seconds = (at - Date.now()) / 1000;
    const style = time.dataset.style;
    let text = full.format(at);
    if (style === "exact") text = exact.format(at);
    if (style === "precise") text = precise.format(at);
    if (style === "relative") text = ago(seconds);
    if (style === "countdown") text = `${Math.abs(seconds) < 43200 ? hour.format(at) : text} (${left(seconds)})`;
    if (time.textContent !== text) time.textContent = text;
  };

  const showAll = () => document.querySelectorAll("time[data-style]").forEach(show);

  showAll();
  setInterval(showAll, 1000);
  new MutationObserver(showAll).observe(document.body, { childList: true, subtree: true });

  const close = (menu) => {
    const held = menu.contains(document.activeElement);
    menu.open = false;
    if (held) menu.querySelector("summary").focus();
  };
  const others = (target) => [...document.querySelectorAll("details.menu[open]")].filter((menu) => !menu.contains(target));

  document.addEventListener("click", (event) => others(event.target).forEach(close));
  document.addEventListener("focusin", (event) => others(event.target).forEach(close));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") document.querySelectorAll("details.menu[open]").forEach(close);
  });
})();

// A link that says that it is a button answers to the space bar, too.
document.addEventListener("keydown", (event) => {
  if (event.key !== " " || !event.target.matches("a[role=button]")) return;
  event.preventDefault();
  event.target.click();
});

// Where the navigation is one line, it is scrolled to the page that is shown.
(() => {
  const here = document.querySelector(".side [aria-current]");
  if (here) here.parentElement.scrollLeft = here.offsetLeft - (here.parentElement.clientWidth - here.offsetWidth) / 2;
})();

// What moves is called live while the server sends it; without that, a link loads it again.
(() => {
  const moves = (are) => {
    document.querySelectorAll("[data-live]").forEach((part) => (part.hidden = !are));
    document.querySelectorAll("[data-still]").forEach((part) => (part.hidden = are));
  };
  document.addEventListener("htmx:sseOpen", () => moves(true));
  for (const end of ["htmx:sseError", "htmx:sseClose"]) document.addEventListener(end, () => moves(false));
})();

(() => {
  const waiting = document.querySelector("[data-retry]");
  if (!waiting) return;
  waiting.querySelector("[hidden]").hidden = false;
  const pause = waiting.dataset.retry * 1000;
  const look = async () => {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } }).catch(() => null);
    if (answer && answer.status < 500 && answer.status !== 429) location.reload();
    else setTimeout(look, pause);
  };
  setTimeout(look, pause);
})();
